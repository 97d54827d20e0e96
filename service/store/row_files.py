"""What the store keeps, as files: lines of JSON, CSV or Parquet, each written row by row as the HTTP API shows them."""

import csv
import io
from collections.abc import Mapping, Sequence
from datetime import datetime
from enum import Enum, StrEnum, auto
from pathlib import Path
from typing import Any, Protocol

import orjson

Row = Mapping[str, Any]
"""Column -> value, as JSON has it."""

# What Parquet files are read by; as much of one is held while it is written.
_GROUP_ROWS = 10_000
_GROUP_BYTES = 16 << 20


class Format(StrEnum):
    """What a file is."""

    NDJSON = "ndjson"
    CSV = "csv"
    PARQUET = "parquet"

    @staticmethod
    def of(path: Path) -> "Format":
        """By its name; lines of JSON unless that says otherwise."""
        return {".csv": Format.CSV, ".parquet": Format.PARQUET}.get(path.suffix.lower(), Format.NDJSON)


class Content(Enum):
    """What a column holds. CSV, and Parquet but for times and lists of numbers, has what is nested as the text of its
    JSON."""

    TEXT = auto()
    NUMBER = auto()
    WHOLE = auto()
    TIME = auto()
    LABEL = auto()
    """A text, or several: then, and where it might be taken for that, it is the text of its JSON."""
    NUMBERS = auto()
    JSON = auto()


Columns = Mapping[str, Content]

PREDICTIONS: Columns = {
    "prediction_id": Content.TEXT,
    "time": Content.TIME,
    "model": Content.TEXT,
    "version": Content.TEXT,
    "digest": Content.TEXT,
    "role": Content.TEXT,
    "paired_with": Content.TEXT,
    "propensity": Content.NUMBER,
    "external_id": Content.TEXT,
    "key": Content.TEXT,
    "tags": Content.JSON,
    "prediction": Content.JSON,
    "probabilities": Content.NUMBERS,
    "latency_ms": Content.NUMBER,
    "principal": Content.TEXT,
    "request_id": Content.TEXT,
}
FEEDBACK: Columns = {
    "event_id": Content.TEXT,
    "prediction_id": Content.TEXT,
    "model": Content.TEXT,
    "external_id": Content.TEXT,
    "kind": Content.TEXT,
    "label": Content.LABEL,
    "source": Content.TEXT,
    "actor": Content.TEXT,
    "principal": Content.TEXT,
    "labelled_at": Content.TIME,
    "received_at": Content.TIME,
    "supersedes": Content.TEXT,
    "idempotency_key": Content.TEXT,
    "status": Content.TEXT,
    "value": Content.NUMBER,
    "rating": Content.NUMBER,
    "trust": Content.WHOLE,
}


class Encoder(Protocol):
    """Writes one file. What is given out, one after the other, is the file."""

    def add(self, rows: Sequence[Row]) -> bytes:
        """What is ready with these; the rest may come later."""
        ...

    def finish(self) -> bytes:
        """What is left. A file without it is not whole."""
        ...


def encoder(form: Format, columns: Columns) -> Encoder:
    """Raises ModuleNotFoundError where nothing is installed that writes such files."""
    match form:
        case Format.PARQUET:
            return _Parquet(columns)
        case Format.CSV:
            return _Csv(columns)
        case _:
            return _Lines()


def label_in(text: str) -> str | list[str]:
    """What a label was that stands so in a CSV or Parquet file."""
    try:
        return orjson.loads(text) if _may_be_json(text) else text
    except orjson.JSONDecodeError:
        return text  # no encoder of ours wrote it


class _Lines:
    def add(self, rows: Sequence[Row]) -> bytes:
        return b"".join(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE) for row in rows)

    def finish(self) -> bytes:
        return b""


class _Csv:
    def __init__(self, columns: Columns) -> None:
        self._columns = columns
        self._text = io.StringIO(newline="")
        self._writer = csv.writer(self._text)
        self._writer.writerow(columns)

    def add(self, rows: Sequence[Row]) -> bytes:
        self._writer.writerows([_flat(row[name], content) for name, content in self._columns.items()] for row in rows)
        return self._take()

    def finish(self) -> bytes:
        return self._take()

    def _take(self) -> bytes:
        written = self._text.getvalue().encode()
        self._text.seek(0)
        self._text.truncate()
        return written


class _Parquet:
    def __init__(self, columns: Columns) -> None:
        import pyarrow
        import pyarrow.parquet

        self._columns = columns
        self._arrow = pyarrow
        types = {
            Content.NUMBER: pyarrow.float64(),
            Content.WHOLE: pyarrow.int64(),
            Content.TIME: pyarrow.timestamp("ms", "UTC"),
            Content.NUMBERS: pyarrow.list_(pyarrow.float32()),
        }
        self._schema = pyarrow.schema(
            [(name, types.get(content, pyarrow.string())) for name, content in columns.items()]
        )
        self._file = io.BytesIO()
        self._writer = pyarrow.parquet.ParquetWriter(self._file, self._schema)
        self._held: list[Any] = []

    def add(self, rows: Sequence[Row]) -> bytes:
        values = ([_typed(row[name], content) for row in rows] for name, content in self._columns.items())
        arrays = [self._arrow.array(column, one.type) for column, one in zip(values, self._schema, strict=True)]
        self._held.append(self._arrow.RecordBatch.from_arrays(arrays, schema=self._schema))
        if (
            sum(batch.num_rows for batch in self._held) >= _GROUP_ROWS
            or sum(batch.nbytes for batch in self._held) >= _GROUP_BYTES
        ):
            self._write()
        return self._take()

    def finish(self) -> bytes:
        self._write()
        self._writer.close()
        return self._take()

    def _write(self) -> None:
        held = self._arrow.Table.from_batches(self._held, self._schema)
        self._held = []
        if held.num_rows:
            self._writer.write_table(held)

    def _take(self) -> bytes:
        # Where it stands in the file the writer counts by itself.
        written = self._file.getvalue()
        self._file.seek(0)
        self._file.truncate()
        return written


def _flat(value: Any, content: Content) -> Any:
    match content:
        case Content.JSON | Content.NUMBERS if value is not None:
            return orjson.dumps(value).decode()
        case Content.LABEL if value is not None and (not isinstance(value, str) or _may_be_json(value)):
            return orjson.dumps(value).decode()
        case _:
            return value


def _typed(value: Any, content: Content) -> Any:
    match content:
        case Content.TIME if value is not None:
            return datetime.fromisoformat(value)
        case Content.NUMBERS:
            return value
        case _:
            return _flat(value, content)


def _may_be_json(label: str) -> bool:
    return label.startswith(("[", '"'))
