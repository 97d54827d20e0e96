"""A 95 % interval holds the truth about 95 times in 100. `make quality` shows it of more figures of live models."""

import numpy as np
import pytest

from models import metrics
from models.metrics import Array, Estimate
from tests.simulated import HIGHEST, LOWEST, Classes, Coverage, coverage_of_wilson

STREAMS, ROWS = 500, 200


@pytest.fixture(scope="module")
def process() -> Classes:
    return Classes()


@pytest.fixture(scope="module")
def streams(process: Classes) -> list[tuple[Array, Array]]:
    """Probabilities and labels."""
    return [process.rows(np.random.default_rng([1, number]), ROWS) for number in range(STREAMS)]


def accuracy(probabilities: Array, labels: Array) -> Estimate:
    return metrics.proportion(int((probabilities.argmax(axis=1) == labels).sum()), len(labels))


def f1_macro(probabilities: Array, labels: Array) -> Estimate:
    counts = metrics.confusion_matrix(labels, probabilities.argmax(axis=1), probabilities.shape[1])
    return metrics.averages(metrics.Confusion.of(counts))["f1_macro"]


@pytest.mark.parametrize(("name", "figure"), [("accuracy", accuracy), ("f1_macro", f1_macro), ("auc", metrics.auc)])
def test_an_interval_holds_the_truth_as_often_as_it_says(name, figure, process: Classes, streams) -> None:  # type: ignore[no-untyped-def]
    found = Coverage()
    for probabilities, labels in streams:
        found.take(figure(probabilities, labels), process.truth[name])
    assert LOWEST <= found.share <= HIGHEST
    assert found.undefined == 0


@pytest.mark.parametrize("rows", [50, 200, 1000])
@pytest.mark.parametrize("share", [0.5, 0.8, 0.95])
def test_wilson_s_interval_holds_any_share_as_often_as_it_says(share: float, rows: int) -> None:
    assert LOWEST <= coverage_of_wilson(share, rows) <= HIGHEST
