"""Back ends are tried on a version: built, judged, and timed."""

import os
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cached_property

import torch

from models.architectures import Network
from models.manifest import Manifest
from models.preprocess import Tensors
from models.preprocess.tensors import Array
from service.domain import Precision
from service.engine.backends.base import Backend, Place
from service.engine.backends.eager import Eager
from service.engine.backends.registry import SLOW_TO_BUILD
from service.engine.choosing import PASSED, Trial, title
from service.engine.crew import Crew, Run, Stint
from service.engine.devices import CPU
from service.engine.heldout import Rows
from service.engine.judging import BATCH, TOLERANCES, break_of_promise, break_side_by_side, compare, outputs_of
from service.engine.plans import Plan
from service.engine.quiet import Timing, Watch
from service.engine.replica import Replica

_ROUND_SECONDS = 0.02
AS_IT_COMES = Timing()


@dataclass(frozen=True, slots=True)
class Candidate:
    """A back end with a number of threads, and as many batches at once as the cores allow."""

    backend: Backend
    threads: int
    at_once: int = 1

    @property
    def title(self) -> str:
        """For people."""
        return title(self.backend.name, self.backend.precision, self.threads)


@dataclass(frozen=True, slots=True)
class Subject:
    """A version that back ends are tried on, on a device. `fresh` makes its network anew; `tolerance` is in points."""

    manifest: Manifest
    fresh: Callable[[], Network]
    samples: Sequence[Tensors]
    rows: Rows
    tolerance: float = 0.2
    device: torch.device = CPU

    def typical(self) -> Sequence[Array]:
        """The rows that an engine would find with the version too."""
        return () if self.rows.truth is None else self.rows.rows

    @property
    def metric(self) -> str:
        """What is compared."""
        if self.rows.truth is None:
            return "like float32"
        return "r2" if self.manifest.task == "regression" else "accuracy"


@dataclass(slots=True)
class _Attempt:
    candidate: Candidate
    facts: dict[str, float | None]
    verdict: str
    replica: Replica | None = None
    batch_1: list[float] = field(default_factory=list)
    batch_32: list[float] = field(default_factory=list)
    paces: list[float] = field(default_factory=list)

    def trial(self) -> Trial:
        counts = self.verdict == PASSED
        seconds_1, seconds_32, pace = (
            undisturbed(times) if counts and times else None for times in (self.batch_1, self.batch_32, self.paces)
        )
        return Trial.model_validate(
            {
                "backend": self.candidate.backend.name,
                "precision": self.candidate.backend.precision,
                "threads": self.candidate.threads,
                **self.facts,
                "batch_1_ms": None if seconds_1 is None else round(1000 * seconds_1, 4),
                "batch_32_ms": None if seconds_32 is None else round(1000 * seconds_32, 4),
                "rows_per_second": None if pace is None else round(BATCH / pace, 1),
                "verdict": self.verdict[:1000],
            }
        )


def undisturbed(seconds: Sequence[float]) -> float:
    """What a tenth of the batches stay within: whatever else the machine does only ever adds to it."""
    return sorted(seconds)[len(seconds) // 10]


def candidates(backends: Sequence[Backend], cores: int, device: torch.device = CPU) -> list[Candidate]:
    """Every back end with one thread, half the cores, and all; what compiles for long with all only.

    On a GPU `cores` are its lanes. There is nothing to share out: each with one, and as many batches at once as lanes.
    """
    if device.type != "cpu":
        return [Candidate(backend, 1, cores) for backend in backends]
    numbers = sorted({1, max(1, cores // 2), cores})
    return [
        Candidate(backend, threads, cores // threads)
        for backend in backends
        for threads in (numbers if backend.name not in SLOW_TO_BUILD else [cores])
    ]


def num_steps(tried: Sequence[Candidate], timing: Timing) -> int:
    """How often `try_all` tells of its progress."""
    return len(tried) + timing.rounds


def try_all(
    subject: Subject, tried: Sequence[Candidate], tell: Callable[[str], None], timing: Timing = AS_IT_COMES
) -> list[Trial]:
    """One trial a candidate, in their order. `tell` is called with what is done next.

    Those that pass are timed in turn, round by round, so that whatever else the machine does meanwhile hits all alike.
    Raises NotQuiet where others disturb more of it than `timing` allows.
    """
    plain = _replica(subject, Candidate(Eager(), os.cpu_count() or 1))
    expected = outputs_of(plain, subject.rows)
    watch = Watch(timing)
    attempts = []
    for candidate in tried:
        tell(candidate.title)
        attempts.append(_check(subject, candidate, expected))
        watch.was_quiet()
    with ExitStack() as crews:
        timed = [
            _Timed(each, each.replica, subject.rows, crews.enter_context(Crew(each.candidate.at_once)))
            for each in attempts
            if each.replica is not None and each.verdict == PASSED
        ]
        for number in range(timing.rounds):
            tell(f"timing, round {number + 1} of {timing.rounds}")
            while not _time_round(timed, watch):
                continue  # a disturbed one does not count
    return [attempt.trial() for attempt in attempts]


class _Timed:
    """A back end that passed, and what it is timed with."""

    def __init__(self, attempt: _Attempt, replica: Replica, rows: Rows, crew: Crew) -> None:
        one, many = _timed_rows(rows)
        self._attempt = attempt
        self._crew = crew
        self._one: Run = lambda: replica.run(one, ragged=rows.ragged)[0]
        self._many: Run = lambda: replica.run(many, ragged=rows.ragged)[0]

    @cached_property
    def _expected(self) -> Array:
        """What it answers with nothing beside it."""
        return self._many()

    def run_some(self) -> tuple[Sequence[float], Stint] | None:
        """A few batches of one row, then of many, as many at once as the cores allow; None once it failed at that."""
        if self._attempt.verdict != PASSED:
            return None
        try:
            expected = self._expected
            found = self._crew.alone(self._one, _ROUND_SECONDS), self._crew.together(self._many, _ROUND_SECONDS)
        except Exception as error:  # noqa: BLE001 - whatever one back end does, the others are tried
            self._attempt.verdict = _failure(error)
            return None
        precision = self._attempt.candidate.backend.precision
        self._attempt.verdict = break_side_by_side(found[1], expected, TOLERANCES[precision]) or PASSED
        return found

    def keep(self, batch_1: Sequence[float], stint: Stint) -> None:
        """Count what was run."""
        self._attempt.batch_1.extend(batch_1)
        self._attempt.batch_32.extend([seconds for share in stint.shares for seconds in share.seconds])
        self._attempt.paces.append(stint.pace)


def _time_round(timed: Sequence[_Timed], watch: Watch) -> bool:
    """Time a few batches of each; whether they count, because others left it the cores meanwhile."""
    found = [(each, each.run_some()) for each in timed]
    if not watch.was_quiet():
        return False
    for each, times in found:
        if times is not None:
            each.keep(*times)
    return True


def _replica(subject: Subject, candidate: Candidate) -> Replica:
    place = Place(subject.device, candidate.threads, candidate.at_once)
    plan = Plan(candidate.backend, place, "it is tried")
    replica = Replica(
        subject.manifest, subject.fresh(), place.device, Precision.FLOAT32, subject.samples, plan, subject.typical
    )
    replica.warm_up()
    return replica


def _check(subject: Subject, candidate: Candidate, expected: Array) -> _Attempt:
    started = time.perf_counter()
    try:
        replica = _replica(subject, candidate)
        seconds = time.perf_counter() - started
        execution = replica.execution
        if (execution.backend, execution.precision) != (candidate.backend.name, candidate.backend.precision):
            return _Attempt(candidate, {}, execution.reason)
        found = outputs_of(replica, subject.rows)
        difference, agreement = compare(found, expected, subject.rows.truth, subject.manifest)
        facts = {
            "build_seconds": round(seconds, 3),
            "difference": round(difference, 4),
            "agreement": None if agreement is None else round(agreement, 6),
        }
        if not difference >= -subject.tolerance:
            verdict = f"{subject.metric} is {-difference:.2f} points worse, {subject.tolerance:g} are allowed"
        else:
            verdict = break_of_promise(replica, subject.rows, TOLERANCES[candidate.backend.precision]) or PASSED
    except Exception as error:  # noqa: BLE001 - whatever one back end does, the others are tried
        return _Attempt(candidate, {}, _failure(error))
    return _Attempt(candidate, facts, verdict, replica)


def _failure(error: Exception) -> str:
    return f"it failed: {' '.join(str(error).split()) or type(error).__name__}"


def _timed_rows(rows: Rows) -> tuple[list[Array], list[Array]]:
    """One row and a whole batch, of the middle length."""
    ordered = sorted(rows.rows, key=len) if rows.ragged else rows.rows
    middle = max(0, len(ordered) // 2 - BATCH // 2)
    some = ordered[middle : middle + BATCH]
    many = [some[index % len(some)] for index in range(BATCH)]
    return [many[BATCH // 2]], many
