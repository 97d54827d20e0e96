"""What each default costs a row in CPU time: prediction log, metrics, ids, validation.

`python -m benchmarks.defaults [--quick]`; `python -m benchmarks serve` has the same rows. Applications that differ in
one default run side by side in this process and take turns, some 10 ms each, in an order that is drawn anew in each
cycle; a cost is the median of the differences within cycles. `nothing` is a second application with everything
on: what it seems to cost is what can't be told from noise. Rows are 12 KB of float32.

The log costs its share of the recorder's process too, which is measured by itself.
"""

import argparse
import contextlib
import json
import math
import os
import random
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack, ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import uvloop
from rich.console import Console

from benchmarks import recording
from benchmarks.application import Running, application, catalog, rows, standing_in
from benchmarks.report import show
from service.process.lifetime import settle
from service.telemetry import instruments

DEFAULTS = ("log", "metrics", "ids", "validation")
NOTHING = "nothing"
_ALL = "all"
_PAYLOAD = "npy"
# Short turns: what disturbs one disturbs those beside it too. But the log shall gather some records before it sends.
_CALLS = 64
_RECORDS = 4_000
_RECORDS_PER_SECOND = 4_000
# Not a UUID: the standard library takes longer to write one out than ours takes to make one.
_ID = "01890a5d-ac96-774b-bcce-b302099a8057"
_REPOSITORY = Path(__file__).parent.parent


@dataclass(frozen=True)
class Cost:
    """CPU microseconds a row in one kind of process; the median lies in `least` to `most` with 95 % confidence."""

    default: str
    process: str
    us_a_row: float
    least: float
    most: float
    samples: int

    @staticmethod
    def of(default: str, process: str, samples: Sequence[float]) -> "Cost":
        """The interval is that of the sign test, which asks nothing of how samples are distributed."""
        ordered, many = sorted(samples), len(samples)
        aside = max(0, math.floor(many / 2 - 0.98 * math.sqrt(many)))
        least, most = ordered[aside], ordered[many - 1 - aside]
        return Cost(default, process, statistics.median(ordered), least, most, many)


class _NoInstrument:
    """Stands for every instrument and every method of one. The clock is still read for them."""

    def __call__(self, *_: Any, **__: Any) -> Any:
        return self

    __getattr__ = __call__
    # In C, and of any arguments: what is called for each row must cost next to nothing.
    add = observe = staticmethod("".format)


@contextlib.contextmanager
def _without(what: str) -> Iterator[None]:
    """Switch a default off, for applications that are made within the block and as long as they run within it."""
    with ExitStack() as stack:

        def replaced(target: str, by: Any) -> None:
            stack.enter_context(mock.patch(target, by))

        match what:
            case "metrics":
                for kind in ("Counter", "Gauge", "Histogram", "TalliedHistogram", "Tally"):
                    replaced(f"{instruments.__name__}.{kind}", _NoInstrument())
            case "ids":
                replaced("service.serving.pipeline.uuid7", lambda: _ID)
                replaced("service.api.callers.uuid7", lambda: _ID)
            case "validation":
                replaced(
                    "service.serving.codec.checked_rows", lambda rows, _, **__: rows.astype(np.float32, copy=False)
                )
        yield


async def in_turns(folder: Path, cycles: int) -> list[Cost]:
    """What each default costs the http process, and what all of a row costs it. Needs `standing_in`."""
    found, payload = catalog(), rows()[_PAYLOAD]
    order, draw = [_ALL, NOTHING, *DEFAULTS], random.Random(0)
    took: dict[str, list[float]] = {what: [] for what in order}
    async with AsyncExitStack() as stack:
        running = dict[str, Running]()
        for what in order:
            with _without(what):
                running[what] = await stack.enter_async_context(application(folder, found, logs=what != "log"))

        async def turn(what: str) -> float:
            with _without(what):
                return await running[what].cpu_us(payload, _CALLS)

        settle()
        for what in order:
            await turn(what)  # warms up
        for _ in range(cycles):
            draw.shuffle(order)
            for what in order:
                took[what].append(await turn(what))
    costs = [Cost.of(_ALL, "http", took[_ALL])]
    for what in (*DEFAULTS, NOTHING):
        differences = [on - off for on, off in zip(took[_ALL], took[what], strict=True)]
        costs.append(Cost.of(what, "http", differences))
    return costs


async def recorded(rounds: int) -> Cost:
    """What the log costs the recorder, at a constant rate of one-row requests."""
    costs = [await recording.measure("sqlite", None, _RECORDS, _RECORDS_PER_SECOND) for _ in range(rounds)]
    return Cost.of("log", "recorder", [cost.recorder for cost in costs])


async def everything(folder: Path, *, quick: bool) -> list[Cost]:
    """All costs: of the http process first, then of the recorder. Needs `standing_in`."""
    return [*await in_turns(folder, 200 if quick else 600), await recorded(6 if quick else 12)]


def measure(*, quick: bool) -> list[Cost]:
    """The same, in a process of its own: whoever starts services must not be an http process itself."""
    command = [sys.executable, "-P", "-m", "benchmarks.defaults", "--raw", *(["--quick"] if quick else [])]
    environment = {**os.environ, "PYTHONPATH": str(_REPOSITORY)}
    said = subprocess.run(command, env=environment, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, check=True)
    return [Cost(**cost) for cost in json.loads(said.stdout)]


def tell(console: Console, costs: Sequence[Cost]) -> None:
    """Print a line for each cost."""
    lines = [
        {
            "default": one.default,
            "process": one.process,
            "CPU us a row": one.us_a_row,
            "95 % of it": f"{one.least:.1f} to {one.most:.1f}",
        }
        for one in costs
    ]
    show(console, "what each default costs; `all` is a row with everything on, `nothing` is the noise", lines)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.defaults", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer cycles: for a look, not for a claim")
    parser.add_argument("--raw", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="sl-") as home, standing_in(Path(home)):
        costs = uvloop.run(everything(Path(home), quick=arguments.quick))
    if arguments.raw:
        print(json.dumps([asdict(cost) for cost in costs]))
    else:
        tell(Console(), costs)


if __name__ == "__main__":
    main()
