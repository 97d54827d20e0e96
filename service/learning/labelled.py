"""Rows of which is known what they are: sent, or kept in a checkpoint."""

import io
import zipfile
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson

from models.checkpoint_files import CheckpointFiles
from models.manifest import BrokenCheckpoint, Manifest
from models.metrics import Array
from service.errors import MalformedBody, NotSupported, UnprocessableInput
from service.learning.items import MAGNITUDE
from service.learning.lines import grouped_lines
from service.registry.catalog import Version
from service.serving.codec import JSON, NPY, Body

SAMPLE_FILE = "evaluation.npz"

_MOST_LINE_BYTES = 8 << 20
_MOST_SAMPLE_BYTES = 512 << 20


@dataclass(frozen=True, slots=True)
class Chunk:
    """Some rows, as callers would send them, and what they are: arrays as service.learning.offline says. `start` is
    the number of the first."""

    start: int
    body: Body
    truth: Array


class Labels:
    """What a model's rows may be."""

    def __init__(self, manifest: Manifest) -> None:
        """Raises NotSupported for a task whose answers nobody can label."""
        if manifest.task == "embedding":
            raise NotSupported("the evaluation of embeddings on labels", "ratings of them, as feedback")
        self._task = manifest.task
        self._names = manifest.labels
        self._indices = {label: index for index, label in enumerate(manifest.labels)}

    def encode(self, labels: Sequence[Any], start: int) -> Array:
        """Labels as JSON has them, of rows from `start` on, as arrays. Raises UnprocessableInput."""
        encoded = [self._encode(label, f"labels[{start + number}]") for number, label in enumerate(labels)]
        match self._task:
            case "regression":
                return np.array(encoded, np.float64)
            case "multilabel":
                truth = np.zeros((len(encoded), len(self._names)), bool)
                for row, indices in enumerate(encoded):
                    truth[row, indices] = True
                return truth
            case _:
                return np.array(encoded, np.int64)

    def _encode(self, label: Any, field: str) -> Any:
        if self._task == "regression":
            if isinstance(label, int | float) and not isinstance(label, bool) and abs(label) <= MAGNITUDE:
                return float(label)
            expected = f"a number from -{MAGNITUDE:g} to {MAGNITUDE:g}"
            raise UnprocessableInput("this is no label", field=field, expected=expected)
        if self._task == "multilabel":
            if isinstance(label, list):
                return [self._index(one, field) for one in label]
            raise UnprocessableInput("this is no label", field=field, expected="an array of names")
        return self._index(label, field)

    def _index(self, name: Any, field: str) -> int:
        index = self._indices.get(name) if isinstance(name, str) else None
        if index is None:
            few = ", ".join(self._names[:10]) + (", ..." if len(self._names) > 10 else "")
            raise UnprocessableInput("the model has no such label", field=field, expected=f"one of {few}")
        return index


def sent(instances: Sequence[Any], labels: Sequence[Any], code: Labels, most_rows: int) -> list[Chunk]:
    """Rows of a JSON document, so many in a chunk. Raises UnprocessableInput."""
    if len(instances) != len(labels):
        what = f"there are {len(labels)} labels and {len(instances)} instances"
        raise UnprocessableInput(what, field="labels", expected="one label for each instance")
    truth = code.encode(labels, 0)
    return [
        Chunk(start, _json(instances[start : start + most_rows]), truth[start : start + most_rows])
        for start in range(0, len(instances), most_rows)
    ]


async def in_lines(chunks: AsyncIterator[bytes], code: Labels, most_rows: int) -> AsyncGenerator[Chunk, None]:
    """Rows that stream in one a line: {"instance": ..., "label": ...}. Raises MalformedBody or UnprocessableInput."""
    start = 0
    async for lines in grouped_lines(chunks, group=most_rows, most_bytes=_MOST_LINE_BYTES):
        rows = [_line(line, start + number) for number, line in enumerate(lines)]
        yield Chunk(start, _json([row["instance"] for row in rows]), code.encode([row["label"] for row in rows], start))
        start += len(lines)


def _line(line: bytes, number: int) -> dict[str, Any]:
    expected = '{"instance": ..., "label": ...}'
    try:
        row = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        what = f"this is no JSON: {error.msg} (character {error.pos})"
        raise MalformedBody(what, field=f"line {number + 1}", expected=expected) from None
    if not isinstance(row, dict) or row.keys() != {"instance", "label"}:
        raise UnprocessableInput("this is no labelled row", field=f"line {number + 1}", expected=expected)
    return row


def held_out(version: Version, most_rows: int) -> list[Chunk]:
    """The held-out rows that a checkpoint keeps a sample of. Raises NotSupported where it has none, or none like that.

    It takes its time.
    """
    instead = "labelled rows in the request"
    if SAMPLE_FILE not in version.manifest.files:
        raise NotSupported(f"the held-out rows of {version.ref}, whose checkpoint has no {SAMPLE_FILE}", instead)
    try:
        rows, targets = _sample(CheckpointFiles(version.folder).read(SAMPLE_FILE))
        truth = _truth(targets, version.manifest)
    except (BrokenCheckpoint, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise NotSupported(f"the held-out rows of {version.ref} ({error})", instead) from None
    return [
        Chunk(start, _raw(rows[start : start + most_rows]), truth[start : start + most_rows])
        for start in range(0, len(rows), most_rows)
    ]


def _sample(data: bytes) -> tuple[Array, Array]:
    """Rows and targets. Raises ValueError, KeyError or BadZipFile."""
    size = sum(one.file_size for one in zipfile.ZipFile(io.BytesIO(data)).infolist())
    if size > _MOST_SAMPLE_BYTES:
        raise ValueError(f"{SAMPLE_FILE} would take {size} bytes, more than {_MOST_SAMPLE_BYTES}")
    with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
        rows, targets = arrays["rows"], arrays["targets"]
    if not len(rows) or len(rows) != len(targets):
        raise ValueError(f"{SAMPLE_FILE} has {len(rows)} rows and {len(targets)} targets")
    return rows, targets


def _truth(targets: Array, manifest: Manifest) -> Array:
    """Raises ValueError."""
    match manifest.task:
        case "regression":
            numbers = targets.astype(np.float64)
            # Comparisons with NaN are false, so this finds NaN too.
            if not (np.abs(numbers) <= MAGNITUDE).all():
                raise ValueError(f"{SAMPLE_FILE} has targets that are no numbers from -{MAGNITUDE:g} to {MAGNITUDE:g}")
            return numbers
        case "multilabel":
            return targets.astype(bool)
        case _:
            truth = targets.astype(np.int64)
            if truth.ndim != 1 or truth.min() < 0 or truth.max() >= len(manifest.labels):
                raise ValueError(f"{SAMPLE_FILE} has targets that are no labels")
            return truth


def _json(instances: Sequence[Any]) -> Body:
    return Body(orjson.dumps({"instances": list(instances)}), JSON, ())


def _raw(rows: Array) -> Body:
    if rows.dtype.kind == "U":
        return _json([str(row) for row in rows])
    file = io.BytesIO()
    np.save(file, rows, allow_pickle=False)
    return Body(file.getvalue(), NPY, ())
