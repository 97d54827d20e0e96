"""One row, or an array of them, as a body that is no JSON."""

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from service.errors import MalformedBody, UnprocessableInput
from service.serving.allowance import Allowance
from service.serving.codec import parse_rows
from tests.service.serving.bodies import COLUMNS, GREY, PAIR, STEPS, body, fault, npy, read


def picture(format_: str = "PNG") -> bytes:
    stream = io.BytesIO()
    Image.new("L", (2, 2), 7).save(stream, format_, lossless=True)
    return stream.getvalue()


def test_a_plain_text_is_a_row() -> None:
    assert read(body("Grüße".encode(), "text/plain; charset=utf-8")).rows == ["Grüße"]


def test_a_plain_text_that_is_wrong_is_located_in_the_body() -> None:
    error = fault(UnprocessableInput, body(b" ", "text/plain"))
    assert (error.problem, error.field) == ("the text is empty", "body")


def test_a_plain_text_that_is_no_utf8_is_malformed() -> None:
    error = fault(MalformedBody, body(b"ab\xff", "text/plain"))
    assert (error.problem, error.field, error.expected) == ("byte 2 is not UTF-8", "body", "text in UTF-8")


@pytest.mark.parametrize(
    ("format_", "media_type"), [("PNG", "image/png"), ("JPEG", "image/jpeg"), ("WEBP", "image/webp")]
)
def test_an_image_file_is_a_row(format_: str, media_type: str) -> None:
    rows = read(body(picture(format_), media_type), GREY).rows
    np.testing.assert_allclose(rows, np.full((1, 1, 2, 2), 7), atol=2)  # type: ignore[arg-type]


def test_a_broken_image_is_located_in_the_body() -> None:
    error = fault(UnprocessableInput, body(b"nothing", "image/png"), GREY)
    assert error.field == "body"
    assert "no image of a known format" in error.problem


@pytest.mark.parametrize(
    ("array", "contract", "shape"),
    [
        (np.ones((2, 2)), GREY, (1, 1, 2, 2)),
        (np.ones((1, 2, 2)), GREY, (1, 1, 2, 2)),
        (np.ones((3, 1, 2, 2)), GREY, (3, 1, 2, 2)),
        (np.ones(2), COLUMNS, (1, 2)),
        (np.ones((3, 2), ">i4"), COLUMNS, (3, 2)),
        (np.asfortranarray(np.ones((3, 2))), COLUMNS, (3, 2)),
    ],
)
def test_an_array_is_a_row_or_a_batch_when_it_has_one_axis_more(array: Any, contract: Any, shape: Any) -> None:
    rows = read(body(npy(array), "application/x-npy"), contract).rows
    assert isinstance(rows, np.ndarray)
    assert (rows.shape, rows.dtype) == (shape, np.float32)


@pytest.mark.parametrize(("shape", "lengths"), [((3, 2), [3]), ((2, 3, 2), [3, 3])])
def test_arrays_of_steps_become_sequences(shape: tuple[int, ...], lengths: list[int]) -> None:
    rows = read(body(npy(np.ones(shape)), "application/x-npy"), STEPS).rows
    assert isinstance(rows, list)
    assert [len(row) for row in rows] == lengths


def test_an_array_as_the_model_takes_it_is_used_where_it_lies_in_the_body() -> None:
    data = npy(np.ones((3, 2), np.float32))
    rows = read(body(data, "application/x-npy"), PAIR).rows
    assert np.shares_memory(rows, np.frombuffer(data, np.uint8))


class Gone(Exception):
    """Whoever waited for the answer."""


def test_no_further_row_of_an_array_is_checked_once_nobody_waits() -> None:
    def check() -> None:
        raise Gone

    # What is wrong with the row is not found any more.
    parsed = parse_rows(body(npy([[1, np.nan]]), "application/x-npy"), COLUMNS, max_rows=3)
    with pytest.raises(Gone):
        parsed.rows(Allowance(check))


NUMBERS = "a number for each column: area, rooms"


@pytest.mark.parametrize(
    ("array", "contract", "field", "problem", "expected"),
    [
        (np.ones((0, 2)), COLUMNS, "body", "the array has no rows", "at least one row"),
        (np.ones((4, 2)), COLUMNS, "body", "there are 4 rows", "at most 3"),
        (np.ones(3), COLUMNS, "body", "the shape is 3", NUMBERS),
        (np.ones((2, 3)), COLUMNS, "body[0]", "the shape is 3", NUMBERS),
        (np.ones((1, 2, 2)), COLUMNS, "body", "the shape is 1 x 2 x 2", NUMBERS),
        (np.array([[1, 2], [np.nan, 2]]), COLUMNS, "body[1].area", "the value is nan", "a number from -3.40282e+38 to"),
        (np.ones((3, 2, 2)), GREY, "body", "the shape is 3 x 2 x 2", "1 x 2 x 2 numbers from 0 to 255"),
    ],
)
def test_a_wrong_array_is_located(array: Any, contract: Any, field: str, problem: str, expected: str) -> None:
    error = fault(UnprocessableInput, body(npy(array), "application/x-npy"), contract)
    assert (error.field, error.problem) == (field, problem)
    assert error.expected is not None
    assert error.expected.startswith(expected)


def test_a_raw_bodys_parameters_come_in_the_query() -> None:
    decoded = read(body(b"fine", "text/plain", top_k="2", external_id="order-1"))
    assert (decoded.parameters.top_k, decoded.parameters.external_ids) == (2, ("order-1",))
