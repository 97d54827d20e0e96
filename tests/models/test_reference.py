"""What is kept of how inputs, outputs and confidence are distributed."""

from collections.abc import Callable
from typing import Any

import numpy as np
import orjson
import pytest

from models.checkpoint_files import CheckpointFiles
from models.inputs import ImageInput, TensorInput, TextInput
from models.reference import bins_of, features, histogram, parse_reference
from service.settings import SHIPPED_CHECKPOINTS

Change = Callable[[dict[str, Any]], object]


def content() -> dict[str, Any]:
    return {
        "schema_version": 1,
        "rows": 10,
        "inputs": {"size": {"edges": [0.0, 1.0, 2.0], "counts": [4, 6]}},
        "outputs": {"labels": {"Bag": 3, "Coat": 7}},
        "confidence": {"edges": [0.0, 0.5, 1.0], "counts": [2, 8]},
        "right": [1, 7],
    }


def test_bins_between_quantiles_fill_evenly() -> None:
    found = histogram(np.random.default_rng(0).exponential(size=1000))
    assert len(found["edges"]) == 21
    assert found["edges"] == sorted(found["edges"])
    assert all(45 <= count <= 55 for count in found["counts"])


def test_repeated_values_share_a_bin() -> None:
    found = histogram(np.array([3.0] * 50 + [7.0] * 50))
    assert sum(found["counts"]) == 100
    assert len(found["counts"]) == len(found["edges"]) - 1


def test_a_constant_has_one_bin() -> None:
    assert histogram(np.full(5, 2.0)) == {"edges": [1.5, 2.5], "counts": [5]}


def test_outer_bins_take_what_lies_beyond() -> None:
    assert histogram(np.array([-5.0, 0.1, 0.6, 9.0]), edges=np.array([0.0, 0.5, 1.0]))["counts"] == [2, 2]
    assert bins_of(np.array([-5.0, 0.5, 9.0]), [0.0, 0.5, 1.0]).tolist() == [0, 1, 1]


def test_each_kind_of_input_is_watched_by_its_own_numbers() -> None:
    found = features(TextInput(), ["one two", "three"], np.array([2, 1], np.int32))
    assert {name: values.tolist() for name, values in found.items()} == {"characters": [7, 5], "tokens": [2, 1]}
    images = np.array([[[[0, 10]]], [[[4, 4]]]], np.uint8)
    found = features(ImageInput(channels=1, height=1, width=2), images, None)
    assert found["pixel_mean"].tolist() == [5, 4]
    assert found["pixel_std"].tolist() == [5, 0]
    series = [np.ones((3, 2), np.float32), np.zeros((5, 2), np.float32)]
    found = features(TensorInput(shape=[-1, 2]), series, np.array([3, 5]))
    assert found["steps"].tolist() == [3, 5]
    assert found["mean"].tolist() == [1, 0]


@pytest.mark.parametrize("model", ["fashion", "house-price", "sentiment", "sentiment-lstm"])
def test_those_of_shipped_checkpoints_can_be_read(model: str) -> None:
    files = CheckpointFiles(SHIPPED_CHECKPOINTS / model / "1")
    found = parse_reference(files.read("reference.json"))
    assert all(sum(one.counts) == found.rows for one in found.inputs.values())
    assert (found.confidence is None) == (files.manifest.task == "regression")


def test_what_was_kept_before_right_was_counted_can_be_read() -> None:
    said = content()
    del said["right"]
    assert parse_reference(orjson.dumps(said)).right is None


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda said: said.update(schema_version=2), "schema_version: Input should be 1"),
        (lambda said: said.update(more=1), "more: Extra inputs"),
        (lambda said: said["inputs"]["size"].update(edges=[0.0, 2.0, 1.0]), "inputs.size: .*edges must ascend"),
        (lambda said: said["inputs"]["size"].update(counts=[1]), "one more edge than counts"),
        (lambda said: said["inputs"]["size"].update(counts=[1, -1]), r"inputs.size.counts.1: .*greater than or equal"),
        (lambda said: said["outputs"].update(value=said["confidence"]), "either labels or value"),
        (lambda said: said.update(right=[3, 0]), "right counts rows of each bin"),
        (lambda said: said.update(right=[1]), "right counts rows of each bin"),
        (lambda said: said.update(confidence=None), "right counts rows of each bin"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(change: Change, says: str) -> None:
    said = content()
    change(said)
    with pytest.raises(ValueError, match=f"reference.json: .*{says}"):
        parse_reference(orjson.dumps(said))


def test_what_is_no_json_is_said_to_be_none() -> None:
    with pytest.raises(ValueError, match=r"reference.json: Invalid JSON"):
        parse_reference(b"{")
