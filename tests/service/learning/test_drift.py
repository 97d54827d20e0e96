"""Predictions beside a reference."""

from typing import Any

import numpy as np
import pytest

from models import metrics
from models.reference import Histogram, Outputs, Reference
from service.learning.drift import DriftPolicy, compare
from service.store.base import Record
from tests.stores import a_record

EDGES = np.linspace(0.0, 1.0, 11).tolist()
EVEN = Histogram(edges=EDGES, counts=[100] * 10)
POLICY = DriftPolicy()


def reference(**fields: Any) -> Reference:
    given = {
        "schema_version": 1,
        "rows": 1000,
        "inputs": {"size": EVEN},
        "outputs": Outputs(labels={"a": 500, "b": 500}),
    }
    return Reference(**{**given, "confidence": EVEN, **fields})


def records(labels: str, confidence: float = 0.5) -> list[Record]:
    return [a_record(outputs={"label": one, "index": 0, "probability": confidence}) for one in labels]


def test_what_is_as_it_was_has_not_drifted() -> None:
    rng = np.random.default_rng(0)
    said = [a_record(outputs={"label": "ab"[i % 2], "probability": one}) for i, one in enumerate(rng.random(500))]
    found = compare(reference(), {"size": rng.random(500)}, said, POLICY)
    assert found.drifted is False
    assert set(found.farthest) == {"inputs", "predictions", "confidence"}
    assert all(one.psi is not None and one.psi < 0.1 for one in found.farthest.values())


def test_each_part_is_told_apart() -> None:
    rng = np.random.default_rng(0)
    said = records("ab" * 200)
    found = compare(reference(confidence=None), {"size": rng.random(400) / 2}, said, POLICY)
    assert (found.inputs["size"].drift.drifted, found.confidence) == (True, None)
    assert found.predictions is not None
    assert found.predictions.drift.drifted is False
    assert found.predictions.counts == [200, 200]
    assert found.drifted is True
    shown = found.inputs["size"].to_dict()
    assert (shown["edges"], shown["counts"][5:], shown["reference"]) == (EDGES, [0] * 5, [100] * 10)
    assert sum(shown["counts"]) == shown["n"] == 400


def test_of_few_rows_nothing_is_said() -> None:
    found = compare(reference(), {"size": np.zeros(199)}, records("a" * 199), POLICY)
    assert found.drifted is None
    assert found.inputs["size"].to_dict()["reason"] == "fewer than 200 rows"
    found = compare(reference(), {}, records("a" * 200), POLICY)
    assert found.drifted is True
    assert "inputs" not in found.farthest


def test_a_label_that_the_reference_lacks_counts() -> None:
    found = compare(reference(), {}, records("c" * 300), POLICY).predictions
    assert found is not None
    assert found.bins == {"labels": ["a", "b", "c"]}
    assert (list(found.reference), list(found.counts), found.drift.drifted) == ([500, 500, 0], [0, 0, 300], True)


def test_values_of_a_regression_are_compared_by_bins() -> None:
    said = [a_record(outputs={"value": 9.0})] * 300
    found = compare(reference(outputs=Outputs(value=EVEN), confidence=None), {}, said, POLICY).predictions
    assert found is not None
    assert (found.counts[-1], found.drift.drifted) == (300, True)


def test_what_counts_as_drifted_is_configured() -> None:
    said = records("a" * 100 + "b" * 200)
    assert compare(reference(confidence=None), {}, said, POLICY).drifted is False
    assert compare(reference(confidence=None), {}, said, DriftPolicy(psi=0.01)).drifted is True
    assert compare(reference(confidence=None), {}, said, DriftPolicy(psi=0.01, minimum_rows=301)).drifted is None
    assert compare(reference(confidence=None), {}, said, DriftPolicy(psi=50.0)).drifted is False
    assert compare(reference(confidence=None), {}, said, DriftPolicy(psi=50.0, jensen_shannon=0.01)).drifted is True


def test_false_alarms_are_shared_among_all_that_a_reference_has() -> None:
    found = compare(reference(inputs={"size": EVEN, "age": EVEN}), {"size": np.zeros(300)}, records("a" * 300), POLICY)
    noise = metrics.psi_noise(10, 1000, 300, level=1 - 0.001 / 4)
    assert found.inputs["size"].drift.psi_noise == pytest.approx(noise)


def test_the_farthest_input_has_the_highest_stability_index() -> None:
    # What was all but absent weighs more in the index, what moved between halves more in the divergence.
    rare, halves = (Histogram(edges=[0.0, 1.0, 2.0], counts=counts) for counts in ([999, 1], [500, 500]))
    features = {"rare": np.repeat([0.5, 1.5], [900, 100]), "halves": np.repeat([0.5, 1.5], [800, 200])}
    found = compare(reference(inputs={"halves": halves, "rare": rare}), features, records("ab" * 500), POLICY)
    first, second = found.inputs["rare"].drift, found.inputs["halves"].drift
    assert (first.jensen_shannon or 0) < (second.jensen_shannon or 0)
    assert found.farthest["inputs"] == first
