"""How often 95 % intervals of simulated streams hold the truth."""

import math
from collections.abc import Mapping
from typing import Any

from tests.end_to_end.live_quality.report import Begin, Report
from tests.simulated import HIGHEST, LOWEST, Classes, Coverage, Numbers, Process, coverage_of_wilson, streams

_SIZES = (50, 200, 1000)
# The figures that a claim is about, and from how many rows on. The bootstrap's and DeLong's intervals are for many.
_FROM_ROWS = {"accuracy": 50, "f1_macro": 200, "auc": 200, "log_loss": 200, "mae": 200}


def coverage(count: int, seed: int, begin: Begin) -> Report:
    """Over so many streams of each process and size."""
    processes: list[Process] = [Classes(), Numbers()]
    done = begin(len(processes) * len(_SIZES) * count)
    table: list[dict[str, Any]] = []
    claims = {}
    for process in processes:
        truth = process.truth
        for rows in _SIZES:
            found = {name: Coverage() for name in truth}
            for figures in streams(process, rows, count, seed):
                for name, true in truth.items():
                    found[name].take(figures[name], true)
                done(1)
            for name, one in found.items():
                table.append(_row(name, rows, truth, one))
                if rows >= _FROM_ROWS.get(name, math.inf):
                    claims[f"{name} of {rows} rows: {LOWEST:.0%} to {HIGHEST:.0%}"] = LOWEST <= one.share <= HIGHEST
    chance = 100 * math.sqrt(0.95 * 0.05 / count)
    return Report("coverage", {"streams": count, "standard error, %": round(chance, 2)}, claims, table)


def _row(name: str, rows: int, truth: Mapping[str, float], one: Coverage) -> dict[str, Any]:
    is_claimed = rows >= _FROM_ROWS.get(name, math.inf)
    return {
        "figure": name,
        "rows": rows,
        "truth": f"{truth[name]:.4f}",
        "held, %": f"{100 * one.share:.1f}",
        "truth above": one.above,
        "truth below": one.below,
        "undefined": one.undefined,
        "exactly, %": f"{100 * coverage_of_wilson(truth[name], rows):.1f}" if name == "accuracy" else "-",
        "holds": ("yes" if LOWEST <= one.share <= HIGHEST else "NO") if is_claimed else "-",
    }
