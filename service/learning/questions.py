"""What is asked of the loop process, and how it is said in frames.

EVALUATE   {"about": "evaluation" | "drift", "question": {...}} and perhaps "picture": "png" | "svg";
           or {"about": "rows", "question": {...}}, with the arrays of LabelledRows
EVALUATED  {"answer": {...}}, as GET /v1/models/{model}/evaluation or /drift answers it, or as
           service.learning.offline says; or the picture's bytes as an array; or FAILED, with the error's facts
"""

from dataclasses import asdict, dataclass
from typing import Any, Literal

from service.store.base import Role
from service.store.messages import Facts

About = Literal["evaluation", "drift", "rows"]


@dataclass(frozen=True, slots=True)
class Question:
    """Of which predictions of a model is asked; None is all. Times in seconds since 1970, `until` excluded.

    `matured`: only of those that have most of the labels that they will ever get. `buckets`: into how many equal parts
    of time what is over time is divided; 0 is without. `by`: with the groups that have different values of this tag.
    """

    model: str
    version: int | None = None
    role: Role | None = "answered"
    since: float | None = None
    until: float | None = None
    slice: str = ""
    matured: bool = False
    buckets: int = 0
    by: str = ""


@dataclass(frozen=True, slots=True)
class DriftQuestion:
    """Whose predictions are compared with the version's reference, and how many of the latest; None: as configured."""

    model: str
    version: int
    rows: int | None = None


@dataclass(frozen=True, slots=True)
class RowsQuestion:
    """How good versions are on the same labelled rows: of each its name, and from which probability on it says yes."""

    task: str
    labels: list[str]
    versions: list[str]
    thresholds: list[float]


AnyQuestion = Question | DriftQuestion | RowsQuestion

_KINDS: dict[About, type[AnyQuestion]] = {"evaluation": Question, "drift": DriftQuestion, "rows": RowsQuestion}


def facts_of(question: AnyQuestion) -> dict[str, Any]:
    """What a frame says of it."""
    about = next(about for about, kind in _KINDS.items() if isinstance(question, kind))
    return {"about": about, "question": asdict(question)}


def question_in(facts: Facts) -> AnyQuestion:
    """The inverse. Raises KeyError or TypeError."""
    return _KINDS[facts["about"]](**facts["question"])
