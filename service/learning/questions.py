"""What is asked of the loop process, and how it is said in frames.

EVALUATE   {"model", "version", "role", "since", "until", "slice", "matured", "buckets"}
           and perhaps "picture": "png" | "svg"
EVALUATED  {"evaluation": {...}}, as GET /v1/models/{model}/evaluation answers it, or the picture's bytes as an array;
           or FAILED, with the error's facts
"""

from dataclasses import asdict, dataclass
from typing import Any

from service.store.base import Role
from service.store.messages import Facts


@dataclass(frozen=True, slots=True)
class Question:
    """Of which predictions of a model is asked; None is all. Times in seconds since 1970, `until` excluded.

    `matured`: only of those that have most of the labels that they will ever get. `buckets`: into how many equal parts
    of time what is over time is divided; 0 is without.
    """

    model: str
    version: int | None = None
    role: Role | None = "answered"
    since: float | None = None
    until: float | None = None
    slice: str = ""
    matured: bool = False
    buckets: int = 0

    def to_facts(self) -> dict[str, Any]:
        return asdict(self)

    @staticmethod
    def from_facts(facts: Facts) -> "Question":
        """Raises TypeError."""
        return Question(**facts)
