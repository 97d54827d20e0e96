"""One peer and Servoloop on one case: the peer is tuned a little, then both are asked in windows that alternate."""

import os
import statistics
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from benchmarks.load import Window, closed_loop, constant_rate
from benchmarks.networks import Case, our_request
from benchmarks.ours import Target, label, labels
from benchmarks.peers.catalog import HERE, Backend, Peer
from benchmarks.peers.environments import Environment
from benchmarks.processes import Server, ServerFailed, settle
from benchmarks.report import Step, cores
from benchmarks.reviews import Reviews
from tests.end_to_end.service import Homes, free_port

CONNECTIONS = 64
# Where latency alone on one connection is compared.
ALONE = ("cnn_binary", "transformer")


@dataclass(frozen=True)
class Effort:
    """How much is measured."""

    tuning_seconds: float
    window_seconds: float
    rounds: int
    grid: tuple[tuple[int, int], ...]
    """(workers, threads of each)."""
    waits_ms: tuple[float, ...]
    """Longest waits for a fuller batch: the first for the whole grid, the others for the best of it."""


def effort(*, quick: bool) -> Effort:
    """From one worker of one thread to a worker a core; `quick` tries only those that use every core once."""
    many = cores()
    spread = tuple(dict.fromkeys(((1, many), (many, 1))))
    if quick:
        return Effort(2, 3, 3, spread, (1,))
    return Effort(3, 5, 5, tuple(dict.fromkeys((*spread, (1, 1), (many, many)))), (1, 5))


@dataclass(frozen=True)
class Setting:
    """How a peer is run."""

    workers: int
    threads: int
    max_wait_ms: float


@dataclass
class Pair:
    """One peer and ours on one case. Windows of the same place in `ours` and `theirs` followed each other."""

    peer: str
    case: str
    setting: Setting
    tuned: list[dict[str, Any]]
    ours: list[Window] = field(default_factory=list)
    theirs: list[Window] = field(default_factory=list)
    ours_alone: list[Window] = field(default_factory=list)
    theirs_alone: list[Window] = field(default_factory=list)
    half_rate: float = 0.0
    ours_at_half: list[Window] = field(default_factory=list)
    theirs_at_half: list[Window] = field(default_factory=list)

    @property
    def throughput(self) -> float:
        """Ours / theirs."""
        return median(self.ours, "requests_per_second") / max(1e-9, median(self.theirs, "requests_per_second"))

    @property
    def alone(self) -> float | None:
        """Ours / theirs, p50 on one connection."""
        if not self.ours_alone:
            return None
        return median(self.ours_alone, "p50_ms") / median(self.theirs_alone, "p50_ms")

    @property
    def p99_at_half(self) -> float:
        """Ours / theirs, p99 at half of the peer's saturation."""
        return median(self.ours_at_half, "p99_ms") / max(1e-9, median(self.theirs_at_half, "p99_ms"))

    @property
    def errors(self) -> int:
        """In all windows that count."""
        groups = (self.ours, self.theirs, self.ours_alone, self.theirs_alone, self.ours_at_half, self.theirs_at_half)
        return sum(window.errors for group in groups for window in group)

    def to_json(self) -> dict[str, Any]:
        """For a results file."""
        ratios = {"throughput": self.throughput, "alone": self.alone, "p99_at_half": self.p99_at_half}
        return {**asdict(self), "ratios": ratios}


def median(windows: Sequence[Window], figure: str) -> float:
    """Of one figure over windows."""
    return float(statistics.median(getattr(window, figure) for window in windows))


@dataclass(frozen=True)
class Stage:
    """Where a comparison takes place: the folder of the networks, where folders for servers come from, and ours."""

    networks: Path
    homes: Homes
    ours: Target
    effort: Effort
    step: Step
    backend: Backend


@contextmanager
def serving_peer(
    stage: Stage, peer: Peer, environment: Environment, case: Case | Reviews, setting: Setting
) -> Iterator[Target]:
    """The peer, once it answers and rests. Raises ServerFailed, also where its answer is not ours."""
    home, port, wanted = stage.homes(), free_port(), labels(stage.ours.url, our_request(case))
    told = {
        "PORT": port,
        "NETWORK": case.folder(stage.networks),
        "FORMAT": "text" if isinstance(case, Reviews) else case.format,
        "WORKERS": setting.workers,
        "THREADS": setting.threads,
        "MAX_WAIT_MS": setting.max_wait_ms,
        "BACKEND": stage.backend,
        "HOME": home,
    }
    given = {name: value for name, value in os.environ.items() if not name.startswith(("SERVOLOOP_", "PYTHON"))}
    given |= {f"BENCHMARK_{name}": str(value) for name, value in told.items()}
    given |= {
        "PYTHONPATH": str(HERE.parent.parent),
        "PATH": f"{environment.python.parent}:{os.environ['PATH']}",
        "TMPDIR": str(home),
    }
    with Server([str(environment.python), "-P", str(HERE / peer.script)], given, home, port) as server:
        server.wait(lambda: server.answers(peer.ready_path) and _answers(server.url, peer, case))
        if (got := labels(server.url, peer.request(case))) != wanted:
            raise ServerFailed(f"it answers {got} where we answer {wanted}: that is another network")
        # Some poll for ever (LitServe): that is theirs, and part of what they cost.
        with suppress(TimeoutError):
            settle(server.mark, seconds=6)
        yield Target(server.url, server.mark)


def _answers(url: str, peer: Peer, case: Case | Reviews) -> bool:
    try:
        return bool(label(url, peer.request(case)))
    except ServerFailed:
        return False


def settings(effort: Effort) -> list[Setting]:
    """Those of the grid; further waits are tried with the best of them."""
    return [Setting(workers, threads, effort.waits_ms[0]) for workers, threads in effort.grid]


def compare(stage: Stage, peer: Peer, environment: Environment, case: Case | Reviews) -> Pair:
    """Tune the peer, then measure. Raises ServerFailed and LoadFailed."""
    request, effort, tuned = peer.request(case), stage.effort, []

    def tune(setting: Setting) -> None:
        stage.step(f"{peer.name}, {case.name}: {setting.workers} x {setting.threads} threads, {setting.max_wait_ms} ms")
        with serving_peer(stage, peer, environment, case, setting) as target:
            closed_loop(target.url, request, CONNECTIONS, 1, target.mark)  # warms up
            crowd = closed_loop(target.url, request, CONNECTIONS, effort.tuning_seconds, target.mark)
            alone = closed_loop(target.url, request, 1, effort.tuning_seconds, target.mark)
        tuned.append((setting, crowd, alone))

    for setting in settings(effort):
        tune(setting)
    for wait in effort.waits_ms[1:]:
        best = max(tuned, key=lambda one: one[1].requests_per_second)[0]
        tune(replace(best, max_wait_ms=wait))
    best = max(tuned, key=lambda one: one[1].requests_per_second)[0]
    quickest = min(tuned, key=lambda one: one[2].p50_ms)[0]
    pair = Pair(
        peer.name, case.name, best, [{**asdict(s), "at_64": c.to_json(), "at_1": a.to_json()} for s, c, a in tuned]
    )
    ours, asked = stage.ours, our_request(case)
    stage.step(f"{peer.name} and ours, {case.name}")
    with serving_peer(stage, peer, environment, case, best) as theirs:
        for target, what in ((ours, asked), (theirs, request)):
            closed_loop(target.url, what, CONNECTIONS, 2, target.mark)  # warms up
        for _ in range(effort.rounds):
            pair.ours.append(closed_loop(ours.url, asked, CONNECTIONS, effort.window_seconds, ours.mark))
            pair.theirs.append(closed_loop(theirs.url, request, CONNECTIONS, effort.window_seconds, theirs.mark))
        pair.half_rate = median(pair.theirs, "requests_per_second") / 2
        for _ in range(min(3, effort.rounds)):
            pair.ours_at_half.append(constant_rate(ours.url, asked, pair.half_rate, effort.window_seconds, ours.mark))
            pair.theirs_at_half.append(
                constant_rate(theirs.url, request, pair.half_rate, effort.window_seconds, theirs.mark)
            )
        if case.name in ALONE and quickest == best:
            _alone(pair, stage, case, peer, theirs)
    if case.name in ALONE and quickest != best:
        with serving_peer(stage, peer, environment, case, quickest) as theirs:
            _alone(pair, stage, case, peer, theirs)
    return pair


def _alone(pair: Pair, stage: Stage, case: Case | Reviews, peer: Peer, theirs: Target) -> None:
    ours, asked, request = stage.ours, our_request(case), peer.request(case)
    for _ in range(stage.effort.rounds):
        pair.ours_alone.append(closed_loop(ours.url, asked, 1, stage.effort.tuning_seconds, ours.mark))
        pair.theirs_alone.append(closed_loop(theirs.url, request, 1, stage.effort.tuning_seconds, theirs.mark))
