"""What the prediction log and kept inputs cost at full load: `python -m benchmarks.keeping [--json FILE] [--rounds N]`.

Services that keep different things run side by side and are asked in turns, a few seconds each, in an order that is
drawn anew in each round (wrk, closed loop, 64 connections, one row a request). A figure is the median over rounds of a
service's throughput beside that of the one that keeps nothing, in the same round. `again` is another one that keeps
nothing: what it seems to cost is what can't be told from noise.
"""

import argparse
import contextlib
import os
import random
import statistics
from collections import defaultdict
from pathlib import Path
from typing import Any
from unittest import mock

from rich.console import Console

from benchmarks.report import keep, progress, show
from benchmarks.throughput import Payload, measure, payloads
from tests.end_to_end.service import Homes, Service

_NOTHING, _AGAIN = "nothing", "again"
_KEPT = {
    _NOTHING: "none",
    _AGAIN: "none",
    "log": "none",
    "log, sample of inputs": "sample",
    "log, all inputs": "all",
}
_UNLOGGED = Path(__file__).parent / "unlogged"
_CONNECTIONS, _SECONDS = 64, 3
_MODELS = ("house-price", "fashion")


def started(stack: contextlib.ExitStack, homes: Homes, what: str) -> Service:
    """A service that keeps this of predictions."""
    path = {"PYTHONPATH": str(_UNLOGGED)} if what in (_NOTHING, _AGAIN) else {}
    with mock.patch.dict(os.environ, path):
        return stack.enter_context(Service(homes(), capture=_KEPT[what])).wait_ready()


def in_turns(services: dict[str, Service], payload: Payload, rounds: int, console: Console) -> dict[str, list[float]]:
    """Requests a second of each service in every round."""
    draw, found = random.Random(0), defaultdict[str, list[float]](list)
    order = list(services)
    with progress(console, (rounds + 1) * len(order)) as step:
        for number in range(rounds + 1):
            draw.shuffle(order)
            for what in order:
                step(f"{payload.model}, {what}")
                rate = measure(services[what].url, payload, _CONNECTIONS, _SECONDS).requests_per_second
                if number:  # the first round warms up
                    found[what].append(rate)
    return found


def figures(model: str, found: dict[str, list[float]]) -> list[dict[str, Any]]:
    """A line for each service."""
    lines = []
    for what in _KEPT:
        ratios = [rate / bare for rate, bare in zip(found[what], found[_NOTHING], strict=True)]
        lines.append(
            {
                "model": model,
                "kept": what,
                "requests a second": statistics.median(found[what]),
                "of nothing kept": statistics.median(ratios),
                "least": min(ratios),
                "most": max(ratios),
            }
        )
    return lines


def main() -> None:
    """Measure and print; with --json also keep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--json", type=Path, help="write the figures to this file too")
    arguments = parser.parse_args()
    console, homes = Console(), Homes()
    sent = {payload.model: payload for payload in payloads() if payload.content_type == "application/json"}
    lines = []
    try:
        with contextlib.ExitStack() as stack:
            services = {what: started(stack, homes, what) for what in _KEPT}
            for model in _MODELS:
                lines += figures(model, in_turns(services, sent[model], arguments.rounds, console))
    finally:
        homes.remove()
    show(console, "throughput by what is kept of predictions, 64 connections", lines)
    keep(arguments.json, "python -m benchmarks.keeping", quick=False, keeping=lines)


if __name__ == "__main__":
    main()
