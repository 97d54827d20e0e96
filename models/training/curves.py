"""The course of a training run as a picture."""

import io
from importlib.util import find_spec

from models.training.trainer import History


class MissingMatplotlib(ImportError):
    """What draws is not installed: it comes with the extra `train`."""

    def __init__(self) -> None:
        super().__init__(
            "training needs matplotlib: pip install 'servoloop[train]', or make install-test in a checkout"
        )


def check_installed() -> None:
    """Raise MissingMatplotlib, before a training rather than at its end."""
    if find_spec("matplotlib") is None:
        raise MissingMatplotlib


def draw(history: History, metric: str, title: str) -> bytes:
    """Return a PNG of training and validation loss, the validation metric and the learning rate."""
    # Here, so that reading about trainings needs no extra.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    epochs, best = history.epochs, history.best
    figure = Figure(figsize=(12, 3.6), layout="constrained")
    numbers = range(1, len(epochs) + 1)
    loss, quality, rate = figure.subplots(1, 3)
    loss.plot(numbers, [epoch.loss for epoch in epochs], marker=".", label="training (with augmentation and dropout)")
    loss.plot(numbers, [epoch.validation_loss for epoch in epochs], marker=".", label="validation")
    loss.set_ylabel("loss")
    loss.legend(fontsize="small")
    quality.plot(numbers, [epoch.metric for epoch in epochs], marker=".", color="tab:green")
    quality.axvline(best + 1, color="grey", linestyle=":", label=f"kept: epoch {best + 1}")
    quality.set_ylabel(f"validation {metric}")
    quality.legend(fontsize="small")
    rate.plot(numbers, [epoch.learning_rate for epoch in epochs], marker=".", color="tab:purple")
    rate.set_ylabel("learning rate at the epoch's end")
    for axes in (loss, quality, rate):
        axes.set_xlabel("epoch")
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(alpha=0.3)
    figure.suptitle(title)
    picture = io.BytesIO()
    FigureCanvasAgg(figure).print_png(picture)  # type: ignore[no-untyped-call]
    return picture.getvalue()
