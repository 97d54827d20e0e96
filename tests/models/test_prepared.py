"""What a network takes is what preprocessing gives."""

from typing import Any

import orjson
import pytest
from pydantic import TypeAdapter

from models.inputs import ColumnsInput, ImageInput, TensorInput, TextInput
from models.prepared import prepared_input
from models.preprocess import Preprocessor, Step

WORDS = orjson.dumps({"good": 2, "bad": 9})
TO_IDS = {"step": "vocabulary", "file": "words.json", "max_length": 20}
SCALE = {"step": "scale", "factor": 0.5}
IDS = TensorInput(shape=[-1], dtype="int64", minimum=1, maximum=7, max_length=30)
STEPS = TensorInput(shape=[-1, 3], max_length=30)
PICTURE = ImageInput(channels=3, height=8, width=6)


def prepared(contract: Any, *declared: dict[str, Any]) -> TensorInput:
    steps = TypeAdapter(list[Step]).validate_python(declared)
    return prepared_input(contract, steps, Preprocessor(steps, {"words.json": WORDS}.__getitem__))


@pytest.mark.parametrize(
    ("contract", "steps", "expected"),
    [
        (PICTURE, [SCALE], TensorInput(shape=[3, 8, 6])),
        (PICTURE, [{"step": "grayscale"}], TensorInput(shape=[1, 8, 6])),
        (PICTURE, [{"step": "center_crop", "height": 4, "width": 2}], TensorInput(shape=[3, 4, 2])),
        (PICTURE, [], TensorInput(shape=[3, 8, 6])),
        (
            ColumnsInput.model_validate({"columns": [{"name": "a", "minimum": 5}, {"name": "b"}]}),
            [{"step": "standardize", "mean": [1, 2], "std": [1, 1]}],
            TensorInput(shape=[2]),
        ),
        (STEPS, [SCALE], TensorInput(shape=[-1, 3], max_length=30)),
        (STEPS, [{"step": "truncate", "max_length": 12}], TensorInput(shape=[-1, 3], max_length=12)),
        (STEPS, [{"step": "truncate", "max_length": 40}], TensorInput(shape=[-1, 3], max_length=30)),
        (STEPS, [{"step": "pad", "length": 30}], TensorInput(shape=[30, 3])),
    ],
)
def test_a_shape_is_that_of_prepared_rows(contract: Any, steps: list[Any], expected: TensorInput) -> None:
    assert prepared(contract, *steps) == expected


def test_ids_of_texts_are_those_that_its_file_gives() -> None:
    expected = TensorInput(shape=[-1], dtype="int64", minimum=0, maximum=9, max_length=20)
    assert prepared(TextInput(), TO_IDS) == expected


def test_ids_are_bounded_by_the_contract_and_by_what_fills_them_up() -> None:
    assert prepared(IDS, {"step": "truncate", "max_length": 4}) == IDS.model_copy(update={"max_length": 4})
    filled = prepared(IDS, {"step": "pad", "length": 30, "value": 0})
    assert filled == TensorInput(shape=[30], dtype="int64", minimum=0, maximum=7)
    filled = prepared(IDS, {"step": "pad", "length": 30, "value": 8})
    assert filled == TensorInput(shape=[30], dtype="int64", minimum=1, maximum=8)


def test_ids_that_are_scaled_are_numbers() -> None:
    assert prepared(IDS, SCALE) == TensorInput(shape=[-1], max_length=30)


def test_without_steps_a_tensor_stays_what_it_is() -> None:
    bounded = TensorInput(shape=[4], minimum=-1, maximum=1)
    assert prepared(bounded) is bounded


def test_a_row_that_cant_be_prepared_is_an_error() -> None:
    with pytest.raises(ValueError, match="pad to 2 can't hold a sequence of 8"):
        prepared(STEPS, {"step": "pad", "length": 2})
