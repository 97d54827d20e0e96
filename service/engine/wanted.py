"""What the engine is told to have."""

from dataclasses import dataclass
from pathlib import Path

from service.domain import Precision, Ref


@dataclass(frozen=True, slots=True)
class Wanted:
    """A version to be loaded.

    `identity` is the sha256 of its manifest's bytes, empty where it is not to be checked. What was loaded under
    another generation, or with another precision, is replaced; so is, where it is to be `optimized`, what was loaded
    before it was known what runs it best.
    """

    ref: Ref
    folder: Path
    identity: str = ""
    precision: Precision = Precision.FLOAT32
    generation: int = 0
    optimized: bool = False

    def is_met_by(self, other: "Wanted") -> bool:
        """Whether what was loaded for `other` is what is wanted here."""
        is_same = (self.generation, self.precision) == (other.generation, other.precision)
        return is_same and (other.optimized or not self.optimized)
