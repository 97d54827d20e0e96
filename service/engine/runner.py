"""What the engine asks of a version that it has."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from models.preprocess import Tensors
from models.preprocess.tensors import Array
from service.domain import Execution


@dataclass(frozen=True, slots=True)
class Fill:
    """Elements that a batch ran over, and how many of them were padding; and the seconds until they lay in one array,
    and those that the network ran.
    """

    elements: int
    padding: int
    input_seconds: float = field(default=0.0, compare=False)
    infer_seconds: float = field(default=0.0, compare=False)

    def __add__(self, other: "Fill") -> "Fill":
        """Of two runs, one after the other."""
        return Fill(
            self.elements + other.elements,
            self.padding + other.padding,
            self.input_seconds + other.input_seconds,
            self.infer_seconds + other.infer_seconds,
        )


class Runner(Protocol):
    """A loaded version. `warm_up` is called with nothing beside it, `run` after it, by several threads at once."""

    @property
    def canary(self) -> Tensors:
        """One prepared sample row."""
        ...

    @property
    def num_bytes(self) -> int:
        """The device's memory that it takes, as far as is measured; final once it is warm."""
        ...

    @property
    def execution(self) -> Execution:
        """How it computes, and why so; final once it is warm."""
        ...

    @property
    def has_own_threads(self) -> bool:
        """Whether `run` computes with threads of its own, whichever thread calls it; final once it is warm."""
        ...

    def warm_up(self) -> None:
        """Run sample rows. Raises BrokenCheckpoint where it can't answer them, and DeviceLost."""
        ...

    def padded(self, num_rows: int, longest: int) -> tuple[int, int]:
        """The (rows, steps) in which a batch is run, each at least as large as given; `longest` is 1 for dense rows.

        Pure, and asked from any thread.
        """
        ...

    def run(self, rows: Sequence[Array], *, ragged: bool) -> tuple[Array, Fill]:
        """One line of finite or not finite numbers a row, float32."""
        ...
