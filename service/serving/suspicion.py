"""Which inputs may have ended an engine: they run alone until that is cleared up, and not at all once it is proven."""

import hashlib

from models.preprocess import Tensors
from models.preprocess.tensors import Array
from service.domain import Ref
from service.serving.held import Held
from service.watch.history import History

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
    """What this process knows of the inputs of one engine and its predecessors.

    Most of the time that is nothing, and then no input is looked at.
    """

    def __init__(self) -> None:
        self._history = History()
        self._suspects: dict[bytes, None] = {}

    @property
    def is_idle(self) -> bool:
        """Whether every input is above suspicion."""
        return not self._suspects and not self._history.quarantined

    @property
    def incarnation(self) -> int:
        """Of the engine that was heard of last."""
        return self._history.incarnation

    def learn(self, history: History) -> None:
        """Take in what an engine says of its predecessors. What it has quarantined, and nothing else, is so."""
        self._history = history
        for digest in history.quarantined:
            self.clear(digest)

    def accuse(self, request_id: int, held: Held) -> bool:
        """Suspect those of a request's rows that its engine may have died of; whether there are any."""
        suspects = self._history.suspects.get(held.sent_to, frozenset()) if held.sends else frozenset()
        rows = [row for suspect, row in suspects if suspect == request_id]
        names = digests(held.ref, held.tensors) if rows else []
        for row in rows:
            if not self.is_quarantined(names[row]):
                self.suspect(names[row])
        return bool(rows)

    def suspect(self, digest: bytes) -> None:
        """Have an input run alone. Of very many suspects the oldest are forgotten."""
        if len(self._suspects) >= _MAX_SUSPECTS:
            del self._suspects[next(iter(self._suspects))]
        self._suspects[digest] = None

    def clear(self, digest: bytes) -> None:
        """An input ran alone and was answered."""
        self._suspects.pop(digest, None)

    def knows(self, digest: bytes) -> bool:
        """Whether there is anything against an input."""
        return self.is_suspect(digest) or self.is_quarantined(digest)

    def is_suspect(self, digest: bytes) -> bool:
        return digest in self._suspects

    def is_quarantined(self, digest: bytes) -> bool:
        return digest in self._history.quarantined
