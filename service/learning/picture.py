"""An evaluation drawn: what was taken for what, whether confidence means what it says, and how it went over time."""

import io
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from service.errors import NotSupported

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Form = Literal["png", "svg"]

_INCHES = 4.2
_DOTS_AN_INCH = 110
# Of more labels no number and no name could be read.
_MOST_NAMED_LABELS = 20
_BLUE, _GREY = "#2a6fb0", "#8a8f98"


def draw(evaluation: Mapping[str, Any], form: Form) -> bytes:
    """The picture of what GET /v1/models/{model}/evaluation answers. Raises NotSupported without matplotlib."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.backends.backend_svg import FigureCanvasSVG
        from matplotlib.figure import Figure
    except ModuleNotFoundError:
        raise NotSupported("a picture", "application/json, or a service with servoloop[plots]") from None
    parts: list[tuple[Callable[[Axes, Any], None], str]] = [
        (_draw_confusion, "confusion_matrix"),
        (_draw_reliability, "reliability"),
        (_draw_residuals, "residuals"),
        (_draw_over_time, "over_time"),
    ]
    there = [(part, evaluation[name]) for part, name in parts if evaluation["n"] and evaluation.get(name)]
    figure = Figure(figsize=(_INCHES * max(1, len(there)), _INCHES + 0.6), dpi=_DOTS_AN_INCH, layout="constrained")
    figure.suptitle(_title(evaluation), fontsize=10)
    axes = figure.subplots(1, max(1, len(there)), squeeze=False)[0]
    for (part, content), each in zip(there, axes, strict=False):
        part(each, content)
    if not there:
        axes[0].text(0.5, 0.5, "nothing is known yet", ha="center", va="center", color=_GREY)
        axes[0].set_axis_off()
    canvas = FigureCanvasAgg(figure) if form == "png" else FigureCanvasSVG(figure)
    file = io.BytesIO()
    # Without a date, the same evaluation gives the same bytes.
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
    # numpy knows no zones: all times are UTC.
    times = np.array([point["to"].partition("+")[0] for point in points], "datetime64[ms]")
    low, high = ([point[bound] for point in points] for bound in ("low", "high"))
    axes.fill_between(times, low, high, color=_BLUE, alpha=0.2, linewidth=0)
    axes.plot(times, [point["value"] for point in points], color=_BLUE, marker="o", markersize=3, linewidth=1)
    axes.set(title=f"{over_time['metric']} over time (UTC)")
    axes.tick_params(axis="x", labelrotation=30, labelsize=7)
