"""Which inputs may have ended an engine: they run alone until that is cleared up, and not at all once it is proven."""

import hashlib
from collections.abc import Iterable

from models.preprocess import Tensors
from models.preprocess.tensors import Array
from service.domain import Ref

_MAX_SUSPECTS = 4096
_DIGEST_BYTES = 16  # as a black box keeps it


def digests(ref: Ref, tensors: Tensors) -> list[bytes]:
    """A name for each row as this version is given it; equal rows have equal names."""
    return [_digest(ref, row) for row in tensors.rows()]


def _digest(ref: Ref, row: Array) -> bytes:
    name = hashlib.blake2b(f"{ref} {row.dtype.str} {row.shape}\n".encode(), digest_size=_DIGEST_BYTES)
    name.update(row.tobytes())
    return name.digest()


def row_of(tensors: Tensors, index: int) -> Tensors:
    """One row of a request, as a request of its own."""
    row = tensors.rows()[index]
    return Tensors(row[None]) if tensors.lengths is None else Tensors.packed([row])


class Suspicion:
    """What this process knows of inputs. Most of the time that is nothing, and then no input is looked at."""

    def __init__(self) -> None:
        self._suspects: dict[bytes, None] = {}
        self._quarantined: frozenset[bytes] = frozenset()

    @property
    def is_idle(self) -> bool:
        """Whether every input is above suspicion."""
        return not self._suspects and not self._quarantined

    def suspect(self, digest: bytes) -> None:
        """Have an input run alone. Of very many suspects the oldest are forgotten."""
        if len(self._suspects) >= _MAX_SUSPECTS:
            del self._suspects[next(iter(self._suspects))]
        self._suspects[digest] = None

    def clear(self, digest: bytes) -> None:
        """An input ran alone and was answered."""
        self._suspects.pop(digest, None)

    def quarantine(self, found: Iterable[bytes]) -> None:
        """Know these inputs, and no others, to be quarantined."""
        self._quarantined = frozenset(found)
        for digest in self._quarantined:
            self.clear(digest)

    def is_suspect(self, digest: bytes) -> bool:
        return digest in self._suspects

    def is_quarantined(self, digest: bytes) -> bool:
        return digest in self._quarantined
