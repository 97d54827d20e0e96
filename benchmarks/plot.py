"""The picture of a comparison: requests a second of ours and each peer, and the bound."""

import statistics
from collections.abc import Sequence
from pathlib import Path

from benchmarks.limits import Limits
from benchmarks.pairing import Pair, median

_TITLES = {
    "cnn_binary": "CNN 3x32x32, 12 KB binary",
    "cnn_json": "CNN 3x32x32, 29 KB JSON",
    "lstm": "LSTM, 100 tokens",
    "transformer": "Transformer, 128 tokens",
}
_OURS, _PEER, _BOUND = "#1b6ca8", "#b8c4ce", "#c0392b"


def draw(pairs: Sequence[Pair], limits: Limits, path: Path) -> None:
    """Write a PNG with a panel for each case."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    cases = list(dict.fromkeys(pair.case for pair in pairs))
    figure, axes = pyplot.subplots(1, len(cases), figsize=(3.6 * len(cases), 3.4), squeeze=False, layout="constrained")
    for axis, case in zip(axes[0], cases, strict=True):
        of_case = [pair for pair in pairs if pair.case == case]
        ours = statistics.median(median(pair.ours, "requests_per_second") for pair in of_case)
        bars = {"Servoloop": ours, **{pair.peer: median(pair.theirs, "requests_per_second") for pair in of_case}}
        names = sorted(bars, key=lambda name: bars[name])
        drawn = axis.barh(names, [bars[name] for name in names])
        for name, bar in zip(names, drawn, strict=True):
            bar.set_color(_OURS if name == "Servoloop" else _PEER)
        axis.bar_label(drawn, labels=[f"{bars[name]:,.0f}" for name in names], padding=3, fontsize=8)
        if case in limits.bounds:
            bound = limits.bounds[case].rows_per_second
            axis.axvline(bound, color=_BOUND, linestyle="--", linewidth=1)
            axis.annotate(
                f"bound {bound:,.0f}", (bound, -0.45), color=_BOUND, fontsize=8, rotation=90, ha="right", va="bottom"
            )
            axis.set_xlim(0, 1.08 * max(bound, *bars.values()))
        axis.set_title(_TITLES.get(case, case), fontsize=10)
        axis.spines[["top", "right"]].set_visible(False)
        axis.tick_params(labelsize=8)
        axis.set_xlabel("requests/s, 64 connections", fontsize=8)
    figure.savefig(path, dpi=140)
    pyplot.close(figure)
