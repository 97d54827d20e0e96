import math
from typing import Any

import orjson
import pytest
from pydantic import ValidationError

from models.inputs import ColumnsInput, ImageInput, InputContract, TensorInput, TextInput
from models.manifest import MANIFEST, parse_manifest
from tests.models.manifests import Fields, fields, reason

TENSOR = {"kind": "tensor", "shape": [-1], "dtype": "int64"}
COLUMN = {"name": "area"}
MOST = 1 << 26
EXACT = 1 << 53
PAST_EXACT = EXACT + 2  # the next whole number that is a float


def image(**changes: Any) -> Fields:
    return {"kind": "image", "channels": 1, "height": 1, "width": 1, **changes}


def tensor(*shape: int, **changes: Any) -> Fields:
    return {"kind": "tensor", "shape": list(shape), **changes}


def columns(*each: Fields) -> Fields:
    return {"kind": "columns", "columns": list(each)}


def many_columns(number: int) -> Fields:
    return columns(*({"name": f"column {index}"} for index in range(number)))


def ids(minimum: float, maximum: float) -> Fields:
    return {**TENSOR, "minimum": minimum, "maximum": maximum}


def contract(written: Fields) -> InputContract:
    preprocess = [{"step": "vocabulary", "file": "words.json", "max_length": 8}] if written["kind"] == "text" else []
    right = fields()
    files = {**right["files"], "words.json": {"sha256": "0" * 64, "size": 1}}
    return parse_manifest(orjson.dumps({**right, "input": written, "preprocess": preprocess, "files": files})).input


@pytest.mark.parametrize(
    ("contract", "said"),
    [
        (TENSOR, "need a minimum and a maximum"),
        ({**TENSOR, "minimum": 0}, "need a minimum and a maximum"),
        ({**TENSOR, "maximum": 9}, "need a minimum and a maximum"),
        (ids(0, 1e17), f"bounds of whole numbers must lie within +-{EXACT}, where floats are exact"),
        (ids(0, PAST_EXACT), "where floats are exact"),
        (ids(-PAST_EXACT, 0), "where floats are exact"),
        (ids(-PAST_EXACT, -1), "where floats are exact"),
        (tensor(3, -1), "shape [3, -1]: sizes are positive, and only the first may be -1"),
        (tensor(0), "shape [0]: sizes are positive"),
        (tensor(3, 0), "shape [3, 0]: sizes are positive"),
        (tensor(-2, 3), "sizes are positive"),
        (tensor(MOST + 1), f"shape [{MOST + 1}]: a row, or a step, has more than {MOST} numbers"),
        (tensor(2, MOST // 2 + 1), f"more than {MOST} numbers"),
        (tensor(-1, MOST + 1), f"more than {MOST} numbers"),
        (tensor(), "input.tensor.shape: List should have at least 1 item"),
        (tensor(*[1] * 7), "input.tensor.shape: List should have at most 6 items"),
        (tensor(1, max_length=0), "input.tensor.max_length: Input should be greater than or equal to 1"),
        (tensor(1, max_length=1_000_001), "input.tensor.max_length: Input should be less than or equal to 1000000"),
        (tensor(1, dtype="int32"), "input.tensor.dtype: "),
        (columns(COLUMN, COLUMN), "column names must differ"),
        (columns(), "input.columns.columns: List should have at least 1 item"),
        (many_columns(4097), "input.columns.columns: List should have at most 4096 items"),
        (columns({"name": ""}), "input.columns.columns.0.name: String should have at least 1 character"),
        (columns({"name": "x" * 129}), "input.columns.columns.0.name: String should have at most 128 characters"),
        (image(channels=2), "input.image.channels: "),
        (image(height=0), "input.image.height: Input should be greater than or equal to 1"),
        (image(height=4097), "input.image.height: Input should be less than or equal to 4096"),
        (image(width=0), "input.image.width: Input should be greater than or equal to 1"),
        (image(width=4097), "input.image.width: Input should be less than or equal to 4096"),
        (image(fit="crop"), "input.image.fit: "),
        ({"kind": "sound"}, "input: Input tag 'sound'"),
        (
            {"kind": "text", "max_characters": 0},
            "input.text.max_characters: Input should be greater than or equal to 1",
        ),
        (
            {"kind": "text", "max_characters": 10_000_001},
            "input.text.max_characters: Input should be less than or equal to 10000000",
        ),
        ({"kind": "text", "surprise": 1}, "input.text.surprise: Extra inputs are not permitted"),
    ],
)
def test_a_wrong_contract_is_refused_with_its_fault(contract: Fields, said: str) -> None:
    text = reason(fields(input=contract))
    assert text.startswith(f"{MANIFEST}: ")
    assert said in text


@pytest.mark.parametrize(
    "written",
    [
        image(height=4096, width=4096),
        image(channels=3, fit="contain"),
        image(fit="cover"),
        {"kind": "text", "max_characters": 1},
        {"kind": "text", "max_characters": 10_000_000},
        tensor(1),
        tensor(3, 1),
        tensor(*[1] * 6),
        tensor(MOST),
        tensor(-1, MOST),
        tensor(-1, max_length=1),
        tensor(-1, max_length=1_000_000),
        tensor(3, minimum=-1e17, maximum=1e17),
        ids(-EXACT, EXACT),
        columns({"name": "x"}),
        columns({"name": "x" * 128}, COLUMN),
        many_columns(4096),
    ],
)
def test_what_lies_within_the_bounds_is_taken(written: Fields) -> None:
    contract(written)


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        (image(), ImageInput(channels=1, height=1, width=1, fit="stretch")),
        ({"kind": "text"}, TextInput(max_characters=100_000)),
        (tensor(3), TensorInput(shape=[3], dtype="float32", max_length=4096, minimum=None, maximum=None)),
        (
            columns(COLUMN),
            ColumnsInput.model_validate(columns({**COLUMN, "minimum": None, "maximum": None, "unit": None})),
        ),
    ],
)
def test_what_a_contract_leaves_out_has_one_meaning(written: Fields, meant: InputContract) -> None:
    assert contract(written) == meant


@pytest.mark.parametrize("bound", ["minimum", "maximum"])
def test_a_bound_is_a_finite_number(bound: str) -> None:
    with pytest.raises(ValidationError, match="finite number"):
        TensorInput.model_validate(tensor(1, **{bound: math.inf}))
    with pytest.raises(ValidationError, match="finite number"):
        ColumnsInput.model_validate(columns({**COLUMN, bound: -math.inf}))


def test_the_shape_of_a_picture_has_its_channels_first() -> None:
    assert ImageInput(channels=3, height=4, width=5).shape == (3, 4, 5)


def test_a_sequence_is_as_long_as_it_likes_along_its_first_dimension() -> None:
    assert TensorInput(shape=[-1, 3]).variable
    assert not TensorInput(shape=[3, 4]).variable


def test_a_contract_stays_as_it_is() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        ImageInput(channels=1, height=1, width=1).height = 2  # type: ignore[misc]
