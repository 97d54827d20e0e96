"""The protocol's types of elements, from bytes and from JSON to arrays, and back."""

import math
import struct
from itertools import chain
from typing import Any

import numpy as np

from models.preprocess.tensors import Array
from service.errors import UnprocessableInput

BYTES = "BYTES"
BF16 = "BF16"
NUMBERS: dict[str, np.dtype[Any]] = {
    "BOOL": np.dtype("?"),
    **{f"UINT{8 * size}": np.dtype(f"<u{size}") for size in (1, 2, 4, 8)},
    **{f"INT{8 * size}": np.dtype(f"<i{size}") for size in (1, 2, 4, 8)},
    **{f"FP{8 * size}": np.dtype(f"<f{size}") for size in (2, 4, 8)},
}
DATATYPES = (*NUMBERS, BF16, BYTES)
# JSON has no numbers of these, says the protocol.
_BINARY_ONLY = ("FP16", BF16)

_JSON_TYPES: dict[str, set[type]] = {"b": {bool}, "i": {int}, "u": {int}, "f": {int, float}}
_JSON_NAMES = {bool: "a boolean", int: "a whole number", float: "a fraction", str: "a text", type(None): "null"} | {
    list: "an array",
    dict: "an object",
}

_LENGTH = struct.Struct("<I")


Elements = Array | list[bytes]
"""Of a tensor: an array of its shape, or, of BYTES, a flat list."""


def elements_from_bytes(data: memoryview, datatype: str, shape: tuple[int, ...], field: str) -> Elements:
    """The elements of a tensor in its binary form. Raises UnprocessableInput."""
    if datatype == BYTES:
        return _texts_from_bytes(data, shape, field)
    return _numbers_from_bytes(data, datatype, shape, field)


def elements_from_json(values: Any, datatype: str, shape: tuple[int, ...], field: str) -> Elements:
    """The elements of a tensor in JSON, flat or nested as `shape` says. Raises UnprocessableInput."""
    if datatype == BYTES:
        return _texts_from_json(values, shape, field)
    return _numbers_from_json(values, datatype, shape, field)


def _numbers_from_bytes(data: memoryview, datatype: str, shape: tuple[int, ...], field: str) -> Array:
    """An array over `data` itself where that is aligned for it. Raises UnprocessableInput where sizes differ."""
    dtype = np.dtype("<u2") if datatype == BF16 else NUMBERS[datatype]
    expected = math.prod(shape) * dtype.itemsize
    if len(data) != expected:
        what = f"{len(data)} bytes were sent for shape {list(shape)} of {datatype}"
        raise UnprocessableInput(what, field=field, expected=f"{expected} bytes")
    array = np.frombuffer(data, dtype)
    if datatype == BF16:
        # The upper half of a float32.
        array = (array.astype(np.uint32) << 16).view(np.float32)
    elif not array.flags.aligned:
        array = array.copy()
    elif datatype == "BOOL" and array.size and array.view(np.uint8).max() > 1:
        raise UnprocessableInput("a byte is neither 0 nor 1", field=field, expected="a byte of 0 or 1 for each BOOL")
    return array.reshape(shape)


def _numbers_from_json(values: Any, datatype: str, shape: tuple[int, ...], field: str) -> Array:
    """An array of numbers that are flat, or nested as `shape` says; floats as float64. Raises UnprocessableInput."""
    dtype = NUMBERS.get(datatype)
    if dtype is None or datatype in _BINARY_ONLY:
        expected = f"binary data, or another type than {datatype}"
        raise UnprocessableInput(f"{datatype} does not travel as JSON", field=field, expected=expected)
    expected = f"{math.prod(shape)} elements of {datatype}, {_flat_or_nested(shape)}"
    if isinstance(values, np.ndarray):
        return _fitting(values, datatype, shape, field, expected)
    flat = _flat(values, shape, field, expected)
    # numpy takes true for 1, and makes one text as long as the longest of every element, without a word.
    if wrong := set(map(type, flat)) - _JSON_TYPES[dtype.kind]:
        what = f"an element is {' or '.join(sorted(_JSON_NAMES[kind] for kind in wrong))}"
        raise UnprocessableInput(what, field=field, expected=expected)
    try:
        # Whoever checks what is sent knows better than a cast what becomes of too large a number.
        array = np.array(flat, np.float64 if dtype.kind == "f" else dtype)
    except OverflowError:
        raise _out_of_range(datatype, field, expected) from None
    return array.reshape(shape)


def _fitting(values: Array, datatype: str, shape: tuple[int, ...], field: str, expected: str) -> Array:
    """Flat numbers that were read as 64-bit ones, as their type has them."""
    if len(values) != math.prod(shape):
        raise UnprocessableInput(f"there are {len(values)} elements", field=field, expected=expected)
    dtype = NUMBERS[datatype]
    if dtype.kind == "f":
        return values.reshape(shape)
    bounds = np.iinfo(dtype)
    if values.size and not (bounds.min <= int(values.min()) and int(values.max()) <= bounds.max):
        raise _out_of_range(datatype, field, expected)
    return values.astype(dtype, copy=False).reshape(shape)


def _out_of_range(datatype: str, field: str, expected: str) -> UnprocessableInput:
    return UnprocessableInput(f"a number is out of {datatype}'s range", field=field, expected=expected)


def _texts_from_bytes(data: memoryview, shape: tuple[int, ...], field: str) -> list[bytes]:
    """Elements that each come behind their length. Raises UnprocessableInput where they are not as many as `shape`."""
    count = math.prod(shape)
    if count * _LENGTH.size > len(data):
        what = f"{len(data)} bytes were sent for shape {list(shape)} of {BYTES}"
        raise UnprocessableInput(what, field=field, expected=f"{count} elements, each behind 4 bytes with its length")
    elements, at = [], 0
    for index in range(count):
        if at + _LENGTH.size > len(data):
            raise UnprocessableInput(f"element {index} is missing", field=field, expected=f"{count} elements")
        (size,) = _LENGTH.unpack_from(data, at)
        at += _LENGTH.size
        if at + size > len(data):
            what = f"element {index} says that it has {size} bytes, and {len(data) - at} are left"
            raise UnprocessableInput(what, field=field, expected="a length that is no larger than what follows")
        elements.append(bytes(data[at : at + size]))
        at += size
    if at != len(data):
        what = f"{len(data) - at} bytes are left over"
        raise UnprocessableInput(what, field=field, expected=f"{count} elements and nothing behind them")
    return elements


def _texts_from_json(values: Any, shape: tuple[int, ...], field: str) -> list[bytes]:
    """Texts that are flat, or nested as `shape` says, as UTF-8. Raises UnprocessableInput."""
    expected = f"{math.prod(shape)} strings, {_flat_or_nested(shape)}"
    flat = _flat(values, shape, field, expected)
    if not all(isinstance(value, str) for value in flat):
        raise UnprocessableInput("an element is no string", field=field, expected=expected)
    return [value.encode() for value in flat]


def _flat(values: Any, shape: tuple[int, ...], field: str, expected: str) -> list[Any]:
    """The elements of JSON arrays. Raises UnprocessableInput where they are not as many, or not nested so."""
    if not isinstance(values, list):
        raise UnprocessableInput("this is no array", field=field, expected=expected)
    elements: list[Any] = values
    if len(shape) > 1 and elements and isinstance(elements[0], list):
        for size in shape[1:]:
            if not all(isinstance(value, list) and len(value) == size for value in elements):
                raise UnprocessableInput("it is not nested as the shape says", field=field, expected=expected)
            elements = list(chain.from_iterable(elements))
    if len(elements) != math.prod(shape):
        raise UnprocessableInput(f"there are {len(elements)} elements", field=field, expected=expected)
    return elements


def _flat_or_nested(shape: tuple[int, ...]) -> str:
    return f"flat or nested as shape {list(shape)} says"
