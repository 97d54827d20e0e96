"""Where the time of a request goes: `python -m benchmarks.stages [--case NAME ...] [--share S] [--json FILE]`.

Asks each of the benchmark's networks over one connection, and at a constant rate that is a share of what 64 connections
reach, and prints what a client saw beside what each stage took by /metrics: the rest of a mean is HTTP, the sockets and
the client itself. The p99 of stages are those of each stage alone, and do not add up.
"""

import argparse
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from rich.console import Console

from benchmarks.load import Window, closed_loop, constant_rate
from benchmarks.networks import CASES, Case, our_request
from benchmarks.ours import Target, serving
from benchmarks.report import keep, progress, show
from benchmarks.scraped import Difference, Snapshot
from tests.end_to_end.service import Homes

STAGES = ("parse", "preprocess", "queue", "compute", "encode")
_STAGE, _REQUEST, _BATCH = (
    "servoloop_stage_duration_seconds",
    "servoloop_request_duration_seconds",
    "servoloop_batch_rows",
)


@dataclass(frozen=True)
class Took:
    """Milliseconds of a request under one load: as a client saw them, and by stage."""

    case: str
    load: str
    client_p50: float
    client_p99: float
    request_mean: float
    parse: float
    preprocess: float
    queue: float
    compute: float
    encode: float
    queue_p99: float
    compute_p99: float
    rows_a_batch: float


def measure(target: Target, case: Case, share: float, seconds: float) -> list[Took]:
    """One case alone on one connection, then at a constant rate."""
    request = our_request(case)
    full = closed_loop(target.url, request, 64, seconds, target.mark)
    rate = share * full.requests_per_second
    found = []
    before = Snapshot.of(target.url)
    window = closed_loop(target.url, request, 1, seconds, target.mark)
    found.append(_took(case, "alone", window, Difference(before, Snapshot.of(target.url))))
    before = Snapshot.of(target.url)
    window = constant_rate(target.url, request, rate, seconds, target.mark)
    found.append(
        _took(case, f"{rate:.0f}/s of {rate / share:.0f}", window, Difference(before, Snapshot.of(target.url)))
    )
    return found


def _took(case: Case, load: str, window: Window, counted: Difference) -> Took:
    model = case.subject.name
    means = {stage: counted.mean_ms(_STAGE, model=model, stage=stage) for stage in STAGES}
    batches = counted.value(f"{_BATCH}_count", model=model)
    return Took(
        case.name,
        load,
        window.p50_ms,
        window.p99_ms,
        counted.mean_ms(_REQUEST, model=model),
        **means,
        queue_p99=counted.quantile_ms(_STAGE, 0.99, model=model, stage="queue"),
        compute_p99=counted.quantile_ms(_STAGE, 0.99, model=model, stage="compute"),
        rows_a_batch=counted.value(f"{_BATCH}_sum", model=model) / batches if batches else 0.0,
    )


def main() -> None:
    """Measure and print; with --json also keep."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.stages", description=__doc__)
    parser.add_argument("--case", nargs="+", choices=CASES, default=list(CASES), metavar="NAME", help=", ".join(CASES))
    parser.add_argument("--share", type=float, default=0.4, help="of what 64 connections reach")
    parser.add_argument("--seconds", type=float, default=10.0, help="of each window")
    parser.add_argument("--json", type=Path, help="write the figures to this file too")
    arguments = parser.parse_args()
    console, homes, found = Console(), Homes(), list[Took]()
    try:
        with progress(console, 1 + len(arguments.case)) as step:
            step("starting Servoloop, which finds out what is best to run each network")
            with serving(homes) as target:
                for name in arguments.case:
                    step(name)
                    found += measure(target, CASES[name], arguments.share, arguments.seconds)
    finally:
        homes.remove()
    rows = [asdict(one) for one in found]
    shown = [
        {"": one.name, **{f"{row['case']}, {row['load']}": row[one.name] for row in rows}}
        for one in fields(Took)
        if one.name not in ("case", "load")
    ]
    show(console, "milliseconds of a request: as its client saw it, and the mean of each stage", shown)
    keep(arguments.json, "stages", quick=False, share=arguments.share, stages=rows)


if __name__ == "__main__":
    main()
