"""From a loader's rows to clean, split, digested training data. Nothing is dropped without being counted.

Shapes: n rows. Rows are raw, as the input contract says: pixels (n, C, H, W) 0..255, texts, or numbers (n, columns).
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Annotated, Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, JsonValue

from models.inputs import ColumnsInput, ImageInput, InputContract, TensorInput
from models.preprocess import RawRows
from models.raw_rows import take

Array = np.ndarray[Any, np.dtype[Any]]


class DataConfig(BaseModel):
    """Which data, and how they are divided. The split has its own seed: other seeds train on the same rows."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    loader: str
    options: dict[str, JsonValue] = {}
    held_out: Annotated[float, Field(gt=0, lt=1)] = 0.2
    """Share of the rows set aside; without effect where the data come with a test set of their own."""
    validation: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """Share of what is left, for choosing the best epoch."""
    split_seed: int = 0


@dataclass(frozen=True, slots=True)
class RawData:
    """What a loader read.

    `targets` is (n,) int64 class indices or float values. `held_out` marks the data set's own test rows, if it has
    some. `records` are the bytes by which rows count as duplicates, where the inputs alone don't tell: two houses may
    share a lot size. `broken` counts what could not be read.
    """

    name: str
    rows: RawRows
    targets: Array
    held_out: Array | None = None
    records: list[bytes] | None = None
    broken: int = 0


@dataclass(frozen=True, slots=True)
class Cleaning:
    """What became of the rows that a loader found."""

    read: int
    broken: int = 0
    missing: int = 0
    out_of_range: int = 0
    duplicates: int = 0
    duplicates_of_held_out: int = 0
    conflicting_duplicates: int = 0
    kept: int = 0

    def to_dict(self) -> dict[str, int]:
        """Return the counts for the lineage."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Split:
    """Indices of the rows, disjoint."""

    train: Array
    validation: Array
    held_out: Array

    def to_dict(self) -> dict[str, int]:
        """Return the sizes for the lineage."""
        return {"train": len(self.train), "validation": len(self.validation), "held_out": len(self.held_out)}


@dataclass(frozen=True)
class Dataset:
    """Clean rows with their split; `digest` names exactly these rows, targets and split."""

    name: str
    rows: RawRows
    targets: Array
    split: Split
    cleaning: Cleaning
    digest: str = field(default="", compare=False)

    def to_dict(self) -> dict[str, Any]:
        """Return what the lineage says of the data."""
        return {
            "name": self.name,
            "digest": self.digest,
            "rows": len(self.targets),
            "cleaning": self.cleaning.to_dict(),
            "split": self.split.to_dict(),
        }


def prepare(raw: RawData, contract: InputContract, config: DataConfig) -> Dataset:
    """Clean and split what a loader read. Raises ValueError when a part of the split would be empty."""
    raw, cleaning = clean(raw, contract)
    parts = split(len(raw.targets), raw.held_out, config)
    dataset = Dataset(raw.name, raw.rows, raw.targets, parts, cleaning)
    return replace(dataset, digest=digest(dataset))


def clean(raw: RawData, contract: InputContract) -> tuple[RawData, Cleaning]:
    """Drop missing, implausible and duplicate rows, and count each kind.

    A data set's own test rows stay as they are, so that figures compare with other people's; training rows that are
    also test rows go. Of other duplicates the first one stays. Raises ValueError when nothing is left.
    """
    n = len(raw.targets)
    missing = _missing(raw)
    out_of_range = _out_of_range(raw.rows, contract) & ~missing
    reserved = raw.held_out if raw.held_out is not None else np.zeros(n, bool)
    bad = (missing | out_of_range) & ~reserved
    duplicates, leaked, conflicting = _duplicates(raw, bad, reserved)
    keep = np.flatnonzero(~(bad | duplicates | leaked))
    if not len(keep):
        raise ValueError(f"data set {raw.name}: no row of {n + raw.broken} is usable")
    counts = Cleaning(
        read=n + raw.broken,
        broken=raw.broken,
        missing=int((missing & ~reserved).sum()),
        out_of_range=int((out_of_range & ~reserved).sum()),
        duplicates=int(duplicates.sum()),
        duplicates_of_held_out=int(leaked.sum()),
        conflicting_duplicates=conflicting,
        kept=len(keep),
    )
    kept = replace(
        raw,
        rows=take(raw.rows, keep),
        targets=raw.targets[keep],
        held_out=None if raw.held_out is None else raw.held_out[keep],
        records=None,
    )
    return kept, counts


def split(n: int, held_out: Array | None, config: DataConfig) -> Split:
    """Divide n rows by `split_seed`; a preset test set (n,) bool is kept. Raises ValueError when a part is empty."""
    order = np.random.default_rng(config.split_seed).permutation(n)
    if held_out is None:
        num_held_out = round(n * config.held_out)
        test, rest = order[:num_held_out], order[num_held_out:]
    else:
        test, rest = np.flatnonzero(held_out), order[~held_out[order]]
    num_validation = round(len(rest) * config.validation)
    parts = Split(train=rest[num_validation:], validation=rest[:num_validation], held_out=test)
    empty = [name for name, size in parts.to_dict().items() if size == 0]
    if empty:
        raise ValueError(f"{n} rows are too few: {' and '.join(empty)} would be empty")
    return parts


def digest(dataset: Dataset) -> str:
    """Return the sha256 of the rows, their targets and the split."""
    total = hashlib.sha256()
    for record in _records(dataset.rows):
        total.update(len(record).to_bytes(8, "little") + record)
    parts = dataset.split
    for array in (dataset.targets, parts.train, parts.validation, parts.held_out):
        total.update(np.ascontiguousarray(array).tobytes())
    return total.hexdigest()


def _records(rows: RawRows) -> Iterable[bytes]:
    return (row.encode() if isinstance(row, str) else np.ascontiguousarray(row).tobytes() for row in rows)


def _missing(raw: RawData) -> Array:
    no_target = np.isnan(raw.targets) if raw.targets.dtype.kind == "f" else raw.targets < 0
    return np.array([bool(no) or _is_missing(row) for no, row in zip(no_target, raw.rows, strict=True)])


def _is_missing(row: str | Array) -> bool:
    if isinstance(row, str):
        return not row.strip()
    return row.dtype.kind == "f" and bool(np.isnan(row).any())


def _out_of_range(rows: RawRows, contract: InputContract) -> Array:
    if contract.kind == "text":
        return np.array([len(row) > contract.max_characters for row in rows])
    low, high = _bounds(contract)
    return np.array([bool(((row < low) | (row > high)).any()) for row in rows])


def _bounds(contract: ImageInput | TensorInput | ColumnsInput) -> tuple[Array, Array]:
    bounds: Sequence[tuple[float | None, float | None]]
    match contract.kind:
        case "image":
            bounds = [(0.0, 255.0)]
        case "tensor":
            bounds = [(contract.minimum, contract.maximum)]
        case "columns":
            bounds = [(column.minimum, column.maximum) for column in contract.columns]
    low = [-np.inf if minimum is None else minimum for minimum, _ in bounds]
    high = [np.inf if maximum is None else maximum for _, maximum in bounds]
    return np.array(low), np.array(high)


def _duplicates(raw: RawData, bad: Array, reserved: Array) -> tuple[Array, Array, int]:
    records = raw.records or list(_records(raw.rows))
    held_out = {records[i] for i in np.flatnonzero(reserved)}
    first_target: dict[bytes, Any] = {}
    duplicates, leaked, conflicting = np.zeros(len(records), bool), np.zeros(len(records), bool), 0
    for i in np.flatnonzero(~(bad | reserved)):
        if records[i] in held_out:
            leaked[i] = True
        elif records[i] in first_target:
            duplicates[i] = True
            conflicting += bool(first_target[records[i]] != raw.targets[i])
        else:
            first_target[records[i]] = raw.targets[i]
    return duplicates, leaked, conflicting
