"""How long a user waits for the first answer of a service that was started before."""

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import httpx
from rich.console import Console

from benchmarks.load import ask
from benchmarks.networks import Request
from benchmarks.ours import CHOOSING_SECONDS
from benchmarks.report import Step, keep, progress, show
from benchmarks.throughput import payloads
from tests.end_to_end.service import Homes, Service

ROUNDS = 5
_PATIENCE_SECONDS = 60.0


@dataclass(frozen=True)
class Start:
    """Seconds from the command to the first answer to a prediction, and until /readyz said 200."""

    first_answer: float
    ready: float


def measure(step: Step, homes: Homes, *, rounds: int) -> tuple[list[Start], list[Start]]:
    """Starts in a data directory that is there, and in the same once back ends were chosen for the shipped models."""
    home = homes()
    step("the first start, which does not count")
    with _running(home, optimize="manual") as service:
        service.wait_ready()
    plain = list(_starts(step, home, rounds, "on PyTorch"))
    step("choosing back ends")
    with _running(home, optimize="auto", optimize_max_busy=1) as service:
        service.wait_ready()
        service.wait_chosen(CHOOSING_SECONDS)
    return plain, list(_starts(step, home, rounds, "on what was chosen"))


def _starts(step: Step, home: Path, rounds: int, how: str) -> Iterator[Start]:
    for number in range(rounds):
        step(f"start {number + 1} of {rounds}, {how}")
        yield _start(home)


def _start(home: Path) -> Start:
    payload = next(one for one in payloads() if one.model == "fashion")
    request = Request(f"/v1/models/{payload.model}/predict", payload.content_type, payload.body)
    began = time.perf_counter()
    with _running(home, optimize="manual") as service:
        first = _until(lambda: ask(service.url, request).status_code == 200, began)
        ready = _until(lambda: service.client.get("/readyz").status_code == 200, began)
    return Start(first, ready)


def _until(answers: Callable[[], bool], began: float) -> float:
    while time.perf_counter() - began < _PATIENCE_SECONDS:
        try:
            if answers():
                return time.perf_counter() - began
        except httpx.TransportError:
            time.sleep(0.01)
    raise TimeoutError(f"no answer within {_PATIENCE_SECONDS:.0f} seconds")


@contextmanager
def _running(home: Path, **settings: object) -> Iterator[Service]:
    with Service(home, **settings) as service:
        yield service


def run(console: Console, path: Path | None, *, quick: bool) -> None:
    """`python -m benchmarks start`."""
    rounds, homes = 3 if quick else ROUNDS, Homes()
    try:
        with progress(console, 2 + 2 * rounds) as step:
            plain, chosen = measure(step, homes, rounds=rounds)
    finally:
        homes.remove()
    rows = [_line("PyTorch", plain), _line("what was chosen for each", chosen)]
    show(console, "a start after the first; seconds from the command, medians", rows)
    keep(path, "start", quick=quick, plain=[asdict(one) for one in plain], chosen=[asdict(one) for one in chosen])


def _line(how: str, starts: Sequence[Start]) -> dict[str, Any]:
    return {
        "the shipped models run on": how,
        "first answer": statistics.median(one.first_answer for one in starts),
        "longest": max(one.first_answer for one in starts),
        "ready": statistics.median(one.ready for one in starts),
    }
