"""What a part showed."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Done = Callable[[int], None]
"""Told how many steps were done."""

Begin = Callable[[int], Done]
"""Told how many steps there will be."""


@dataclass
class Report:
    """Figures to read, claims that hold or don't, and rows of a table."""

    part: str
    figures: dict[str, object] = field(default_factory=dict)
    claims: dict[str, bool] = field(default_factory=dict)
    table: Sequence[Mapping[str, Any]] = ()

    @property
    def holds(self) -> bool:
        return bool(self.claims) and all(self.claims.values())

    def to_dict(self) -> dict[str, Any]:
        return {"figures": self.figures, "claims": self.claims, "table": list(self.table)}
