import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from models.inputs import Column, ColumnsInput, ImageInput, TensorInput, TextInput
from service.errors import UnprocessableInput
from service.serving.allowance import Allowance
from service.serving.contracts import (
    checked_array,
    checked_picture,
    checked_rows,
    checked_text,
    describe,
    join,
    shape_of,
)

GREY = ImageInput(channels=1, height=2, width=3)
COLOUR = ImageInput(channels=3, height=2, width=3)
STEPS = TensorInput(shape=[-1, 2], max_length=3)
IDS = TensorInput(shape=[-1], dtype="int64", minimum=0, maximum=9)
COLUMNS = ColumnsInput(columns=[Column(name="area", minimum=0), Column(name="rooms", minimum=1, maximum=9)])


def fault(values: Any, contract: Any, dtype: Any = None) -> UnprocessableInput:
    with pytest.raises(UnprocessableInput) as raised:
        checked_array(np.array(values, dtype), "row", contract)
    return raised.value


@pytest.mark.parametrize(
    ("contract", "text"),
    [
        (GREY, "1 x 2 x 3 numbers from 0 to 255, or the bytes of a PNG, JPEG or WebP image"),
        (TextInput(max_characters=9), "a text of 1 to 9 characters"),
        (COLUMNS, "a number for each column: area, rooms"),
        (STEPS, "any x 2 numbers (float32)"),
        (IDS, "any numbers (int64)"),
    ],
)
def test_a_contract_is_described_for_people(contract: Any, text: str) -> None:
    assert describe(contract) == text


@pytest.mark.parametrize(
    ("contract", "shape"), [(COLOUR, (3, 2, 3)), (COLUMNS, (2,)), (STEPS, (-1, 2)), (TensorInput(shape=[4]), (4,))]
)
def test_a_contract_has_a_shape(contract: Any, shape: tuple[int, ...]) -> None:
    assert shape_of(contract) == shape


# Shapes


@pytest.mark.parametrize(
    ("values", "contract", "shape"),
    [
        (np.zeros((2, 3)), GREY, (1, 2, 3)),
        (np.zeros((1, 2, 3)), GREY, (1, 2, 3)),
        (np.zeros((3, 2, 3)), COLOUR, (3, 2, 3)),
        (np.zeros((1, 2)), STEPS, (1, 2)),
        (np.zeros((3, 2)), STEPS, (3, 2)),
        (np.zeros(2), ColumnsInput(columns=[Column(name="a"), Column(name="b")]), (2,)),
    ],
)
def test_a_row_of_the_contracts_shape_is_taken_as_float32(values: Any, contract: Any, shape: tuple[int, ...]) -> None:
    row = checked_array(values, "row", contract)
    assert (row.shape, row.dtype) == (shape, np.float32)


@pytest.mark.parametrize(
    ("values", "contract", "problem"),
    [
        (np.zeros((3, 2)), GREY, "the shape is 3 x 2"),
        (np.zeros((2, 2, 3)), GREY, "the shape is 2 x 2 x 3"),
        (np.zeros((2, 3)), COLOUR, "the shape is 2 x 3"),
        (np.zeros((2, 3, 3)), COLOUR, "the shape is 2 x 3 x 3"),
        (5, GREY, "the shape is that of a single number"),
        ([], COLUMNS, "the shape is 0"),
        (np.zeros((0, 2)), STEPS, "the shape is 0 x 2"),
        (np.zeros((1, 3)), STEPS, "the shape is 1 x 3"),
        (np.zeros(2), STEPS, "the shape is 2"),
        (np.zeros((1, 2, 1)), STEPS, "the shape is 1 x 2 x 1"),
    ],
)
def test_another_shape_is_refused(values: Any, contract: Any, problem: str) -> None:
    error = fault(values, contract)
    assert (error.field, error.problem, error.expected) == ("row", problem, describe(contract))


def test_a_sequence_that_is_too_long_is_refused() -> None:
    error = fault(np.zeros((4, 2)), STEPS)
    assert (error.problem, error.expected) == ("the sequence has 4 steps", "at most 3 steps")


# Types


@pytest.mark.parametrize("dtype", ["i1", "u8", "f2", "f8", "f4"])
def test_numbers_of_any_kind_are_taken(dtype: str) -> None:
    assert checked_array(np.ones((2, 3), dtype), "row", GREY).dtype == np.float32


@pytest.mark.parametrize(("dtype", "name"), [(bool, "bool"), (object, "object"), (complex, "complex128")])
def test_what_is_no_number_is_refused(dtype: Any, name: str) -> None:
    assert fault(np.ones((2, 3)), GREY, dtype).problem == f"elements are of type {name}"


def test_ids_stay_whole() -> None:
    assert checked_array(np.array([1, 2], np.uint8), "row", IDS).dtype == np.int64


def test_ids_that_are_not_whole_are_refused() -> None:
    assert fault([1.0, 2.0], IDS).problem == "elements are not whole numbers"


# Values


@pytest.mark.parametrize(
    ("values", "contract", "field", "problem", "expected"),
    [
        ([[0, 0, 0], [0, 256, 0]], GREY, "row[1][1]", "the value is 256", "a number from 0 to 255"),
        ([[[0, 0, 0], [0, 256, 0]]], GREY, "row[0][1][1]", "the value is 256", "a number from 0 to 255"),
        ([[0, 0, -1], [0, 0, 0]], GREY, "row[0][2]", "the value is -1", "a number from 0 to 255"),
        ([[0, np.nan, 0], [0, 0, 0]], GREY, "row[0][1]", "the value is nan", "a number from 0 to 255"),
        ([5, 10], COLUMNS, "row.rooms", "the value is 10", "a number from 1 to 9"),
        ([-1, 5], COLUMNS, "row.area", "the value is -1", "a number from 0 to 3.40282e+38"),
        ([np.inf, 5], COLUMNS, "row.area", "the value is inf", "a number from 0 to 3.40282e+38"),
        ([1, 10], IDS, "row[1]", "the value is 10", "a number from 0 to 9"),
        ([1, 2**64 - 1], IDS, "row[1]", "the value is 18446744073709551615", "a number from 0 to 9"),
        ([[0, -np.inf]], STEPS, "row[0][1]", "the value is -inf", "a number from -3.40282e+38 to 3.40282e+38"),
        ([[0, 1e39]], STEPS, "row[0][1]", "the value is 1e+39", "a number from -3.40282e+38 to 3.40282e+38"),
    ],
)
def test_a_value_out_of_range_is_found_where_it_was_sent(
    values: Any, contract: Any, field: str, problem: str, expected: str
) -> None:
    error = fault(values, contract, np.uint64 if values == [1, 2**64 - 1] else None)
    assert (error.field, error.problem, error.expected) == (field, problem, expected)


def test_the_bounds_themselves_are_in_range() -> None:
    assert checked_array(np.array([[0, 255, 0], [0, 0, 0]]), "row", GREY).max() == 255


def test_no_bound_of_a_manifest_lets_a_number_become_infinite() -> None:
    generous = ColumnsInput(columns=[Column(name="a", minimum=-1e300, maximum=1e300)])
    assert fault([1e300], generous).field == "row.a"
    assert np.isfinite(checked_array(np.array([3.4e38]), "row", generous)).all()


# Texts and pictures


@pytest.mark.parametrize(
    ("contract", "magnitude", "taken"),
    [
        (TensorInput(shape=[2]), 1e3, True),
        (TensorInput(shape=[2], minimum=-1e3, maximum=1e3), 1e3, True),
        (TensorInput(shape=[2], minimum=-9), 1e3, False),
        (TensorInput(shape=[2], maximum=9), 1e3, False),
        (TensorInput(shape=[2], maximum=9), 9.0, True),
    ],
)
def test_rows_are_looked_through_unless_what_is_known_of_them_suffices(
    contract: Any, magnitude: float, taken: bool
) -> None:
    rows = np.array([[-10.0, 10.0]])  # it is not true that none is farther from zero than 9
    assert (checked_rows(rows, contract, magnitude=magnitude) is not None) is taken


def test_a_text_keeps_its_contract() -> None:
    assert checked_text(" fine ", "row", TextInput(max_characters=6)) == " fine "


@pytest.mark.parametrize("text", ["", " ", "\n\t\u2003"])
def test_an_empty_text_is_refused(text: str) -> None:
    with pytest.raises(UnprocessableInput, match="row: the text is empty; expected a text of 1 to 100000 characters"):
        checked_text(text, "row", TextInput())


def test_a_text_that_is_too_long_is_refused() -> None:
    with pytest.raises(UnprocessableInput, match="row: the text has 5 characters; expected a text of 1 to 4"):
        checked_text("a b c", "row", TextInput(max_characters=4))


def test_a_picture_is_brought_to_the_contracts_size() -> None:
    stream = io.BytesIO()
    Image.new("L", (30, 20), 9).save(stream, "PNG")
    pixels = checked_picture(stream.getvalue(), "row", GREY, Allowance(lambda: None))
    assert pixels.tolist() == [[[9, 9, 9], [9, 9, 9]]]


def test_a_broken_picture_says_what_is_wrong_and_what_was_expected() -> None:
    with pytest.raises(UnprocessableInput) as raised:
        checked_picture(b"GIF89a", "instances[0].image", GREY, Allowance(lambda: None))
    assert raised.value.field == "instances[0].image"
    assert "no image of a known format" in raised.value.problem
    assert raised.value.expected == describe(GREY)


@pytest.mark.parametrize(("contract", "joined"), [(TextInput(), list), (STEPS, list), (GREY, np.ndarray)])
def test_rows_are_joined_as_preprocessing_takes_them(contract: Any, joined: type) -> None:
    rows: list[Any] = ["a", "b"] if isinstance(contract, TextInput) else [np.zeros(2), np.zeros(2)]
    assert isinstance(join(rows, contract), joined)
