"""Servoloop alone: closed loops of more and more connections, then constant rates below saturation.

And what each default costs a row (benchmarks/defaults.py).
"""

import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks import defaults
from benchmarks.load import Window, closed_loop, constant_rate
from benchmarks.networks import CASES, Request, our_request
from benchmarks.ours import Target, serving
from benchmarks.report import Step, keep, progress, show
from benchmarks.throughput import payloads
from tests.end_to_end.service import Homes

CONNECTIONS = (1, 8, 64, 256)
SHARES = (0.5, 0.8)
DEFAULTS = "defaults"
"""What is asked for to see what defaults cost."""


@dataclass(frozen=True)
class Asked:
    """What is asked of Servoloop, under a name for people."""

    name: str
    request: Request


@dataclass(frozen=True)
class Served:
    """One window, and the load that it was under."""

    name: str
    load: str
    window: Window

    def to_json(self) -> dict[str, Any]:
        """For a results file."""
        return {"name": self.name, "load": self.load, **self.window.to_json()}


def everything() -> list[Asked]:
    """The benchmark's networks, then the shipped checkpoints."""
    shipped = (
        Asked(
            f"{one.model}, {one.content_type.rpartition('/')[2]}",
            Request(f"/v1/models/{one.model}/predict", one.content_type, one.body),
        )
        for one in payloads()
    )
    return [*(Asked(case.name, our_request(case)) for case in CASES.values()), *shipped]


def measure(target: Target, asked: Asked, step: Step, seconds: float) -> list[Served]:
    """Every load on one thing."""
    served = []
    step(f"{asked.name}, warming up")
    closed_loop(target.url, asked.request, 64, 2, target.mark)
    for connections in CONNECTIONS:
        step(f"{asked.name}, {connections} connections")
        window = closed_loop(target.url, asked.request, connections, seconds, target.mark)
        served.append(Served(asked.name, f"closed, {connections}", window))
    saturation = max(one.window.requests_per_second for one in served)
    for share in SHARES:
        rate = share * saturation
        step(f"{asked.name}, {rate:.0f} requests a second")
        window = constant_rate(target.url, asked.request, rate, seconds, target.mark)
        served.append(Served(asked.name, f"open, {share:.0%}", window))
    return served


def _line(one: Served) -> dict[str, Any]:
    window = one.window
    return {
        "model": one.name,
        "load": one.load,
        "req/s": window.requests_per_second,
        "p50 ms": window.p50_ms,
        "p99 ms": window.p99_ms,
        "p99.9 ms": window.p999_ms,
        "failed": window.errors,
        "CPU us": window.server_cpu_us,
        "RSS MB": window.rss_mb,
    }


def run(console: Console, path: Path | None, *, quick: bool, cases: Sequence[str] | None) -> None:
    """`python -m benchmarks serve`. Exits with 1 where a request failed."""
    names = [*(one.name for one in everything()), DEFAULTS]
    if unknown := sorted(set(cases or ()) - set(names)):
        raise SystemExit(f"there is no case {unknown[0]!r}; there are: {', '.join(names)}")
    chosen = [one for one in everything() if not cases or one.name in cases]
    costs, served = list[defaults.Cost](), list[Served]()
    with progress(console, 2 + len(chosen) * (1 + len(CONNECTIONS) + len(SHARES))) as step:
        step("what each default costs")
        if not cases or DEFAULTS in cases:
            costs = defaults.measure(quick=quick)
        if chosen:
            served = _served(chosen, step, 2 if quick else 8)
    show(console, "Servoloop, everything on that is on by default", [_line(one) for one in served])
    defaults.tell(console, costs)
    rows = [one.to_json() for one in served]
    keep(path, "serve", quick=quick, windows=rows, defaults=[asdict(one) for one in costs])
    if errors := {f"{one.name}, {one.load}": one.window.errors for one in served if one.window.errors}:
        console.print(f"[red]failed requests: {errors}")
        sys.exit(1)


def _served(chosen: Sequence[Asked], step: Step, seconds: float) -> list[Served]:
    homes = Homes()
    try:
        step("starting Servoloop")
        with serving(homes) as target:
            return [served for asked in chosen for served in measure(target, asked, step, seconds)]
    finally:
        homes.remove()
