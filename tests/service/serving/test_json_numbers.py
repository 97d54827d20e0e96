from concurrent.futures import ThreadPoolExecutor

import numpy as np
import orjson
import pytest

from models.inputs import ImageInput, TensorInput, TextInput
from service.serving import json_numbers
from service.serving.json_numbers import read_numbers

TWO_BY_THREE = TensorInput(shape=[2, 3])
ONE = TensorInput(shape=[1])
GREY = ImageInput(channels=1, height=2, width=3)
ROW = [[1, 2.5, -3e2], [0, 1e-3, 6]]


def test_rows_come_as_one_array() -> None:
    found = read_numbers(orjson.dumps({"instances": [ROW, ROW]}), TWO_BY_THREE)
    assert found is not None
    np.testing.assert_array_equal(found[0], np.array([ROW, ROW], np.float64))
    assert found[1] is None


def test_space_does_not_matter() -> None:
    found = read_numbers(b' {\n "instances" : [ [ [1 , 2,3] ,\t[4,5,6 ] ] ]\r\n} ', TWO_BY_THREE)
    assert found is not None
    assert found[0].tolist() == [[[1, 2, 3], [4, 5, 6]]]


def test_parameters_come_with_them() -> None:
    parameters = {"top_k": 3, "tags": {"a": "[b]"}, "external_ids": ["x"]}
    found = read_numbers(orjson.dumps({"instances": [ROW], "parameters": parameters}), TWO_BY_THREE)
    assert found is not None
    assert found[1] == parameters


@pytest.mark.parametrize("parameters", [[{"top_k": 3}], "top_k", 3, 0.5, True, None])
def test_parameters_that_are_none_come_as_they_are(parameters: object) -> None:
    """To be refused by whoever knows what they may be."""
    found = read_numbers(orjson.dumps({"instances": [ROW], "parameters": parameters}), TWO_BY_THREE)
    assert found is not None
    assert (found[1], type(found[1])) == (parameters, type(parameters))


@pytest.mark.parametrize(("num_rows", "kept"), [(1, True), (50_000, False)])
def test_what_a_large_body_took_is_not_kept(num_rows: int, kept: bool) -> None:
    rows = np.arange(6.0 * num_rows).reshape(-1, 2, 3)
    body = orjson.dumps({"instances": rows.tolist(), "parameters": {"top_k": 1}})

    def read() -> bool:
        found = read_numbers(body, TWO_BY_THREE)
        assert found is not None
        np.testing.assert_array_equal(found[0], rows)
        return hasattr(json_numbers._kept, "parser")

    with ThreadPoolExecutor(1) as thread:  # which has read nothing before
        assert thread.submit(read).result() == kept


@pytest.mark.parametrize(("rows", "shape"), [([ROW], (1, 2, 3)), ([[ROW]], (1, 1, 2, 3))])
def test_grey_pictures_may_come_without_their_channel(rows: object, shape: tuple[int, ...]) -> None:
    found = read_numbers(orjson.dumps({"instances": rows}), GREY)
    assert found is not None
    assert found[0].shape == shape


@pytest.mark.parametrize(
    "body",
    [
        b'{"instances": [[[1,2,3],[4,5]]]}',
        b'{"instances": [[[1,2,3,4],[5,6]]]}',
        b'{"instances": [[[1,2],[3,4],[5,6]]]}',
        b'{"instances": [[1,2,3,4,5,6]]}',
        b'{"instances": [[[1,2,3],[4,5,6]],[[1,2,3],[4,5]]]}',
        b'{"instances": [[[1,2,3],[4,5,true]]]}',
        b'{"instances": [[[1,2,3],[4,5,null]]]}',
        b'{"instances": [[[1,2,3],[4,5,"6"]]]}',
        b'{"instances": [[[1,2,3],[4,5,18446744073709551616]]]}',
        b'{"instances": [[[1,2,3],[4,5,9007199254740993]]]}',
        b'{"instances": [[[1,2,3],[4,5,1e999]]]}',
        b'{"instances": [[[1,2,3],[4,5,6]]]',
        b'{"instances": [[[1,2,3],[4,5,6]]]} x',
        b'{"instances": [[[1,2,3],[4,5,06]]]}',
        b'{"instances": [[[1,2,3],[4,5,6]]], "instances": [[1]]}',
        b'{"instances": [[[1,2,3],[4,5,6]]], "more": 1}',
        b'{"instancs": [[[1,2,3],[4,5,6]]]}',
        b'{"parameters": {}, "instances": [[[1,2,3],[4,5,6]]]}',
        b'{"instances": [{"values": [[1,2,3],[4,5,6]]}]}',
        b"[[[1,2,3],[4,5,6]]]",
        b"\xef\xbb\xbf" + b'{"instances": [[[1,2,3],[4,5,6]]]}',
        b"",
    ],
)
def test_all_else_is_read_the_long_way(body: bytes) -> None:
    assert read_numbers(body, TWO_BY_THREE) is None


def test_a_row_without_its_only_number_is_none() -> None:
    assert read_numbers(b'{"instances": [[]]}', ONE) is None
    assert read_numbers(b'{"instances": [[5]]}', ONE) is not None


@pytest.mark.parametrize(
    "contract",
    [
        TextInput(max_characters=9),
        TensorInput(shape=[-1]),
        TensorInput(shape=[3], dtype="int64", minimum=0, maximum=9),
    ],
)
def test_only_numbers_of_one_shape_are_read(contract: TextInput | TensorInput) -> None:
    assert read_numbers(b'{"instances": [[1,2,3]]}', contract) is None
