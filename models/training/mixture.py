"""Epochs in which new rows and a replay of old ones come together, so that what was learned is not forgotten.

Rehearsal: Robins 1995, Connection Science 7(2). Shapes: n new rows, r old ones.
"""

from typing import Any

import numpy as np

from models.training.batches import Batch, Rows, shuffled_batches

Array = np.ndarray[Any, np.dtype[Any]]

_BINS = 10


class Mixture:
    """Each epoch has all of the first `num_new` rows, and `num_replayed` of the others, drawn anew and stratified."""

    def __init__(self, rows: Rows, num_new: int, strata: Array, num_replayed: int) -> None:
        """`strata` (r,) says what kind each of the rows behind the first `num_new` is."""
        self._rows = rows
        self._num_new = num_new
        self._strata = strata
        self._num_replayed = num_replayed

    def __len__(self) -> int:
        return self._num_new + self._num_replayed

    def order(self, batch_size: int, rng: np.random.Generator) -> list[Array]:
        """Draw an epoch: the indices of each batch's rows."""
        replayed = self._num_new + stratified(self._strata, self._num_replayed, rng)
        chosen = np.concatenate([np.arange(self._num_new), replayed])
        lengths = None if self._rows.lengths is None else self._rows.lengths[chosen]
        return [chosen[batch] for batch in shuffled_batches(lengths, len(chosen), batch_size, rng)]

    def batch(self, indices: Array, rng: np.random.Generator) -> Batch:
        """Return these rows, with the random changes of training."""
        return self._rows.batch(indices, rng)


def stratified(strata: Array, count: int, rng: np.random.Generator) -> Array:
    """Return the indices (count,) of rows drawn so that each kind has its share of them, to within one row.

    Systematic sampling (Madow and Madow 1944). No row comes twice before all of them came once.
    """
    n = len(strata)
    if not n or not count:
        return np.zeros(0, np.int64)
    order = rng.permutation(n)
    in_strata = order[np.argsort(strata[order], kind="stable")]
    places = ((np.arange(count) + rng.random()) * n / count).astype(np.int64)
    return np.asarray(in_strata[np.minimum(places, n - 1)])


def strata_of(targets: Array) -> Array:
    """Return the kind (n,) of each row: its class, or the tenth of all values in which its own lies."""
    if targets.dtype.kind != "f":
        return targets
    return np.asarray(np.searchsorted(np.quantile(targets, np.linspace(0, 1, _BINS + 1)[1:-1]), targets))


def num_replayed(num_new: int, share: float) -> int:
    """How many rows make `share` of an epoch beside `num_new` others."""
    return round(num_new * share / (1 - share))
