import json

import numpy as np

from models.inputs import Column, ColumnsInput, ImageInput
from models.preprocess import Tensors
from models.reference import parse_reference
from models.training import reference
from models.training.evaluate import Answers

IMAGES = np.zeros((3, 1, 2, 2), np.uint8)
CONTRACT = ImageInput(channels=1, height=2, width=2)


def test_classes_are_counted_even_when_they_were_never_predicted() -> None:
    answers = Answers(np.array([1, 1, 0]), np.eye(3), np.array([0.4, 0.9, 1.0]))
    built = reference.build(CONTRACT, ["a", "b", "c"], IMAGES, Tensors(IMAGES), answers, (answers, np.array([1, 1, 0])))
    content = json.loads(built)
    assert content["outputs"] == {"labels": {"a": 1, "b": 2, "c": 0}}
    assert content["confidence"]["edges"][0] == 0
    assert content["confidence"]["edges"][-1] == 1
    assert sum(content["confidence"]["counts"]) == 3
    assert content["rows"] == 3


def test_what_was_right_is_counted_by_confidence() -> None:
    answers = Answers(np.array([1, 1, 0]), np.eye(3), np.array([0.41, 0.92, 0.97]))
    built = reference.build(CONTRACT, ["a", "b", "c"], IMAGES, Tensors(IMAGES), answers, (answers, np.array([1, 2, 0])))
    found = parse_reference(built)
    assert found.right is not None
    assert (found.right[8], found.right[18], found.right[19], sum(found.right)) == (1, 0, 1, 2)


def test_a_regression_has_values_and_no_confidence() -> None:
    contract = ColumnsInput(columns=[Column(name="a"), Column(name="b")])
    table = np.array([[1.0, 5.0], [2.0, 5.0]])
    answers = Answers(np.array([10.0, 20.0]))
    content = json.loads(
        reference.build(contract, [], table, Tensors(table), answers, (answers, np.array([10.0, 21.0])))
    )
    assert sum(content["outputs"]["value"]["counts"]) == 2
    assert set(content["inputs"]) == {"a", "b"}
    assert not {"confidence", "right"} & content.keys()
