"""Files of feedback: lines of JSON, CSV or Parquet."""

import csv
import itertools
import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import IO, Any

_STDIO = Path("-")
_NUMBERS = ("value", "rating")
_TEXTS = (
    "event_id", "prediction_id", "model", "external_id", "kind", "label", "source", "actor", "principal", "labelled_at",
    "received_at", "supersedes", "idempotency_key", "status",
)  # fmt: skip
# What an event has beside what may be said: a file that was written can be taken in again.
_TOLD = {"event_id", "trust", "principal", "received_at", "status"}
_ROW_GROUP = 10_000


class Format(StrEnum):
    """What a file is."""

    NDJSON = "ndjson"
    CSV = "csv"
    PARQUET = "parquet"

    @staticmethod
    def of(path: Path) -> "Format":
        """By its name; lines of JSON unless that says otherwise."""
        return {".csv": Format.CSV, ".parquet": Format.PARQUET}.get(path.suffix.lower(), Format.NDJSON)


def read_items(path: Path, form: Format) -> Iterator[dict[str, Any]]:
    """The items of a file, each with what it says. Raises OSError, ValueError or ModuleNotFoundError."""
    match form:
        case Format.PARQUET:
            import pyarrow.parquet

            batches = pyarrow.parquet.ParquetFile(path).iter_batches()
            rows: Iterable[Mapping[str, Any]] = (row for batch in batches for row in batch.to_pylist())
        case Format.CSV:
            rows = _csv_rows(path)
        case _:
            rows = _lines(path)
    return (_item(row) for row in rows)


def write_events(path: Path, form: Format, events: Iterable[Mapping[str, Any]]) -> int:
    """How many there were. Raises OSError or ModuleNotFoundError."""
    counting = itertools.count()
    counted = (event for event, _ in zip(events, counting, strict=False))
    match form:
        case Format.PARQUET:
            _write_parquet(path, counted)
        case Format.CSV:
            with _opened(path, "w") as file:
                _write_csv(file, counted)
        case _:
            with _opened(path, "w") as file:
                for event in counted:
                    file.write(json.dumps(_present(event), ensure_ascii=False) + "\n")
    return next(counting)


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    with _opened(path, "r") as file:
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
    with _opened(path, "r") as file:
        for number, row in enumerate(csv.DictReader(file), start=2):
            for name in _NUMBERS:
                if row.get(name):
                    try:
                        row[name] = float(row[name])
                    except ValueError:
                        raise ValueError(f"line {number}: {name} {row[name]!r} is no number") from None
            yield row


def _item(row: Mapping[str, Any]) -> dict[str, Any]:
    said = {name: value for name, value in row.items() if value not in (None, "") and name not in _TOLD}
    if row.get("event_id"):
        # It was an event before, perhaps of another service: that is what it is known by, however often it comes.
        said["idempotency_key"] = row["event_id"]
    if said.get("prediction_id") is not None:
        # An event tells its prediction's model too.
        said.pop("model", None)
    label = said.get("label")
    if isinstance(label, str) and label.startswith("["):
        said["label"] = json.loads(label)
    return said


def _write_csv(file: IO[str], events: Iterable[Mapping[str, Any]]) -> None:
    writer = csv.DictWriter(file, [*_TEXTS, *_NUMBERS, "trust"])
    writer.writeheader()
    writer.writerows(map(_flat, events))


def _write_parquet(path: Path, events: Iterable[Mapping[str, Any]]) -> None:
    import pyarrow
    import pyarrow.parquet

    schema = pyarrow.schema(
        [
            *((name, pyarrow.string()) for name in _TEXTS),
            *((name, pyarrow.float64()) for name in _NUMBERS),
            ("trust", pyarrow.int64()),
        ]
    )
    flat = map(_flat, events)
    with pyarrow.parquet.ParquetWriter(path, schema) as writer:
        for rows in iter(lambda: list(itertools.islice(flat, _ROW_GROUP)), []):
            writer.write_table(pyarrow.Table.from_pylist(rows, schema))


def _flat(event: Mapping[str, Any]) -> dict[str, Any]:
    """Several labels become the JSON of their list."""
    label = event["label"]
    written = label if label is None or isinstance(label, str) else json.dumps(label, ensure_ascii=False)
    return {**event, "label": written}


def _present(event: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in event.items() if value is not None}


@contextmanager
def _opened(path: Path, mode: str) -> Iterator[IO[str]]:
    if path == _STDIO:
        yield sys.stdin if mode == "r" else sys.stdout
        return
    with path.open(mode, encoding="utf-8", newline="") as file:
        yield file
