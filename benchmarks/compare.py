"""Servoloop beside its peers, and beside what the machine allows, all in one run."""

import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks import limits as limit
from benchmarks.load import LoadFailed
from benchmarks.networks import CASES, Case, write_checkpoints
from benchmarks.ours import serving
from benchmarks.pairing import ALONE, Effort, Pair, Stage, compare, effort, median, settings
from benchmarks.peers.catalog import PEERS, Backend
from benchmarks.peers.environments import Environment
from benchmarks.plot import draw
from benchmarks.processes import ServerFailed
from benchmarks.report import keep, progress, show
from benchmarks.reviews import Reviews
from tests.end_to_end.service import Homes


@dataclass(frozen=True)
class Comparison:
    """Which peers on which cases, how they run the network, and whether a look will do."""

    peers: Sequence[str]
    cases: Sequence[str]
    backend: Backend
    quick: bool


def run(
    console: Console,
    venvs: Path,
    what: Comparison,
    path: Path | None,
    picture: Path | None,
) -> None:
    """`python -m benchmarks peers`. Exits with 1 where a request failed, ours or a peer's."""
    quick = what.quick
    chosen = [CASES[name] for name in what.cases]
    environments, failed = installed(console, venvs, what.peers)
    subjects = list(dict.fromkeys(case.subject.name for case in chosen))
    work = effort(quick=quick)
    steps = len(limit.arrangements(subjects, venvs, quick=quick)) + len(chosen) + 1
    steps += len(environments) * len(chosen) * steps_of_pair(work)
    homes = Homes()
    try:
        with progress(console, steps) as step:
            step("starting Servoloop")
            networks = homes() / "models"
            write_checkpoints(networks)
            limits = limit.measure(networks, homes(), step, venvs, quick=quick, names=subjects, cases=chosen)
            with serving(homes) as ours:
                stage = Stage(networks, homes, ours, work, step, what.backend)
                pairs = compare_all(console, stage, environments, chosen, failed)
    finally:
        homes.remove()
    limit.tell(console, limits)
    found = ratios(pairs, limits)
    tell(console, pairs)
    without = missing(pairs, what.peers, what.cases)
    show(console, "ratios", [{"ratio": name, "value": value} for name, value in found.items() if value])
    tell_missing(console, without)
    errors = errors_of(pairs)
    keep(
        path,
        "peers",
        quick=quick,
        peers_run=what.backend,
        ratios=found,
        missing=without,
        failed=failed,
        errors=errors,
        peers={name: {"versions": each.versions()} for name, each in environments.items()},
        pairs=[pair.to_json() for pair in pairs],
        limits=limits.to_json(),
    )
    if picture is not None and pairs:
        draw(pairs, limits, picture)
    if errors:
        console.print(f"[red]failed requests: {errors}")
        sys.exit(1)


def installed(console: Console, venvs: Path, names: Iterable[str]) -> tuple[dict[str, Environment], dict[str, str]]:
    """The environments of these peers, and why some can't be used. Exits where none can."""
    environments = {name: Environment(venvs, name) for name in names}
    failed = {name: problem for name, each in environments.items() if (problem := each.problem)}
    for name, problem in failed.items():
        console.print(f"[yellow]without {name}: {problem}")
    if len(failed) == len(environments):
        raise SystemExit("none of these peers is installed: python -m benchmarks peers --install")
    return {name: each for name, each in environments.items() if name not in failed}, failed


def steps_of_pair(work: Effort) -> int:
    """How many steps of a progress bar `compare` takes."""
    return len(settings(work)) + len(work.waits_ms)


def compare_all(
    console: Console,
    stage: Stage,
    environments: Mapping[str, Environment],
    cases: Sequence[Case | Reviews],
    failed: dict[str, str],
) -> list[Pair]:
    """Every peer on every case; what went wrong is told, and added to `failed`."""
    pairs = []
    for case in cases:
        for name, environment in environments.items():
            try:
                pairs.append(compare(stage, PEERS[name], environment, case))
            except (ServerFailed, LoadFailed, TimeoutError) as error:
                failed[f"{name}, {case.name}"] = str(error)
                console.print(f"{name}, {case.name}: {error}", style="red", markup=False)
    return pairs


def tell(console: Console, pairs: Iterable[Pair]) -> None:
    """Print a line for each pair."""
    title = "requests/s over 64 connections; ours / peer: of it, of p99 at half load, of p50 alone"
    show(console, title, [_line(pair) for pair in pairs])


def missing(pairs: Iterable[Pair], peers: Iterable[str], cases: Iterable[str]) -> dict[str, list[str]]:
    """The peers that were wanted but not measured, for each case whose ratios are without any."""
    measured = {(pair.peer, pair.case) for pair in pairs}
    wanted = list(peers)
    found = {case: [peer for peer in wanted if (peer, case) not in measured] for case in cases}
    return {case: names for case, names in found.items() if names}


def tell_missing(console: Console, without: Mapping[str, Sequence[str]]) -> None:
    """Say that a best peer may not be the best."""
    for case, names in without.items():
        console.print(f"[bold red]{case}: its ratios are WITHOUT {', '.join(names)}, which could not be measured")


def errors_of(pairs: Iterable[Pair]) -> dict[str, int]:
    """The pairs in which requests failed, and how many."""
    return {f"{pair.peer}, {pair.case}": pair.errors for pair in pairs if pair.errors}


def ratios(pairs: Iterable[Pair], limits: limit.Limits) -> dict[str, float | None]:
    """Ours / best peer in throughput; ours / bound; p50 alone and p99 at half load, ours / best peer's.

    A ratio is of windows that alternated, so a peer is compared with ours of its own pair. The best peer is the one
    that leaves us least. None where nothing was measured.
    """
    pairs = list(pairs)
    found: dict[str, float | None] = {}
    for case in CASES.values():
        of_case = [pair for pair in pairs if pair.case == case.name]
        found[case.name] = min((pair.throughput for pair in of_case), default=None)
    for case in CASES.values():
        of_case = [pair for pair in pairs if pair.case == case.name]
        if case.format == "binary":
            bound = limits.bounds.get(case.name)
            windows = [window for pair in of_case for window in pair.ours]
            rate = median(windows, "requests_per_second") if windows else None
            found[f"bound_{case.name}"] = rate / bound.rows_per_second if rate and bound else None
    for case in CASES.values():
        of_case = [pair for pair in pairs if pair.case == case.name]
        if case.name in ALONE:
            alone = [pair.alone for pair in of_case if pair.alone is not None]
            found[f"single_{case.subject.name}"] = max(alone, default=None)
    for case in CASES.values():
        of_case = [pair for pair in pairs if pair.case == case.name]
        best = min(of_case, key=lambda pair: pair.throughput, default=None)
        found[f"p99_at_half_{case.name}"] = best.p99_at_half if best else None
    return found


def _line(pair: Pair) -> dict[str, Any]:
    return {
        "case": pair.case,
        "peer": pair.peer,
        "run as": f"{pair.setting.workers} x {pair.setting.threads}, {pair.setting.max_wait_ms:g} ms",
        "ours/s": median(pair.ours, "requests_per_second"),
        "peer/s": median(pair.theirs, "requests_per_second"),
        "ratio": pair.throughput,
        "p99": pair.p99_at_half,
        "alone": pair.alone,
        "failed": pair.errors,
    }
