"""Loads that failed on one engine, and until when they are not tried again. Pure: instants go in."""

from dataclasses import dataclass
from typing import NamedTuple

from service.domain import Precision, Ref
from service.reconciling.placement import Claim

_FIRST_RETRY_SECONDS, _LONGEST_RETRY_SECONDS = 5.0, 300.0


class Attempt(NamedTuple):
    """A version by all that a load is told of it: a load of anything else may succeed where this one failed."""

    ref: Ref
    identity: str
    generation: int
    precision: Precision


def attempt_of(claim: Claim) -> Attempt:
    """What a load for this claim tries."""
    return Attempt(claim.ref, claim.identity, claim.generation, claim.precision)


@dataclass(frozen=True, slots=True)
class _Failure:
    """A load that failed, `times` in a row. It is tried again later: the cause may pass, as of a disk that is away."""

    reason: str
    times: int
    at: float

    @property
    def holds_until(self) -> float:
        return self.at + min(_FIRST_RETRY_SECONDS * 2.0 ** (self.times - 1), _LONGEST_RETRY_SECONDS)


class LoadFailures:
    """Each holds for a while that doubles with every failure in a row. Instants in seconds, on any one clock."""

    def __init__(self) -> None:
        self._failures: dict[Attempt, _Failure] = {}

    def known(self, now: float) -> dict[Attempt, str]:
        """Why loads failed that shall not be tried again yet."""
        return {attempt: failure.reason for attempt, failure in self._failures.items() if now < failure.holds_until}

    def note(self, claim: Claim, reason: str, now: float) -> None:
        """A load for this claim failed, or can't succeed."""
        attempt = attempt_of(claim)
        times = self._failures[attempt].times if attempt in self._failures else 0
        self._failures[attempt] = _Failure(reason, times + 1, now)

    def note_success(self, claim: Claim) -> None:
        """A load for this claim succeeded: the next failure is the first one."""
        self._failures.pop(attempt_of(claim), None)

    def forget(self, ref: Ref) -> None:
        """Have what failed of a version tried again at once."""
        for attempt in [attempt for attempt in self._failures if attempt.ref == ref]:
            del self._failures[attempt]

    def clear(self) -> None:
        """Forget all: the engine is another one."""
        self._failures.clear()
