"""Files of feedback: lines of JSON, CSV or Parquet."""

import csv
import hashlib
import itertools
import json
import shutil
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any, BinaryIO, NamedTuple

from service.store.row_files import FEEDBACK, Format, encoder, label_in

_STDIO = Path("-")
_NUMBERS = ("value", "rating")
# What an event has beside what may be said: a file that was written can be taken in again.
_TOLD = {"event_id", "trust", "principal", "received_at", "status"}
_GROUP = 1000
_DIGEST_BYTES = 16
# With or without the mark that Excel begins a file with.
_ENCODING = "utf-8-sig"


class Item(NamedTuple):
    """What a file says of a prediction. `event_id`: it was that event before, here or in another service."""

    said: dict[str, Any]
    event_id: str | None = None

    @property
    def supersedes(self) -> str | None:
        named = self.said.get("supersedes")
        return named if isinstance(named, str) else None


@contextmanager
def on_disk(path: Path) -> Iterator[Path]:
    """The file, to be read more than once: what comes from stdin or a pipe is put into a temporary one."""
    if path.is_file():
        yield path
        return
    with NamedTemporaryFile() as copy:
        if path == _STDIO:
            shutil.copyfileobj(sys.stdin.buffer, copy)
        else:
            with path.open("rb") as piped:
                shutil.copyfileobj(piped, copy)
        copy.flush()
        yield Path(copy.name)


def digest_of(path: Path) -> str:
    """The same for the same content, whatever the file is called."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=_DIGEST_BYTES)).hexdigest()


def read_items(path: Path, form: Format) -> Iterator[Item]:
    """The items of a file, each with what it says. Raises OSError, ValueError or ModuleNotFoundError."""
    match form:
        case Format.PARQUET:
            import pyarrow.parquet

            file = pyarrow.parquet.ParquetFile(path)
            _check_columns(file.schema_arrow.names)
            return (_item(_told(row)) for batch in file.iter_batches() for row in batch.to_pylist())
        case Format.CSV:
            return (_item(_told(row)) for row in _csv_rows(path))
        case _:
            return (_item(row) for row in _lines(path))


def write_events(path: Path, form: Format, events: Iterable[Mapping[str, Any]]) -> int:
    """How many there were. Raises OSError or ModuleNotFoundError."""
    writing, count = encoder(form, FEEDBACK), 0
    rows = map(_present, events) if form is Format.NDJSON else iter(events)
    with _written(path) as file:
        for group in iter(lambda: list(itertools.islice(rows, _GROUP)), []):
            file.write(writing.add(group))
            count += len(group)
        file.write(writing.finish())
    return count


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding=_ENCODING) as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                document = json.loads(line)
            except ValueError as error:
                raise ValueError(f"line {number} is no JSON: {error}") from None
            if not isinstance(document, dict):
                raise ValueError(f"line {number} is no object")
            yield document


def _csv_rows(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding=_ENCODING, newline="") as file:
        reader = csv.DictReader(file)
        _check_columns(reader.fieldnames or [])
        for row in reader:
            number = reader.line_num
            if None in row:
                raise ValueError(f"line {number} has more fields than the header, which has {len(row) - 1}")
            for name in _NUMBERS:
                if row.get(name):
                    try:
                        row[name] = float(row[name])
                    except ValueError:
                        raise ValueError(f"line {number}: {name} {row[name]!r} is no number") from None
            yield row


def _check_columns(names: Sequence[str]) -> None:
    if unknown := [name for name in names if name not in FEEDBACK]:
        raise ValueError(
            f"the header is {', '.join(names)}; of that, {', '.join(map(repr, unknown))} is unknown. Expected columns, "
            f"with commas between them in CSV: {', '.join(name for name in FEEDBACK if name not in _TOLD)}"
        )


def _told(row: Mapping[str, Any]) -> dict[str, Any]:
    """As JSON has what columns hold."""
    told = {name: _time(value) if isinstance(value, datetime) else value for name, value in row.items()}
    if isinstance(label := told.get("label"), str):
        told["label"] = label_in(label)
    return told


def _time(value: datetime) -> str:
    return value.isoformat().replace("+00:00", "Z")


def _item(row: Mapping[str, Any]) -> Item:
    said = {name: value for name, value in row.items() if value not in (None, "") and name not in _TOLD}
    event_id = row.get("event_id") or None
    if event_id is not None:
        # It was an event before, perhaps of another service: that is what it is known by, however often it comes.
        said["idempotency_key"] = event_id = str(event_id)
    if said.get("prediction_id") is not None:
        # An event tells its prediction's model too.
        said.pop("model", None)
    return Item(said, event_id)


def _present(event: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in event.items() if value is not None}


@contextmanager
def _written(path: Path) -> Iterator[BinaryIO]:
    if path == _STDIO:
        yield sys.stdout.buffer
        return
    with path.open("wb") as file:
        yield file
