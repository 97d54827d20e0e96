"""Rows with the labels that they were given: what a retraining reads. Never imports torch.

The file is .npz without pickle: `rows` (n, *shape), `targets` (n,) class indices or values, `ids` (n,); and, where they
are known, `weights`, `actors` and `sources` (n,). Texts and sequences are packed: `rows` is then the UTF-8 bytes of all
texts, or (sum of lengths, *features), and row i is rows[offsets[i]:offsets[i + 1]] with `offsets` (n + 1,).
"""

import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass, fields
from itertools import pairwise
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from models import durable
from models.inputs import InputContract
from models.preprocess import RawRows
from models.raw_rows import joined, take

Array = np.ndarray[Any, np.dtype[Any]]

FEEDBACK_FILE = "feedback.npz"
FEEDBACK_FOLDER = "feedback"
"""In place of the file: shards of it, read in the order of their names."""


@dataclass(frozen=True)
class LabelledRows:
    """n raw rows as the input contract says, what they are, and who said so.

    `targets` (n,) are class indices, int64, or values, float64. `ids` (n,) are those of the predictions. `weights` (n,)
    say how much each counts, `actors` (n,) who labelled it, "" where nobody knows, `sources` (n,) by what way.
    """

    rows: RawRows
    targets: Array
    ids: Array
    weights: Array
    actors: Array
    sources: Array

    @staticmethod
    def of(
        rows: RawRows,
        targets: Array,
        ids: Sequence[str] | Array,
        *,
        weights: Array | None = None,
        actors: Sequence[str] | Array | None = None,
        sources: Sequence[str] | Array | None = None,
    ) -> "LabelledRows":
        """Make them; what is not given is 1 or "". Raises ValueError where not all have as many."""
        n = len(targets)
        unknown = np.full(n, "")
        made = LabelledRows(
            rows,
            np.asarray(targets),
            np.asarray(ids, np.str_),
            np.ones(n) if weights is None else np.asarray(weights, np.float64),
            unknown if actors is None else np.asarray(actors, np.str_),
            unknown if sources is None else np.asarray(sources, np.str_),
        )
        counts = {field.name: len(getattr(made, field.name)) for field in fields(made)}
        if set(counts.values()) != {n}:
            raise ValueError(f"labelled rows must all be as many, got {counts}")
        return made

    def __len__(self) -> int:
        return len(self.targets)

    def take(self, indices: Array) -> "LabelledRows":
        """Return the rows at `indices`."""
        return LabelledRows(take(self.rows, indices), *(column[indices] for column in self._columns()))

    def digest(self) -> str:
        """Return the sha256 of all that they say, in their order."""
        total = hashlib.sha256()
        for row in self.rows:
            data = row.encode() if isinstance(row, str) else np.ascontiguousarray(row).tobytes()
            total.update(len(data).to_bytes(8, "little") + data)
        for column in self._columns():
            # Text by its characters: how wide numpy makes a column depends on its longest entry.
            text = "\0".join(column.tolist()).encode() if column.dtype.kind == "U" else column.tobytes()
            total.update(len(text).to_bytes(8, "little") + text)
        return total.hexdigest()

    def _columns(self) -> tuple[Array, Array, Array, Array, Array]:
        return self.targets, self.ids, self.weights, self.actors, self.sources


def write(path: Path, labelled: LabelledRows) -> None:
    """Write one file of them, whole or not at all."""
    named = {field.name: getattr(labelled, field.name) for field in fields(labelled)}
    packed = io.BytesIO()
    np.savez_compressed(packed, allow_pickle=False, **{**named, **_packed(labelled.rows)})
    durable.replace(path, packed.getvalue())


def read(folder: Path, contract: InputContract) -> LabelledRows:
    """Read the rows of a retraining's folder. Raises ValueError where they are not what `contract` says."""
    shards = sorted((folder / FEEDBACK_FOLDER).glob("*.npz")) or [folder / FEEDBACK_FILE]
    return joined_rows([_read(shard, contract) for shard in shards])


def joined_rows(parts: Sequence[LabelledRows]) -> LabelledRows:
    """Return the rows of all parts, one part after another."""
    return LabelledRows(
        joined([part.rows for part in parts]),
        *(np.concatenate(columns) for columns in zip(*(part._columns() for part in parts), strict=True)),
    )


def row_digest(row: str | Array, contract: InputContract) -> str:
    """Return the sha256 of `row_bytes`."""
    return hashlib.sha256(row_bytes(row, contract)).hexdigest()


def row_bytes(row: str | Array, contract: InputContract) -> bytes:
    """Return the bytes that tell inputs apart: the same for the same input, however its numbers are stored."""
    if isinstance(row, str):
        return row.encode()
    dtype = "float64" if contract.kind == "columns" else contract.dtype if contract.kind == "tensor" else "float32"
    # Adding 0 makes -0.0, which is the same input, 0.0.
    return (np.ascontiguousarray(row, dtype) + np.zeros((), dtype)).tobytes()


def _packed(rows: RawRows) -> dict[str, Array]:
    if isinstance(rows, np.ndarray):
        return {"rows": rows}
    each = [np.frombuffer(row.encode(), np.uint8) if isinstance(row, str) else row for row in rows]
    offsets = np.concatenate([[0], np.cumsum([len(row) for row in each], dtype=np.int64)])
    return {"rows": np.concatenate(each), "offsets": offsets}


def _read(path: Path, contract: InputContract) -> LabelledRows:
    try:
        with np.load(path, allow_pickle=False) as file:
            given = dict(file)
        return LabelledRows.of(
            _rows(given["rows"], given.get("offsets"), contract),
            given["targets"],
            given["ids"],
            **{name: given[name] for name in ("weights", "actors", "sources") if name in given},
        )
    except KeyError as error:
        raise ValueError(f"{path.name} has no {error.args[0]}") from None
    except (ValueError, BadZipFile) as error:
        raise ValueError(f"{path.name} holds no labelled rows: {error}") from None


def _rows(rows: Array, offsets: Array | None, contract: InputContract) -> RawRows:
    shape: Sequence[int]
    match contract.kind:
        case "text":
            return [part.tobytes().decode() for part in _parts(rows, offsets)]
        case "columns":
            shape = (len(contract.columns),)
        case "tensor" if contract.variable:
            _check_shape(rows, contract.shape[1:])
            return [part.astype(contract.dtype, copy=False) for part in _parts(rows, offsets)]
        case _:
            shape = contract.shape
    _check_shape(rows, shape)
    if contract.kind != "image":
        return rows.astype(contract.dtype if contract.kind == "tensor" else np.float64, copy=False)
    # Pixels that came as other numbers are what the training data hold: bytes.
    is_bytes = rows.dtype == np.uint8 or bool((rows == np.clip(np.rint(rows), 0, 255)).all())
    return rows.astype(np.uint8 if is_bytes else np.float32, copy=False)


def _parts(rows: Array, offsets: Array | None) -> list[Array]:
    if offsets is None or offsets.ndim != 1 or not len(offsets) or (np.diff(offsets) < 0).any():
        raise ValueError("texts and sequences need offsets that ascend")
    if offsets[0] != 0 or offsets[-1] != len(rows):
        raise ValueError(f"offsets go from {offsets[0]} to {offsets[-1]}, the rows from 0 to {len(rows)}")
    return [rows[start:end] for start, end in pairwise(offsets)]


def _check_shape(rows: Array, shape: Sequence[int]) -> None:
    if rows.shape[1:] != tuple(shape):
        raise ValueError(f"rows must have shape (n, {', '.join(map(str, shape))}), got {rows.shape}")
