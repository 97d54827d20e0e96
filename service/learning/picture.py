"""What is measured, drawn.

An evaluation: what was taken for what, whether confidence means what it says, and how it went over time. Drift: every
distribution beside the reference's.
"""

import io
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from service.errors import NotSupported

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Form = Literal["png", "svg"]
_Part = Callable[[Any, Any], None]
"""Draws its content on axes."""

_INCHES = 4.2
_DOTS_AN_INCH = 110
# Of more labels no number and no name could be read.
_MOST_NAMED_LABELS = 20
# Of more features, those that are farthest.
_MOST_FEATURES = 6
_MOST_COLUMNS = 4
_NOTHING = "nothing is known yet"
_BLUE, _GREY, _RED = "#2a6fb0", "#8a8f98", "#b3261e"


def draw_evaluation(evaluation: Mapping[str, Any], form: Form) -> bytes:
    """The picture of what GET /v1/models/{model}/evaluation answers. Raises NotSupported without matplotlib."""
    parts: list[tuple[_Part, str]] = [
        (_draw_confusion, "confusion_matrix"),
        (_draw_reliability, "reliability"),
        (_draw_residuals, "residuals"),
        (_draw_over_time, "over_time"),
    ]
    there = [(part, evaluation[name]) for part, name in parts if evaluation["n"] and evaluation.get(name)]
    return _drawn(_title(evaluation), there, form)


def draw_drift(answer: Mapping[str, Any], form: Form) -> bytes:
    """The picture of what GET /v1/models/{model}/drift answers. Raises NotSupported without matplotlib."""
    inputs = sorted(answer["inputs"].items(), key=lambda one: -(one[1]["psi"] or 0.0))
    every = [*inputs[:_MOST_FEATURES], *((name, answer[name]) for name in ("predictions", "confidence"))]
    there = [(_draw_compared, (name, one)) for name, one in every if one is not None and one["psi"] is not None]
    estimate = answer["estimated_accuracy"]
    seems = "" if estimate is None else f"\nestimated accuracy {_written(estimate)}"
    colours = "\ngrey: the reference, blue: the latest" if there else ""
    title = f"{answer['model']} version {answer['version']}: {answer['n']} latest predictions{seems}{colours}"
    return _drawn(title, there, form, nothing=answer["reference"].get("reason") or _NOTHING)


def _drawn(title: str, parts: Sequence[tuple[_Part, Any]], form: Form, nothing: str = _NOTHING) -> bytes:
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.backends.backend_svg import FigureCanvasSVG
        from matplotlib.figure import Figure
    except ModuleNotFoundError:
        raise NotSupported("a picture", "application/json, or a service with servoloop[plots]") from None
    columns = min(_MOST_COLUMNS, max(1, len(parts)))
    rows = -(-max(1, len(parts)) // columns)
    size = (_INCHES * columns, _INCHES * rows + 0.6)
    figure = Figure(figsize=size, dpi=_DOTS_AN_INCH, layout="constrained")
    figure.suptitle(title, fontsize=10)
    axes = figure.subplots(rows, columns, squeeze=False).flatten()
    for each in axes:
        each.set_axis_off()
    for (part, content), each in zip(parts, axes, strict=False):
        each.set_axis_on()
        part(each, content)
    if not parts:
        axes[0].text(0.5, 0.5, nothing, ha="center", va="center", color=_GREY, wrap=True)
    canvas = FigureCanvasAgg(figure) if form == "png" else FigureCanvasSVG(figure)
    file = io.BytesIO()
    # Without a date, the same content gives the same bytes.
    metadata: dict[str, Any] = {"Date": None} if form == "svg" else {}
    canvas.print_figure(file, format=form, metadata=metadata)
    return file.getvalue()


def _title(evaluation: Mapping[str, Any]) -> str:
    version = f" version {evaluation['version']}" if evaluation["version"] else ""
    tagged = f", {evaluation['slice']}" if evaluation["slice"] else ""
    known = f"{evaluation['n']} of {evaluation['predictions']} predictions have a label"
    metrics = evaluation["metrics"]
    main = next((f": {name} {_written(metrics[name])}" for name in ("accuracy", "mae") if name in metrics), "")
    return f"{evaluation['model']}{version}{tagged}{main}\n{known}"


def _written(figure: Mapping[str, Any]) -> str:
    if figure["value"] is None:
        return "undefined"
    bounds = "" if figure.get("low") is None else f" ({figure['low']:.3g} to {figure['high']:.3g})"
    return f"{figure['value']:.3g}{bounds}"


def _draw_confusion(axes: "Axes", matrix: Mapping[str, Any]) -> None:
    labels, counts = matrix["labels"], matrix["counts"]
    # Each row as shares of itself: rare labels are seen too.
    shares = [[count / max(1, sum(row)) for count in row] for row in counts]
    axes.imshow(shares, cmap="Blues", vmin=0.0, vmax=1.0)
    axes.set(title="was (row), taken for (column)")
    if len(labels) > _MOST_NAMED_LABELS:
        return
    axes.set_xticks(range(len(labels)), labels, rotation=60, ha="right", fontsize=7)
    axes.set_yticks(range(len(labels)), labels, fontsize=7)
    for row, (row_counts, row_shares) in enumerate(zip(counts, shares, strict=True)):
        for column, (count, share) in enumerate(zip(row_counts, row_shares, strict=True)):
            if count:
                color = "white" if share > 0.5 else "black"
                axes.text(column, row, str(count), ha="center", va="center", fontsize=6, color=color)


def _draw_reliability(axes: "Axes", bins: list[Mapping[str, Any]]) -> None:
    confidence = [one["confidence"] for one in bins]
    hits = [one["accuracy"]["value"] for one in bins]
    below = [one["accuracy"]["value"] - one["accuracy"]["low"] for one in bins]
    above = [one["accuracy"]["high"] - one["accuracy"]["value"] for one in bins]
    axes.plot([0, 1], [0, 1], color=_GREY, linewidth=1, linestyle="--")
    axes.errorbar(confidence, hits, yerr=[below, above], color=_BLUE, marker="o", markersize=4, linewidth=1, capsize=2)
    axes.set(title="reliability", xlabel="confidence", ylabel="share that was right", xlim=(0, 1), ylim=(0, 1))


def _draw_residuals(axes: "Axes", residuals: Mapping[str, Any]) -> None:
    axes.stairs(residuals["counts"], residuals["edges"], fill=True, color=_BLUE)
    axes.axvline(0, color=_GREY, linewidth=1, linestyle="--")
    axes.set(title="residuals", xlabel="actual - predicted", ylabel="predictions")


def _draw_over_time(axes: "Axes", over_time: Mapping[str, Any]) -> None:
    points = [point for point in over_time["points"] if point["value"] is not None]
    starts, ends = (_times([point[bound] for point in points]) for bound in ("from", "to"))
    times = starts + (ends - starts) / 2
    # Not every value has bounds: of one row there are none.
    low, high = (np.array([point[bound] for point in points], np.float64) for bound in ("low", "high"))
    bounded = ~np.isnan(low)
    axes.fill_between(times, low, high, color=_BLUE, alpha=0.2, linewidth=0)
    # A band between points would not show the interval of one that stands alone.
    axes.vlines(times[bounded], low[bounded], high[bounded], color=_BLUE, alpha=0.4, linewidth=1)
    axes.plot(times, [point["value"] for point in points], color=_BLUE, marker="o", markersize=3, linewidth=1)
    axes.set_xlim(*_times([over_time["points"][0]["from"], over_time["points"][-1]["to"]]))
    axes.set(title=f"{over_time['metric']} over time (UTC)")
    axes.tick_params(axis="x", labelrotation=30, labelsize=7)


def _times(written: Sequence[str]) -> np.ndarray[Any, np.dtype[np.datetime64]]:
    # numpy knows no zones: all times are UTC.
    return np.array([time.partition("+")[0] for time in written], "datetime64[ms]")


def _draw_compared(axes: "Axes", named: tuple[str, Mapping[str, Any]]) -> None:
    name, one = named
    verdict = {True: "drifted", False: "as in the reference", None: "too few to say"}[one["drifted"]]
    axes.set_title(f"{name}: PSI {one['psi']:.2g}, {verdict}", color=_RED if one["drifted"] else "black", fontsize=9)
    shares = [np.array(one[which]) / max(1, sum(one[which])) for which in ("reference", "counts")]
    if "labels" in one:
        places = np.arange(len(one["labels"]))
        for shift, share, color in zip((-0.2, 0.2), shares, (_GREY, _BLUE), strict=True):
            axes.bar(places + shift, share, width=0.4, color=color)
        if len(places) <= _MOST_NAMED_LABELS:
            axes.set_xticks(places, one["labels"], rotation=60, ha="right", fontsize=7)
    else:
        # Bins are of different widths, each with its share of the rows: by their number, all are seen.
        edges = np.arange(len(one["edges"]))
        axes.stairs(shares[0], edges, fill=True, color=_GREY, alpha=0.5)
        axes.stairs(shares[1], edges, color=_BLUE, linewidth=1.5)
        step = max(1, len(edges) // 6)
        names = [f"{edge:.0f}" if abs(edge) >= 1000 else f"{edge:.3g}" for edge in one["edges"][::step]]
        axes.set_xticks(edges[::step], names, rotation=60, ha="right", fontsize=7)
    axes.set_ylabel("share of the rows", fontsize=8)
