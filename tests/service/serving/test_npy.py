import io
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from models.preprocess.tensors import Array
from service.errors import MalformedBody
from service.serving.npy import read_npy
from tests.memory import at_most


def saved(array: Array, **options: Any) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array, **options)
    return stream.getvalue()


def crafted(header: str, data: bytes = b"", *, version: tuple[int, int] = (1, 0)) -> bytes:
    text = header.encode("latin-1") + b"\n"
    size = struct.pack("<H" if version == (1, 0) else "<I", len(text))
    return b"\x93NUMPY" + bytes(version) + size + text + data


def described(shape: str = "(2,)", descr: str = "'<f4'", fortran: str = "False") -> str:
    return f"{{'descr': {descr}, 'fortran_order': {fortran}, 'shape': {shape}}}"


numbers = st.sampled_from(["f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8"])
orders = st.sampled_from(["<", ">"])
any_array = st.tuples(numbers, orders).flatmap(
    lambda kind: arrays.arrays(kind[1] + kind[0], arrays.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4))
)


@given(array=any_array, fortran=st.booleans())
def test_whatever_numpy_saves_of_numbers_is_read(array: Array, fortran: bool) -> None:
    got = read_npy(saved(np.asfortranarray(array) if fortran and array.ndim else array))
    assert got.shape == array.shape
    np.testing.assert_array_equal(got, array)


def test_columns_first_is_read_as_rows() -> None:
    array = np.arange(6).reshape(2, 3)
    data = saved(np.asfortranarray(array))
    assert b"'fortran_order': True" in data
    assert read_npy(data).tolist() == array.tolist()


def test_the_array_is_a_view_of_the_body() -> None:
    body = saved(np.zeros(1000))
    array = read_npy(body)
    assert not array.flags.owndata
    assert not array.flags.writeable


class Touch:
    """Unpickling it would make a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def test_a_pickled_array_is_refused_and_not_executed(tmp_path: Path) -> None:
    trap = tmp_path / "executed"
    body = saved(np.array([Touch(trap)], object), allow_pickle=True)
    np.load(io.BytesIO(body), allow_pickle=True)
    assert trap.exists(), "the trap must work"
    trap.unlink()
    with pytest.raises(MalformedBody, match="elements are of type object"):
        read_npy(body)
    assert not trap.exists()


@pytest.mark.parametrize(
    "array",
    [
        np.array(["text"]),
        np.array([b"bytes"]),
        np.array([True]),
        np.array([1j]),
        np.array([(1, 2.0)], "i4,f4"),
        np.array(["2020-01-01"], "M8[D]"),
    ],
)
def test_only_numbers_are_read(array: Array) -> None:
    with pytest.raises(MalformedBody, match="elements are of type"):
        read_npy(saved(array))


@pytest.mark.parametrize("change", [b"x", b"\0" * 100])
def test_bytes_that_no_element_claims_are_refused(change: bytes) -> None:
    with pytest.raises(MalformedBody) as raised:
        read_npy(saved(np.zeros(2, np.float32)) + change)
    assert raised.value.problem == f"{8 + len(change)} bytes of elements were sent for shape (2,) of float32"
    assert raised.value.expected == "8 bytes"


def test_bytes_that_are_missing_are_noticed() -> None:
    with pytest.raises(MalformedBody, match="7 bytes of elements were sent"):
        read_npy(saved(np.zeros(2, np.float32))[:-1])


@pytest.mark.parametrize(
    "shape",
    [
        "(1099511627776,)",
        "(4294967296, 4294967296)",
        "(9223372036854775808, 2)",
        "(99999999999999999999999, 0)",
        "(4611686018427387904, 4, 0)",
        "(-1,)",
        "(-2, -1)",
        "(-1, 0)",
        "(" + "9" * 3000 + ",)",
        "(" + "1, " * 100 + ")",
    ],
)
def test_a_shape_that_lies_takes_no_memory(shape: str) -> None:
    with at_most(16 << 20), pytest.raises(MalformedBody):
        read_npy(crafted(described(shape), bytes(8) if "0)" not in shape else b""))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"PK\x03\x04",
        b"\x80\x04\x95",
        b"\x93NUMPY",
        b"\x93NUMPY\x01\x00\xff\xff{}",
        crafted(described(), bytes(8), version=(3, 0)),
        crafted(described(), bytes(8), version=(9, 9)),
        crafted(""),
        crafted("{}"),
        crafted("[]"),
        crafted("{'descr': '<f4', ("),
        crafted("'''"),
        crafted("[" * 3000),
        crafted("\0"),
        crafted("__import__('os').abort()"),
        crafted(described(descr="'<f99'"), bytes(8)),
        crafted(described(descr="[('a', '<f4')"), bytes(8)),
        crafted(described(descr="('<f4', (2,))"), bytes(16)),
        crafted(described(descr="None"), bytes(8)),
        crafted(described(shape="2"), bytes(8)),
        crafted(described(shape="('2',)"), bytes(8)),
        crafted(described(shape="(True,)"), bytes(4)),
        crafted(described(fortran="'yes'"), bytes(8)),
        crafted(described() + " " * 5000, bytes(8)),
    ],
    ids=lambda body: body[:30].hex(),
)
def test_a_damaged_header_is_refused(body: bytes) -> None:
    with pytest.raises(MalformedBody) as raised:
        read_npy(body)
    assert raised.value.field == "body"
    assert raised.value.expected is not None


@given(st.data())
def test_no_changed_byte_raises_anything_but_malformed_body(data: st.DataObject) -> None:
    changed = bytearray(saved(np.zeros((2, 3), np.float32)))
    for _ in range(data.draw(st.integers(1, 3))):
        changed[data.draw(st.integers(0, len(changed) - 1))] = data.draw(st.integers(0, 255))
    try:
        array = read_npy(bytes(changed))
    except MalformedBody:
        return
    assert array.dtype.kind in "iuf"
