"""Prepared rows in batches: sequences of similar length together, padded only to the longest of their batch.

Shapes: B rows, T steps of the longest row of a batch.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from models.preprocess import Preprocessor, RawRows, Tensors
from models.raw_rows import take
from models.training.augment import ImageAugmentation, drop_tokens
from models.training.preparation import UNKNOWN_ID

Array = np.ndarray[Any, np.dtype[Any]]

# Sorting whole epochs by length would show the network the same neighbours each time; sorting windows does not.
WINDOW_BATCHES = 50


@dataclass(frozen=True, slots=True)
class Batch:
    """What a network reads, x (B, *shape) or padded (B, T, ...) with lengths (B,), and the targets (B,).

    `weights` (B,) float32 say how much each row counts; None: all the same.
    """

    x: Tensor
    lengths: Tensor | None
    targets: Tensor
    weights: Tensor | None = None

    def to(self, device: torch.device) -> "Batch":
        """Return the batch on `device`."""
        lengths = None if self.lengths is None else self.lengths.to(device)
        weights = None if self.weights is None else self.weights.to(device)
        return Batch(self.x.to(device), lengths, self.targets.to(device), weights)


class TrainingRows(Protocol):
    """What a training learns from. `len` is the number of rows of an epoch."""

    def __len__(self) -> int: ...

    def order(self, batch_size: int, rng: np.random.Generator) -> list[Array]:
        """Draw an epoch: the indices of each batch's rows."""
        ...

    def batch(self, indices: Array, rng: np.random.Generator) -> Batch:
        """Return these rows, with the random changes of training."""
        ...


class Rows:
    """Raw rows with their targets, prepared by the steps that serving will use.

    Without image augmentation every row is prepared once, here; with it, batch by batch, after the change.
    """

    def __init__(
        self,
        rows: RawRows,
        targets: Array,
        preprocess: Preprocessor,
        augmentation: ImageAugmentation | None = None,
        token_dropout: float = 0.0,
        weights: Array | None = None,
    ) -> None:
        self._targets = targets
        self._weights = None if weights is None else weights.astype(np.float32)
        self._preprocess = preprocess
        self._augmentation = augmentation
        self._token_dropout = token_dropout
        self._raw = rows
        self._prepared = preprocess(rows) if augmentation is None else None
        self._starts = _starts(self._prepared)

    def __len__(self) -> int:
        return len(self._targets)

    @property
    def lengths(self) -> Array | None:
        """Of the prepared rows (n,), where they are sequences."""
        return None if self._prepared is None else self._prepared.lengths

    def order(self, batch_size: int, rng: np.random.Generator) -> list[Array]:
        """Draw an epoch in which every row comes once: the indices of each batch."""
        return list(shuffled_batches(self.lengths, len(self), batch_size, rng))

    def batch(self, indices: Array, rng: np.random.Generator) -> Batch:
        """Return these rows, with random changes."""
        return self._batch(indices, rng)

    def in_order_of_length(self, batch_size: int) -> Iterator[tuple[Array, Batch]]:
        """Yield every row once, unchanged, with its indices; rows of like length together."""
        lengths = self.lengths
        order = np.arange(len(self)) if lengths is None else np.argsort(lengths, kind="stable")
        for start in range(0, len(order), batch_size):
            indices = order[start : start + batch_size]
            yield indices, self._batch(indices, None)

    def _batch(self, indices: Array, rng: np.random.Generator | None) -> Batch:
        tensors = self._tensors(indices, rng)
        if rng is not None and self._token_dropout:
            tensors = Tensors(drop_tokens(tensors.values, self._token_dropout, UNKNOWN_ID, rng), tensors.lengths)
        x, lengths = pad(tensors)
        weights = None if self._weights is None else torch.from_numpy(self._weights[indices])
        return Batch(x, lengths, torch.from_numpy(self._targets[indices]), weights)

    def _tensors(self, indices: Array, rng: np.random.Generator | None) -> Tensors:
        if self._prepared is None:
            assert self._augmentation is not None  # rows that don't change are prepared beforehand
            raw = take(self._raw, indices)
            return self._preprocess(raw if rng is None else self._augmentation.apply(np.asarray(raw), rng))
        values, lengths = self._prepared.values, self._prepared.lengths
        if lengths is None:
            return Tensors(values[indices])
        return Tensors.packed([values[self._starts[i] : self._starts[i] + lengths[i]] for i in indices])


def pad(tensors: Tensors) -> tuple[Tensor, Tensor | None]:
    """Return what a network takes: dense rows as they are, or packed ones as (B, T, *features) with lengths (B,)."""
    values = torch.from_numpy(np.ascontiguousarray(tensors.values))
    if tensors.lengths is None:
        return values, None
    lengths = torch.from_numpy(tensors.lengths.astype(np.int64))
    padded = torch.nn.utils.rnn.pad_sequence(list(torch.split(values, lengths.tolist())), batch_first=True)
    return padded, lengths


def shuffled_batches(lengths: Array | None, n: int, batch_size: int, rng: np.random.Generator) -> Iterator[Array]:
    """Yield row indices in batches, each row once; lengths (n,) keep rows of like length together."""
    order = rng.permutation(n)
    if lengths is not None:
        window = batch_size * WINDOW_BATCHES
        windows = [order[start : start + window] for start in range(0, n, window)]
        order = np.concatenate([part[np.argsort(lengths[part], kind="stable")] for part in windows])
    starts = np.arange(0, n, batch_size)
    for start in rng.permutation(starts):
        yield order[start : start + batch_size]


def _starts(prepared: Tensors | None) -> Array:
    if prepared is None or prepared.lengths is None:
        return np.zeros(0, np.int64)
    ends = np.cumsum(prepared.lengths, dtype=np.int64)
    return ends - prepared.lengths
