"""What runs a network: one small protocol, so that a replica need not know which library computes.

Shapes: B rows, T steps of the longest row, O outputs.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch

from models.architectures import Network
from models.manifest import Manifest
from models.preprocess import Tensors
from models.preprocess.tensors import Array
from service.domain import Precision

_MOST_CHARACTERS = 300


class NotBuilt(Exception):
    """A back end can't run this network, or not here; the text says why."""


def in_brief(error: Exception) -> str:
    """What a library says in one line: some add a whole graph."""
    text = " ".join(str(error).split())
    return text if len(text) <= _MOST_CHARACTERS else f"{text[:_MOST_CHARACTERS]}..."


Typical = Callable[[], Sequence[Array]]
"""Reads prepared rows that a version ships, such as it will be given; none where it ships none."""


def none_shipped() -> Sequence[Array]:
    """No rows."""
    return ()


@dataclass(frozen=True, slots=True)
class Place:
    """Where a network runs: the device, and on a CPU with how many threads; 0 is as many as the thread that calls.

    So many threads may call it `at_once`, and each of their batches has threads of its own. A row with no
    batch of its version beside it may have `alone` threads instead; 0 where more would not help it.
    """

    device: torch.device
    threads: int = 0
    at_once: int = 1
    alone: int = 0


class Compiled(Protocol):
    """A network that is ready to run, by as many threads at once as its place says."""

    @property
    def has_own_threads(self) -> bool:
        """Whether a call from yet another thread takes no threads that were not there."""
        ...

    @property
    def num_bytes(self) -> int:
        """What its weights take on the device, in bytes."""
        ...

    def padded(self, num_rows: int, longest: int) -> tuple[int, int]:
        """The (B, T) in which it runs so many rows soonest; each at least as large. What is added is padding.

        `longest` is 1 for dense rows.
        """
        ...

    def __call__(self, x: Array, lengths: Array | None) -> Array:
        """(B, O) float32 for x, (B, *shape), or (B, T, *features) with lengths (B,) int64, as `padded` says.

        What lies behind a row's length, or in the rows that were added, changes no other answer.
        """
        ...


class Backend(Protocol):
    """A way to run networks, with one precision."""

    @property
    def name(self) -> str: ...

    @property
    def precision(self) -> Precision: ...

    def why_not(self, device: torch.device) -> str | None:
        """What keeps it from being used on this machine and device; None where nothing does."""
        ...

    def start(self, place: Place) -> None:
        """Start the threads that compute, where they are the library's own; before the first `build`.

        A thread has the priority of the one that started it, for ever: so not from the thread that loads, which lets
        all others go first.
        """
        ...

    def build(
        self,
        network: Network,
        manifest: Manifest,
        samples: Sequence[Tensors],
        place: Place,
        typical: Typical = none_shipped,
    ) -> Compiled:
        """Make a network ready; `samples` are prepared rows of the form that it will be given. Raises NotBuilt.

        It may run the network, and keep it, but leaves its weights as they are. Of a checkpoint it takes numbers alone.
        """
        ...
