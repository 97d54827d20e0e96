"""Reading a .npy body: numbers only, nothing pickled, and no byte allocated that wasn't sent."""

import functools
import io
import math
from typing import Any

import numpy as np
from numpy.lib import format as npy

from models.preprocess.tensors import Array
from service.errors import MalformedBody

_EXPECTED = "a .npy file of numbers, version 1 or 2"
_MAX_HEADER = 4096
_READ_HEADER = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}


def read_npy(body: bytes) -> Array:
    """The array of a .npy file, a view of `body`. Raises MalformedBody."""
    header = body[: _header_size(body)]
    shape, fortran_order, dtype = _read_header(header)
    count = math.prod(shape)
    sent = len(body) - len(header)
    if any(size < 0 for size in shape) or count * dtype.itemsize != sent:
        what = f"{sent} bytes of elements were sent for shape {shape} of {dtype}"
        raise MalformedBody(what, field="body", expected=f"{count * dtype.itemsize} bytes")
    array = np.frombuffer(body, dtype, count, len(header))
    try:
        return array.reshape(shape, order="F" if fortran_order else "C")
    except ValueError:  # an axis of no elements beside one, or many, past what numpy can count
        raise MalformedBody(f"there is no array of shape {shape}", field="body", expected=_EXPECTED) from None


def _header_size(body: bytes) -> int:
    """Of the magic string, the length and the header, as the length says."""
    size_bytes = 4 if body[6:7] == b"\x02" else 2
    return 8 + size_bytes + int.from_bytes(body[8 : 8 + size_bytes], "little")


# numpy reads a header as Python source, which takes longer than all else; those that come are few.
@functools.lru_cache(maxsize=256)
def _read_header(header: bytes) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    stream = io.BytesIO(header)
    try:
        read_header = _READ_HEADER[npy.read_magic(stream)]
        shape, fortran_order, dtype = read_header(stream, max_header_size=_MAX_HEADER)
    except Exception:  # noqa: BLE001  numpy answers a damaged header with whatever it runs into, tokenize's errors too
        raise MalformedBody("the header can't be read", field="body", expected=_EXPECTED) from None
    if dtype.hasobject or dtype.kind not in "iuf":
        raise MalformedBody(f"elements are of type {dtype}", field="body", expected=_EXPECTED)
    if any(type(size) is not int for size in shape):  # numpy lets (True,) pass here, and stumbles over it later
        raise MalformedBody(f"there is no array of shape {shape}", field="body", expected=_EXPECTED)
    return shape, fortran_order, dtype
