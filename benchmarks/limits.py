"""What this machine allows at most: batched forwards without a server, a server without a network, and their sum."""

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from threading import Timer
from typing import Any

from rich.console import Console

from benchmarks import offline
from benchmarks.load import closed_loop
from benchmarks.networks import CASES, SUBJECTS, Case, our_request, write_checkpoints
from benchmarks.peers.environments import Environment
from benchmarks.processes import Server, ServerFailed
from benchmarks.report import Step, cores, keep, progress, show
from tests.end_to_end.service import Homes, free_port

REPOSITORY = Path(__file__).parent.parent
CONNECTIONS = 64
# To import, convert and compile.
READY_SECONDS = 180.0


@dataclass(frozen=True)
class Offline:
    """Full batches by `processes` at once, each with `threads`. `core_us`: CPU time a row, of all of them."""

    network: str
    variant: str
    processes: int
    threads: int
    rows_per_second: float
    core_us: float


@dataclass(frozen=True)
class Noop:
    """A server that reads the body and answers 200 bytes, in one process; CPU time a request, its own and wrk's."""

    case: str
    body_bytes: int
    requests_per_second: float
    server_us: float
    client_us: float


@dataclass(frozen=True)
class Bound:
    """`rows_per_second` with every core at work and nothing done but what must be done for a row."""

    case: str
    offline_us: float
    server_us: float
    client_us: float
    rows_per_second: float


@dataclass(frozen=True)
class Limits:
    """Everything together."""

    offline: list[Offline]
    noop: list[Noop]
    bounds: dict[str, Bound]
    failed: dict[str, str]

    def to_json(self) -> dict[str, Any]:
        """For a results file."""
        return asdict(self)


def measure(
    root: Path, home: Path, step: Step, venvs: Path, *, quick: bool, names: Sequence[str], cases: Sequence[Case]
) -> Limits:
    """Measure over the checkpoints in `root`; `names` are those of the cases' networks."""
    seconds = 1.5 if quick else 4.0
    forwards, failed = [], {}
    for name, variant, processes, threads in arrangements(names, venvs, quick=quick):
        step(f"offline {name}, {variant}, {processes} x {threads} threads")
        python = _python(venvs, variant)
        try:
            rate, cost = together(python, root, name, variant, processes, threads, seconds)
        except OfflineFailed as error:
            failed[f"{name}, {variant}"] = str(error)
            continue
        forwards.append(Offline(name, variant, processes, threads, rate, cost))
    noops = []
    for case in cases:
        step(f"no-op server, {case.name}")
        noops.append(noop(case, home, 2 if quick else 5))
    bounds = {case.name: bound(case, forwards, noops) for case in cases}
    return Limits(forwards, noops, bounds, failed)


def arrangements(names: Iterable[str], venvs: Path, *, quick: bool) -> list[tuple[str, str, int, int]]:
    """(network, variant, processes, threads) of every offline measurement."""
    openvino = Environment(venvs, "openvino").problem == "" or _has_openvino()
    return [
        (name, variant, processes, threads)
        for name in names
        for variant in offline.variants(name, openvino=openvino, quick=quick)
        for processes, threads in dict.fromkeys(((1, 1), (1, cores()), (cores(), 1)))
        if not quick or processes * threads == cores()
    ]


def bound(case: Case, forwards: Iterable[Offline], noops: Iterable[Noop]) -> Bound:
    """All cores' time over what a row must cost.

    Of the forwards those count that had every core at work, as serving has: one thread on an otherwise idle machine
    may run faster than each of two that share caches and clock.
    """
    name = case.subject.name
    cost = min(each.core_us for each in forwards if each.network == name and each.processes * each.threads == cores())
    server = next(each for each in noops if each.case == case.name)
    total = cost + server.server_us + server.client_us
    return Bound(case.name, cost, server.server_us, server.client_us, 1e6 * cores() / total)


def noop(case: Case, home: Path, seconds: float) -> Noop:
    """Ask a no-op server for what the case asks ours."""
    request = our_request(case)
    with noop_server(home) as server:
        closed_loop(server.url, request, CONNECTIONS, 1, server.mark)  # warms up
        window = closed_loop(server.url, request, CONNECTIONS, seconds, server.mark)
    if window.errors:
        raise ServerFailed(f"the no-op server failed {window.errors} times")
    return Noop(case.name, len(request.body), window.requests_per_second, window.server_cpu_us, window.client_cpu_us)


def noop_server(home: Path) -> Server:
    """Not started yet, but for its `with`; it answers anything."""
    port = free_port()
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    return _Waited([sys.executable, "-P", "-m", "benchmarks.noop", str(port)], environment, home / "noop", port)


class _Waited(Server):
    def __enter__(self) -> "_Waited":
        super().__enter__()
        try:
            self.wait(lambda: self.answers("/"))
        except BaseException:
            self.__exit__()
            raise
        return self


class OfflineFailed(Exception):
    """A variant that does not run here, or answers something else; the text says so."""


def together(
    python: str, root: Path, name: str, variant: str, processes: int, threads: int, seconds: float
) -> tuple[float, float]:
    """Rows a second of several processes at once, and the CPU time of a row in microseconds. Raises OfflineFailed."""
    # As the service's own: without it eager convolutions spend their time on page faults.
    malloc = {"MALLOC_TRIM_THRESHOLD_": str(1 << 30), "MALLOC_MMAP_THRESHOLD_": str(1 << 25)}
    environment = {**os.environ, **malloc, "PYTHONPATH": str(REPOSITORY)}
    arguments = [str(root), name, variant, str(threads), str(seconds)]
    with ExitStack() as stack:
        started = [
            stack.enter_context(
                subprocess.Popen(
                    [python, "-P", "-m", "benchmarks.offline", *arguments],
                    env=environment,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    text=True,
                )
            )
            for _ in range(processes)
        ]
        stack.callback(_kill, started)
        late = Timer(READY_SECONDS, _kill, [started])
        late.start()
        stack.callback(late.cancel)
        for each in started:
            assert each.stdout is not None
            while (line := each.stdout.readline()) not in ("READY\n", ""):
                pass
            if not line:
                assert each.stderr is not None
                raise OfflineFailed(
                    (
                        each.stderr.read().strip().splitlines()
                        or [f"it was not ready within {READY_SECONDS:.0f} seconds"]
                    )[-1]
                )
        late.cancel()
        for each in started:
            assert each.stdin is not None
            each.stdin.write("go\n")
            each.stdin.flush()
        said = [json.loads(each.communicate()[0]) for each in started]
    wanted = said[0]["expected"]
    if wrong := [one["label"] for one in said if one["label"] != wanted]:
        raise OfflineFailed(f"it answers {wrong[0]} where eager PyTorch answers {wanted}")
    return sum(one["rows_per_second"] for one in said), statistics.fmean(one["cpu_us"] for one in said)


def _kill(processes: Iterable[subprocess.Popen[str]]) -> None:
    for each in processes:
        each.kill()


def _python(venvs: Path, variant: str) -> str:
    if not variant.startswith("openvino") or _has_openvino():
        return sys.executable
    return str(Environment(venvs, "openvino").python)


def _has_openvino() -> bool:
    from importlib.util import find_spec

    return find_spec("openvino") is not None


def run(console: Console, venvs: Path, path: Path | None, *, quick: bool) -> None:
    """`python -m benchmarks limits`."""
    homes = Homes()
    try:
        home = homes()
        with progress(console, len(arrangements(SUBJECTS, venvs, quick=quick)) + len(CASES) + 1) as step:
            step("writing the networks")
            write_checkpoints(home / "models")
            limits = measure(
                home / "models", home, step, venvs, quick=quick, names=list(SUBJECTS), cases=list(CASES.values())
            )
    finally:
        homes.remove()
    tell(console, limits)
    keep(path, "limits", quick=quick, limits=limits.to_json())


def tell(console: Console, limits: Limits) -> None:
    """Print the tables."""
    forwards = [
        {
            "network": each.network,
            "forward": each.variant,
            "run as": f"{each.processes} x {each.threads}",
            "rows/s": each.rows_per_second,
            "CPU us a row": each.core_us,
        }
        for each in limits.offline
    ]
    show(console, "forwards without a server, batches of 32; processes x threads", forwards)
    show(console, "a server without a network, 64 connections", [asdict(each) for each in limits.noop])
    show(console, "the bound", [asdict(each) for each in limits.bounds.values()])
    for what, why in limits.failed.items():
        console.print(f"[red]{what}: {why}")
