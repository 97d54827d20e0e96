"""Files of feedback: lines of JSON, CSV or Parquet."""

import csv
import itertools
import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO, TextIO

from service.store.row_files import FEEDBACK, Format, encoder, label_in

_STDIO = Path("-")
_NUMBERS = ("value", "rating")
# What an event has beside what may be said: a file that was written can be taken in again.
_TOLD = {"event_id", "trust", "principal", "received_at", "status"}
_GROUP = 1000


def read_items(path: Path, form: Format) -> Iterator[dict[str, Any]]:
    """The items of a file, each with what it says. Raises OSError, ValueError or ModuleNotFoundError."""
    match form:
        case Format.PARQUET:
            import pyarrow.parquet

            batches = pyarrow.parquet.ParquetFile(path).iter_batches()
            return (_item(_told(row)) for batch in batches for row in batch.to_pylist())
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
    with _read(path) as file:
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
    with _read(path) as file:
        for number, row in enumerate(csv.DictReader(file), start=2):
            for name in _NUMBERS:
                if row.get(name):
                    try:
                        row[name] = float(row[name])
                    except ValueError:
                        raise ValueError(f"line {number}: {name} {row[name]!r} is no number") from None
            yield row


def _told(row: Mapping[str, Any]) -> dict[str, Any]:
    """As JSON has what columns hold."""
    told = {name: _time(value) if isinstance(value, datetime) else value for name, value in row.items()}
    if isinstance(label := told.get("label"), str):
        told["label"] = label_in(label)
    return told


def _time(value: datetime) -> str:
    return value.isoformat().replace("+00:00", "Z")


def _item(row: Mapping[str, Any]) -> dict[str, Any]:
    said = {name: value for name, value in row.items() if value not in (None, "") and name not in _TOLD}
    if row.get("event_id"):
        # It was an event before, perhaps of another service: that is what it is known by, however often it comes.
        said["idempotency_key"] = row["event_id"]
    if said.get("prediction_id") is not None:
        # An event tells its prediction's model too.
        said.pop("model", None)
    return said


def _present(event: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in event.items() if value is not None}


@contextmanager
def _read(path: Path) -> Iterator[TextIO]:
    if path == _STDIO:
        yield sys.stdin
        return
    with path.open(encoding="utf-8", newline="") as file:
        yield file


@contextmanager
def _written(path: Path) -> Iterator[BinaryIO]:
    if path == _STDIO:
        yield sys.stdout.buffer
        return
    with path.open("wb") as file:
        yield file
