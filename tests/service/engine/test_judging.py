import numpy as np
import pytest

from service.engine.judging import compare
from tests.service.engine.networks import NETWORKS, manifest_of

CONTRACT, ARCHITECTURE = NETWORKS["mlp"]
MANIFEST = manifest_of(CONTRACT, ARCHITECTURE)


def test_a_metric_is_compared_in_points_and_beside_it_the_labels() -> None:
    labels = np.array([0, 1, 2, 0])
    sure = np.eye(3, dtype=np.float32)[labels]
    unsure = sure.copy()
    unsure[3] = (0.0, 0.0, 1.0)
    assert compare(unsure, sure, labels, MANIFEST) == (-25.0, 0.75)
    assert compare(sure, unsure, labels, MANIFEST) == (25.0, 0.75)
    assert compare(unsure, sure, None, MANIFEST) == (-25.0, 0.75)
    assert compare(sure * np.nan, sure, labels, MANIFEST) == (-100.0, None)


def test_rows_of_which_float32_is_unsure_say_nothing_against_a_back_end() -> None:
    expected = np.array([[5.0, 0.0, 0.0], [1.0, 1.001, 0.0]], np.float32)
    found = np.array([[5.0, 0.0, 0.0], [1.001, 1.0, 0.0]], np.float32)
    assert compare(found, expected, None, MANIFEST) == (0.0, 0.5)


def test_a_binary_label_is_that_of_the_threshold() -> None:
    manifest = manifest_of(CONTRACT, ARCHITECTURE, task="binary", labels=["no", "yes"], threshold=0.9)
    expected, found = np.array([[2.0], [3.0]], np.float32), np.array([[2.0], [2.1]], np.float32)
    assert compare(found, expected, np.array([0, 1]), manifest) == (-50.0, 0.5)


def test_values_are_compared_by_their_r2() -> None:
    manifest = manifest_of(CONTRACT, ARCHITECTURE, task="regression", labels=[], target={"name": "x", "std": 2.0})
    expected, truth = np.array([[0.0], [1.0]], np.float32), np.array([0.0, 2.0])
    assert compare(expected, expected, truth, manifest) == (0.0, None)
    difference, agreement = compare(expected + 0.1, expected, truth, manifest)
    assert (round(difference, 3), agreement) == (-4.0, None)


def test_near_the_threshold_a_binary_label_says_nothing_against_a_back_end() -> None:
    manifest = manifest_of(CONTRACT, ARCHITECTURE, task="binary", labels=["no", "yes"], threshold=0.9)
    threshold = np.log(0.9 / 0.1)
    expected = np.array([[threshold + 0.01], [threshold + 3], [threshold - 3], [0.0]], np.float32)
    found = np.array([[threshold - 0.01], [threshold - 3], [threshold - 3], [0.0]], np.float32)
    # Of the three rows that are clear one has another label.
    assert compare(found, expected, None, manifest) == pytest.approx((-100 / 3, 0.5))
    assert compare(found[:1], expected[:1], None, manifest) == (0.0, 0.0)


def test_where_r2_is_undefined_values_are_compared_by_their_distance() -> None:
    manifest = manifest_of(CONTRACT, ARCHITECTURE, task="regression", labels=[], target={"name": "x", "std": 2.0})
    expected, constant = np.array([[1.0], [2.0]], np.float32), np.array([3.0, 3.0])
    difference, agreement = compare(expected + 0.1, expected, constant, manifest)
    assert (round(difference, 3), agreement) == (-5.0, None)
