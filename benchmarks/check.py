"""Whether Servoloop has become much slower: ratios of one run of under a minute, never absolute times.

The bounds are a third of what was measured when they were set, on two quiet cores (0.17, 0.47 and 0.66): machines that
run checks are noisy and of many kinds, and the bounds are to catch what became several times slower, not a bad day.
"""

import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console

from benchmarks.limits import noop_server, together
from benchmarks.load import Window, closed_loop
from benchmarks.networks import CASES, our_request, write_checkpoints
from benchmarks.ours import serving
from benchmarks.report import cores, progress, show
from benchmarks.serve import everything
from tests.end_to_end.service import Homes

ROUNDS = 3
SECONDS = 2


@dataclass(frozen=True)
class Ratio:
    """Ours / the other; below `least` it is a regression."""

    name: str
    value: float
    least: float

    @property
    def holds(self) -> bool:
        return self.value >= self.least


def measure(console: Console, homes: Homes) -> tuple[list[Ratio], int]:
    """The ratios, and how many requests failed."""
    names = {one.name: one.request for one in everything()}
    path, image = names["house-price, json"], our_request(CASES["cnn_binary"])
    ours_path, ours_image, bare = list[Window](), list[Window](), list[Window]()
    with progress(console, 5 + 3 * ROUNDS) as step:
        step("eager forwards")
        home = homes()
        write_checkpoints(home / "models")
        forward, forward_us = together(sys.executable, home / "models", "cnn", "eager fp32", cores(), 1, SECONDS)
        step("starting the servers")
        with serving(homes, optimised=False) as ours, noop_server(home) as noop:
            for url, request, mark in ((ours.url, path, ours.mark), (ours.url, image, ours.mark), (noop.url, path, "")):
                step("warming up")
                closed_loop(url, request, 64, 1, mark or noop.mark)
            for _ in range(ROUNDS):
                step("no-op server")
                bare.append(closed_loop(noop.url, path, 64, SECONDS, noop.mark))
                step("Servoloop, a network that costs nothing")
                ours_path.append(closed_loop(ours.url, path, 64, SECONDS, ours.mark))
                step("Servoloop, the CNN")
                ours_image.append(closed_loop(ours.url, image, 64, SECONDS, ours.mark))
    ratios = [
        Ratio("requests/s: house-price / no-op server", _rate(ours_path) / _rate(bare), 0.06),
        Ratio("requests/s: CNN / eager forwards of full batches", _rate(ours_image) / forward, 0.15),
        # CPU time, which other programs on the machine change least.
        Ratio("CPU a row: (no-op server + eager forward) / CNN", (_cpu(bare) + forward_us) / _cpu(ours_image), 0.25),
    ]
    return ratios, sum(window.errors for window in (*ours_path, *ours_image, *bare))


def _rate(windows: Sequence[Window]) -> float:
    return statistics.median(window.requests_per_second for window in windows)


def _cpu(windows: Sequence[Window]) -> float:
    return statistics.median(window.server_cpu_us for window in windows)


def run(console: Console) -> None:
    """`python -m benchmarks check`. Exits with 1 where a ratio is below its bound or a request failed."""
    homes = Homes()
    try:
        ratios, errors = measure(console, homes)
    finally:
        homes.remove()
    rows = [{"ratio": one.name, "value": one.value, "at least": one.least, "holds": one.holds} for one in ratios]
    show(console, "ratios of one run", rows)
    if errors:
        console.print(f"[red]{errors} requests failed")
    if errors or not all(one.holds for one in ratios):
        sys.exit(1)
