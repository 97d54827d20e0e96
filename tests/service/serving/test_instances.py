import base64
import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import Image

from models.inputs import Column, ColumnsInput, ImageInput, TensorInput, TextInput
from models.preprocess.images import MAX_PIXELS
from service.errors import UnprocessableInput
from service.serving.allowance import Allowance
from service.serving.contracts import describe
from service.serving.instances import rows_from_json

GREY = ImageInput(channels=1, height=2, width=2)
COLUMNS = ColumnsInput(columns=[Column(name="area"), Column(name="rooms")])
STEPS = TensorInput(shape=[-1, 2], max_length=4)
IDS = TensorInput(shape=[-1], dtype="int64", minimum=0, maximum=9)
VECTOR = TensorInput(shape=[3])
TEXT = TextInput(max_characters=20)


def read(instances: list[Any], contract: Any) -> Any:
    return rows_from_json(instances, contract, Allowance(lambda: None), may_hold_booleans=True)


def fault(instances: list[Any], contract: Any) -> UnprocessableInput:
    with pytest.raises(UnprocessableInput) as raised:
        read(instances, contract)
    return raised.value


def picture(value: int) -> str:
    stream = io.BytesIO()
    Image.new("L", (2, 2), value).save(stream, "PNG")
    return base64.b64encode(stream.getvalue()).decode()


# The forms that are taken


@pytest.mark.parametrize(
    "instance", [[[1, 2], [3, 4]], [[[1, 2], [3, 4]]], {"values": [[1, 2], [3, 4]]}, [[1.0, 2], [3, 4]]]
)
def test_pixels_come_as_lists(instance: Any) -> None:
    assert read([instance], GREY).tolist() == [[[[1, 2], [3, 4]]]]


def test_pictures_come_in_base64_and_among_pixels() -> None:
    rows = read([{"image": picture(7)}, [[1, 2], [3, 4]]], GREY)
    assert rows.tolist() == [[[[7, 7], [7, 7]]], [[[1, 2], [3, 4]]]]


def test_pixels_are_bytes_only_where_all_rows_are_pictures() -> None:
    assert read([{"image": picture(7)}], GREY).dtype == np.uint8
    assert read([{"image": picture(7)}, [[1, 2], [3, 4]]], GREY).dtype == np.float32


@pytest.mark.parametrize(
    "instance",
    [{"columns": {"rooms": 2, "area": 50.5}}, [50.5, 2], {"values": [50.5, 2]}],
    ids=["names", "list", "values"],
)
def test_columns_come_by_name_or_in_order(instance: Any) -> None:
    assert read([instance], COLUMNS).tolist() == [[50.5, 2]]


@pytest.mark.parametrize("instance", ["some text", {"text": "some text"}])
def test_texts_come_plain_or_named(instance: Any) -> None:
    assert read([instance], TEXT) == ["some text"]


def test_sequences_keep_their_lengths() -> None:
    rows = read([[[1, 2]], {"values": [[1, 2], [3, 4]]}], STEPS)
    assert [row.shape for row in rows] == [(1, 2), (2, 2)]


def test_ids_are_whole() -> None:
    (row,) = read([[1, 2, 3]], IDS)
    assert (row.tolist(), row.dtype) == ([1, 2, 3], np.int64)


# What is refused: where, what, and what was expected


@pytest.mark.parametrize(
    ("instance", "field", "problem"),
    [
        ([[1, True], [1, 2]], "instances[1][0][1]", "this is a boolean"),
        ([[False, 1], [1, 2]], "instances[1][0][0]", "this is a boolean"),
        ([[True, True], [True, True]], "instances[1][0][0]", "this is a boolean"),
        ([[1, "2"], [1, 2]], "instances[1][0][1]", "this is a string"),
        ([["1", "2"], ["1", "2"]], "instances[1][0][0]", "this is a string"),
        ([[1, None], [1, 2]], "instances[1][0][1]", "this is null"),
        ([[1, {}], [1, 2]], "instances[1][0][1]", "this is an object"),
        ([[1, 2], [1]], "instances[1][1]", "this has 1 elements and its neighbour instances[1][0] 2 elements"),
        ([[1, 2], 1], "instances[1][1]", "this has none: it is a number and its neighbour instances[1][0] 2 elements"),
        ([[1, [2]], [1, 2]], "instances[1][0][1]", "this has 1 elements and its neighbour"),
        ("text", "instances[1]", "this is a string"),
        (None, "instances[1]", "this is null"),
        (True, "instances[1]", "this is a boolean"),
        (5, "instances[1]", "the shape is that of a single number"),
        ([], "instances[1]", "the shape is 0"),
        ([[], []], "instances[1]", "the shape is 2 x 0"),
        ({}, "instances[1]", "the object has the keys: none"),
        ({"pixels": [[1, 2], [3, 4]]}, "instances[1]", "the object has the keys: pixels"),
        ({"values": [[1, 2], [3, 4]], "x": 1}, "instances[1]", "the object has the keys: values, x"),
        ({"values": [[1, True], [3, 4]]}, "instances[1].values[0][1]", "this is a boolean"),
        ({"values": [[1, 2], [3, 400]]}, "instances[1].values[1][1]", "the value is 400"),
        ({"image": "not base64!"}, "instances[1].image", "this is not base64"),
        ({"image": "é"}, "instances[1].image", "this is not base64"),
        ({"image": f"{picture(1)[:8]} {picture(1)[8:]}"}, "instances[1].image", "this is not base64"),
        ({"image": 5}, "instances[1].image", "this is a number"),
        ({"image": base64.b64encode(b"nothing").decode()}, "instances[1].image", "the bytes are no image"),
        ({"image": picture(1), "values": []}, "instances[1]", "the object has the keys: image, values"),
        ([[1, 1e100], [1, 2]], "instances[1][0][1]", "the value is 1e+100"),
        ([[1, 2**64 - 1], [1, 2]], "instances[1][0][1]", "the value is 1.8446744073709552e+19"),
    ],
)
def test_a_wrong_picture_is_located(instance: Any, field: str, problem: str) -> None:
    error = fault([[[1, 2], [3, 4]], instance], GREY)
    assert error.field == field
    assert problem in error.problem
    assert error.expected


@pytest.mark.parametrize(
    ("instance", "field", "problem"),
    [
        ({"columns": {"area": 1}}, "instances[0].columns", "the column 'rooms' is missing"),
        ({"columns": {"area": 1, "rooms": 1, "x": 1}}, "instances[0].columns", "there is no column 'x'"),
        ({"columns": {"area": True, "rooms": 1}}, "instances[0].columns.area", "this is a boolean"),
        ({"columns": {"area": "1", "rooms": 1}}, "instances[0].columns.area", "this is a string"),
        ({"columns": {"area": None, "rooms": 1}}, "instances[0].columns.area", "this is null"),
        ({"columns": {"area": [1], "rooms": 1}}, "instances[0].columns.area", "this is an array"),
        ({"columns": {"area": 1e200, "rooms": 1}}, "instances[0].columns.area", "the value is 1e+200"),
        ({"columns": [1, 2]}, "instances[0].columns", "this is an array"),
        ({"area": 1, "rooms": 2}, "instances[0]", "the object has the keys: area, rooms"),
        ({"columns": {}, "values": []}, "instances[0]", "the object has the keys: columns, values"),
        ([1], "instances[0]", "the shape is 1"),
        ([1, False], "instances[0][1]", "this is a boolean"),
    ],
)
def test_wrong_columns_are_located(instance: Any, field: str, problem: str) -> None:
    error = fault([instance], COLUMNS)
    assert (error.field, error.problem) == (field, problem)


@pytest.mark.parametrize(
    ("instance", "field", "problem"),
    [
        (5, "instances[0]", "this is a number"),
        (None, "instances[0]", "this is null"),
        (["a"], "instances[0]", "this is an array"),
        ({"text": 5}, "instances[0].text", "this is a number"),
        ({"Text": "a"}, "instances[0]", "the object has the keys: Text"),
        ("", "instances[0]", "the text is empty"),
        ({"text": "  "}, "instances[0].text", "the text is empty"),
        ("a" * 21, "instances[0]", "the text has 21 characters"),
    ],
)
def test_a_wrong_text_is_located(instance: Any, field: str, problem: str) -> None:
    error = fault([instance], TEXT)
    assert (error.field, error.problem) == (field, problem)


@pytest.mark.parametrize(
    ("instance", "contract", "field"),
    [
        ([1, 2.5], IDS, "instances[0]"),
        ([1, 10], IDS, "instances[0][1]"),
        ([1, -1], IDS, "instances[0][1]"),
        ([[1, 2], [3]], STEPS, "instances[0][1]"),
        ([[1, 2]] * 5, STEPS, "instances[0]"),
        ([1, 2], VECTOR, "instances[0]"),
    ],
)
def test_a_wrong_tensor_is_located(instance: Any, contract: Any, field: str) -> None:
    assert fault([instance], contract).field == field


@pytest.mark.parametrize("depth", [3, 40, 70, 900])
def test_deeper_lists_than_the_contracts_are_refused_without_following_them(depth: int) -> None:
    nested: Any = 1
    for _ in range(depth + 1):
        nested = [nested]
    error = fault([nested], VECTOR)
    assert error.field is not None
    assert len(error.field) < 100
    assert error.expected == describe(VECTOR)


def test_without_booleans_in_the_body_rows_are_read_alike() -> None:
    instances = [[[1, 2], [3, 4]]]
    fast = rows_from_json(instances, GREY, Allowance(lambda: None), may_hold_booleans=False)
    np.testing.assert_array_equal(fast, read(instances, GREY))


def png_that_claims(width: int, height: int) -> str:
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    data = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    return base64.b64encode(data + struct.pack(">I", 0) + b"IDAT" + struct.pack(">I", zlib.crc32(b"IDAT"))).decode()


def test_the_pixels_of_all_images_are_counted_before_they_are_unfolded() -> None:
    stream = io.BytesIO()
    Image.new("L", (40, 20), 9).save(stream, "PNG")
    small, claims = base64.b64encode(stream.getvalue()).decode(), png_that_claims(5600, 5600)
    allowance = Allowance(lambda: None, max_pixels=30_000_000)
    with pytest.raises(UnprocessableInput) as raised:
        rows_from_json([{"image": small}, {"image": claims}], GREY, allowance, may_hold_booleans=False)
    assert raised.value.field == "instances[1].image"
    assert raised.value.problem == "with this image the request has 31360800 pixels"
    assert raised.value.expected == "at most 30000000 in all its images"


def test_two_of_the_largest_images_may_come_together() -> None:
    allowance = Allowance(lambda: None)
    for _ in range(2):
        allowance.admit(MAX_PIXELS, "image")
    with pytest.raises(UnprocessableInput):
        allowance.admit(1, "image")


def test_whether_the_answer_is_still_wanted_is_asked_before_every_row() -> None:
    class Late(Exception):
        pass

    asked = iter([None, Late()])

    def check() -> None:
        if (late := next(asked)) is not None:
            raise late

    with pytest.raises(Late):
        rows_from_json([[[1, 2], [3, 4]], "no row"], GREY, Allowance(check), may_hold_booleans=False)
