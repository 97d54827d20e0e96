"""Rows in columns that grow, found again by their key: a million of them are looked through in milliseconds."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]

_FIRST_CAPACITY = 1024


class Column(NamedTuple):
    """What a column holds: a row's shape, and what stands for nothing."""

    dtype: str
    shape: tuple[int, ...] = ()
    empty: float = 0


class Table:
    """Rows under keys, uint64. A row that is put again is replaced, one that is removed is `there` no more.

    Most rows lie in the order of their keys, in which they are chosen: of a million, gathering columns takes a third of
    what it takes from places at random.
    """

    def __init__(self, columns: Mapping[str, Column]) -> None:
        self._columns = {"there": Column("?"), **columns}
        self._arrays = {name: _made(column, _FIRST_CAPACITY) for name, column in self._columns.items()}
        self._keys = np.empty(0, np.uint64)
        self._places = np.empty(0, np.int64)
        self._size = 0
        self._num_ordered = 0

    def __len__(self) -> int:
        """Rows that were put; those that were removed may be among them."""
        return self._size

    def __getitem__(self, name: str) -> Array:
        """A column, (n, *shape): not to be written."""
        return self._arrays[name][: self._size]

    def chosen(self, mask: Array) -> Array:
        """The places of chosen rows (n,) in the order of their keys, in whatever order they were put."""
        return np.asarray(self._places[mask[self._places]])

    def put(self, keys: Array, values: Mapping[str, Array]) -> None:
        """Write rows (m,); of a key that comes twice the last one counts. Now and then, all rows change places."""
        last = len(keys) - 1 - np.unique(keys[::-1], return_index=True)[1]
        keys = keys[last]
        places = self._find(keys)
        is_new = places < 0
        num_new = int(is_new.sum())
        self._reserve(num_new)
        places[is_new] = np.arange(self._size, self._size + num_new)
        self._size += num_new
        at = np.searchsorted(self._keys, keys[is_new])
        self._keys = np.insert(self._keys, at, keys[is_new])
        self._places = np.insert(self._places, at, places[is_new])
        for name, array in values.items():
            self._arrays[name][places] = array[last]
        self._arrays["there"][places] = True
        if self._size > _with_disordered(self._num_ordered):
            self.compact(np.ones(self._size, bool))

    def remove(self, keys: Array) -> None:
        """Rows that are not there are left out."""
        places = self._find(keys)
        self._arrays["there"][places[places >= 0]] = False

    def compact(self, keep: Array) -> None:
        """Let go of the rows that are not kept (n,), and put the others in the order of their keys."""
        is_kept = (keep & self["there"])[self._places]
        kept = self._places[is_kept]
        for name, column in self._columns.items():
            array = _made(column, _with_disordered(len(kept)))
            array[: len(kept)] = self[name][kept]
            self._arrays[name] = array
        self._keys, self._places = self._keys[is_kept], np.arange(len(kept))
        self._size = self._num_ordered = len(kept)

    def _find(self, keys: Array) -> Array:
        """The place of each key, -1 where there is none."""
        if not len(self._keys):
            return np.full(len(keys), -1, np.int64)
        at = np.minimum(np.searchsorted(self._keys, keys), len(self._keys) - 1)
        return np.asarray(np.where(self._keys[at] == keys, self._places[at], -1))

    def _reserve(self, count: int) -> None:
        for name, column in self._columns.items():
            array = self._arrays[name]
            if self._size + count > len(array):
                grown = _made(column, max(2 * len(array), self._size + count))
                grown[: self._size] = array[: self._size]
                self._arrays[name] = grown


def _with_disordered(num_ordered: int) -> int:
    """How many rows there may be before they are put in order again."""
    return num_ordered + num_ordered // 8 + _FIRST_CAPACITY


def _made(column: Column, size: int) -> Array:
    return np.full((size, *column.shape), column.empty, column.dtype)


def keys_of(ids: list[str]) -> Array:
    """The keys of UUIDv7s: their last 62 random bits, by which millions of them differ."""
    return np.array([int(one[19:23] + one[24:], 16) for one in ids], np.uint64)
