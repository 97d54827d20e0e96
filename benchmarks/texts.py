"""Reviews as they come, of all lengths, to the shipped models that read them: ours beside peers that serve the same."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx
from prometheus_client.parser import text_string_to_metric_families
from rich.console import Console

from benchmarks.compare import compare_all, errors_of, installed, missing, steps_of_pair, tell, tell_missing
from benchmarks.load import Window, closed_loop
from benchmarks.networks import our_request
from benchmarks.ours import Target, serving
from benchmarks.pairing import CONNECTIONS, Stage, effort
from benchmarks.peers.catalog import PEERS
from benchmarks.report import keep, progress, show
from benchmarks.reviews import REVIEWS, Reviews
from tests.end_to_end.service import Homes

_ELEMENTS, _PADDING = "servoloop_batch_elements_total", "servoloop_padding_elements_total"


@dataclass(frozen=True)
class Filled:
    """How full our batches were while reviews came over all connections."""

    case: str
    window: Window
    rows_a_batch: float
    padding: float
    """Of all elements that were run."""


def peers(wanted: Sequence[str] | None = None) -> list[str]:
    """Those of the wanted that are measured on texts."""
    return [name for name in wanted or PEERS if PEERS[name].ask_texts is not None]


def run(console: Console, venvs: Path, names: Sequence[str], path: Path | None, *, quick: bool) -> None:
    """`python -m benchmarks texts`. Exits with 1 where a request failed, ours or a peer's."""
    environments, failed = installed(console, venvs, names)
    cases, work, homes = list(REVIEWS.values()), effort(quick=quick), Homes()
    try:
        with progress(console, 1 + len(cases) * (1 + len(environments) * steps_of_pair(work))) as step:
            step("starting Servoloop")
            with serving(homes) as ours:
                filled = []
                for case in cases:
                    step(f"our batches, {case.name}")
                    filled.append(fill(ours, case, work.window_seconds))
                stage = Stage(homes(), homes, ours, work, step, "eager")
                pairs = compare_all(console, stage, environments, cases, failed)
    finally:
        homes.remove()
    show(console, "our batches of reviews, 64 connections", [_line(one) for one in filled])
    tell(console, pairs)
    found = {
        case.name: min((pair.throughput for pair in pairs if pair.case == case.name), default=None) for case in cases
    }
    show(console, "ours / best peer, requests a second", [{"ratio": name, "value": found[name]} for name in found])
    without = missing(pairs, names, [case.name for case in cases])
    tell_missing(console, without)
    errors = errors_of(pairs) | {f"ours, {one.case}": one.window.errors for one in filled if one.window.errors}
    keep(
        path,
        "texts",
        quick=quick,
        ratios=found,
        missing=without,
        padding={one.case: one.padding for one in filled},
        batches=[{**_line(one), "window": one.window.to_json()} for one in filled],
        failed=failed,
        errors=errors,
        peers={name: {"versions": each.versions()} for name, each in environments.items()},
        pairs=[pair.to_json() for pair in pairs],
    )
    if errors:
        console.print(f"[red]failed requests: {errors}")
        sys.exit(1)


def fill(ours: Target, case: Reviews, seconds: float) -> Filled:
    """Ask for reviews over all connections, and read off the metrics what was run meanwhile."""
    request = our_request(case)
    closed_loop(ours.url, request, CONNECTIONS, seconds, ours.mark)  # until what batches take is learned
    before = _counters(ours.url, case.model)
    window = closed_loop(ours.url, request, CONNECTIONS, seconds, ours.mark)
    after = _counters(ours.url, case.model)
    rows, batches, elements, padding = (late - early for early, late in zip(before, after, strict=True))
    return Filled(case.name, window, rows / batches, padding / elements)


def _counters(url: str, model: str) -> list[float]:
    """Rows, batches, elements and padding of a model so far."""
    text = httpx.get(f"{url}/metrics", timeout=60, trust_env=False).text
    wanted = ("servoloop_batch_rows_sum", "servoloop_batch_rows_count", _ELEMENTS, _PADDING)
    found = {
        sample.name: sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.labels.get("model") == model and sample.name in wanted
    }
    return [found[name] for name in wanted]


def _line(one: Filled) -> dict[str, str | float]:
    return {
        "case": one.case,
        "req/s": one.window.requests_per_second,
        "rows a batch": one.rows_a_batch,
        "padding": one.padding,
        "CPU us": one.window.server_cpu_us,
    }
