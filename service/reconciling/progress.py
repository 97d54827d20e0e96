"""How far trying other back ends on versions has come, and which is next. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from service.domain import Execution, Ref


@dataclass(frozen=True, slots=True)
class Untried:
    """A version that answers, and that nothing was tried for on this machine. `running`: how it computes now; `asked`:
    when it was last asked for.
    """

    ref: Ref
    identity: str
    folder: Path
    running: Execution
    asked: float = 0.0
    is_aliased: bool = False


@dataclass(frozen=True, slots=True)
class Progress:
    """How far trying other back ends on a version has come, in words.

    `is_pending`: it is not over; `is_found`: something runs it better than what does now, and is used once it is loaded
    anew. `ends` is when a pause ends; `times`, how often the machine was not quiet enough.
    """

    reason: str
    is_pending: bool = True
    is_found: bool = False
    ends: float = 0.0
    times: int = 0


def next_untried(untried: Sequence[Untried], progress: Mapping[str, Progress], now: float) -> Untried | None:
    """The one to try next, if any: the most recently asked for, else one that an alias names."""
    due = [one for one in untried if (known := progress.get(one.identity)) is None or now >= known.ends]
    return min(due, key=lambda one: (-one.asked, not one.is_aliased, one.ref), default=None)


def is_another(chosen: Mapping[str, Any], running: Execution) -> bool:
    """Whether what was chosen computes in another way than what runs; where nothing passed, that runs on."""
    how = running.backend, running.precision, running.threads
    return chosen["backend"] is not None and (chosen["backend"], chosen["precision"], chosen["threads"]) != how
