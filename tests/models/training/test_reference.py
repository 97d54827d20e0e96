import json

import numpy as np

from models.inputs import Column, ColumnsInput, ImageInput, TensorInput, TextInput
from models.preprocess import Tensors
from models.training import reference
from models.training.evaluate import Answers


def test_bins_between_quantiles_fill_evenly() -> None:
    found = reference.histogram(np.random.default_rng(0).exponential(size=1000))
    assert len(found["edges"]) == 21
    assert found["edges"] == sorted(found["edges"])
    assert all(45 <= count <= 55 for count in found["counts"])


def test_repeated_values_share_a_bin() -> None:
    found = reference.histogram(np.array([3.0] * 50 + [7.0] * 50))
    assert sum(found["counts"]) == 100
    assert len(found["counts"]) == len(found["edges"]) - 1


def test_a_constant_has_one_bin() -> None:
    assert reference.histogram(np.full(5, 2.0)) == {"edges": [1.5, 2.5], "counts": [5]}


def test_outer_bins_take_what_lies_beyond() -> None:
    found = reference.histogram(np.array([-5.0, 0.1, 0.6, 9.0]), edges=np.array([0.0, 0.5, 1.0]))
    assert found["counts"] == [2, 2]


def test_classes_are_counted_even_when_they_were_never_predicted() -> None:
    answers = Answers(np.array([1, 1, 0]), np.eye(3), np.array([0.4, 0.9, 1.0]))
    images = np.zeros((3, 1, 2, 2), np.uint8)
    contract = ImageInput(channels=1, height=2, width=2)
    content = json.loads(reference.build(contract, ["a", "b", "c"], images, Tensors(images), answers))
    assert content["outputs"] == {"labels": {"a": 1, "b": 2, "c": 0}}
    assert content["confidence"]["edges"][0] == 0
    assert content["confidence"]["edges"][-1] == 1
    assert sum(content["confidence"]["counts"]) == 3
    assert content["rows"] == 3


def test_a_regression_has_values_and_no_confidence() -> None:
    contract = ColumnsInput(columns=[Column(name="a"), Column(name="b")])
    table = np.array([[1.0, 5.0], [2.0, 5.0]])
    content = json.loads(reference.build(contract, [], table, Tensors(table), Answers(np.array([10.0, 20.0]))))
    assert sum(content["outputs"]["value"]["counts"]) == 2
    assert set(content["inputs"]) == {"a", "b"}
    assert "confidence" not in content


def test_each_kind_of_input_is_watched_by_its_own_numbers() -> None:
    texts = ["one two", "three"]
    packed = Tensors(np.zeros(3, np.int64), np.array([2, 1], np.int32))
    found = reference.features(TextInput(), texts, packed)
    assert {name: values.tolist() for name, values in found.items()} == {"characters": [7, 5], "tokens": [2, 1]}
    images = np.array([[[[0, 10]]], [[[4, 4]]]], np.uint8)
    found = reference.features(ImageInput(channels=1, height=1, width=2), images, Tensors(images))
    assert found["pixel_mean"].tolist() == [5, 4]
    assert found["pixel_std"].tolist() == [5, 0]
    series = [np.ones((3, 2), np.float32), np.zeros((5, 2), np.float32)]
    found = reference.features(TensorInput(shape=[-1, 2]), series, Tensors.packed(series))
    assert found["steps"].tolist() == [3, 5]
    assert found["mean"].tolist() == [1, 0]
