"""Frames between processes: version, kind, id, a small JSON object, arrays. No pickle.

    header  magic "SL" | version u8 | kind u8 | arrays u32 | request id u64 | meta u32 | payload u32 | 8 zeros
    meta    a JSON object of `meta` bytes, then zeros up to a multiple of 16
    arrays  dtype u8 | dimensions u8 | 6 zeros | dimension u64 ...; then the elements; each part padded to 16

All numbers are little-endian. Elements begin at multiples of 16 so that they can be used where they lie.
"""

import functools
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

import numpy as np
import orjson

from models.preprocess.tensors import Array
from service.errors import BrokenContract

VERSION = 3
MAX_PAYLOAD_BYTES = 1 << 30

_HEADER = struct.Struct("<2sBBIQII8x")
_MAGIC = b"SL"
_ALIGN = 16
_COPIED_BYTES = 4096
_PADDING = [bytes(size) for size in range(_ALIGN)]
_DTYPES = [np.dtype(name) for name in ("<f4", "<i8", "<i4", "<u1", "<f8", "<f2", "|b1")]
_CODES = {dtype: code for code, dtype in enumerate(_DTYPES)}
_MAX_DIMENSIONS = 8

Bytes = bytes | memoryview


class Kind(IntEnum):
    """What a frame says.

    The engine answers every request of an INFER, every LOAD and UNLOAD exactly once, with RESULT, LOADED, UNLOADED or
    FAILED; INFER and RESULT hold many, with ids of their own (service.wire.inference), the others one. COUNTED answers
    COUNT. The recorder answers every RECORD with RECORDED once its rows are durable, every FEEDBACK with NOTED or
    FAILED, and every CHANGE with CHANGED or FAILED; the loop every EVALUATE with EVALUATED or FAILED. The supervisor
    sends a VIEW to every http process at each change, and takes WANT from them.
    """

    INFER = 1
    CANCEL = 2
    RESULT = 3
    FAILED = 4
    STATUS = 5
    LOAD = 6
    LOADED = 7
    UNLOAD = 8
    UNLOADED = 9
    COUNT = 10
    COUNTED = 11
    RECORD = 16
    RECORDED = 17
    CHANGE = 18
    CHANGED = 19
    FEEDBACK = 20
    NOTED = 21
    EVALUATE = 24
    EVALUATED = 25
    VIEW = 32
    WANT = 33


_KINDS = {int(kind): kind for kind in Kind}


@dataclass(frozen=True, slots=True)
class Frame:
    """One message. What answers it has its `request_id`, unless kinds say otherwise."""

    kind: Kind
    request_id: int = 0
    meta: Mapping[str, Any] = field(default_factory=dict)
    arrays: Sequence[Array] = ()


def parts_of(frame: Frame) -> list[Bytes]:
    """The frame's bytes one after another, with the arrays' own memory among them.

    Raises BrokenContract on an array that has no place on the wire.
    """
    meta = orjson.dumps(frame.meta)
    heads = [_array_head(array.dtype, array.shape) for array in frame.arrays]
    payload = _padded(len(meta))
    for head, array in zip(heads, frame.arrays, strict=True):
        payload += len(head) + _padded(array.nbytes)
    if payload > MAX_PAYLOAD_BYTES:
        raise BrokenContract("frame size", expected=f"at most {MAX_PAYLOAD_BYTES} bytes", got=payload)
    header = _HEADER.pack(_MAGIC, VERSION, frame.kind, len(heads), frame.request_id, len(meta), payload)
    parts = _Parts(header)
    parts.add(meta)
    for head, array in zip(heads, frame.arrays, strict=True):
        parts.add_head(head)
        # Only contiguous arrays have their bytes in one place, and few bytes are copied sooner than looked after.
        in_place = array.nbytes > _COPIED_BYTES and array.flags.c_contiguous
        parts.add(array.data.cast("B") if in_place else array.tobytes())
    return parts.joined()


@functools.lru_cache(maxsize=1024)
def _array_head(dtype: np.dtype[Any], shape: tuple[int, ...]) -> bytes:
    code, ndim = _CODES.get(dtype), len(shape)
    if code is None or ndim > _MAX_DIMENSIONS:
        raise BrokenContract("array on the wire", expected="a known dtype", got=f"{dtype}, {ndim} dims")
    head = struct.pack(f"<BB6x{ndim}Q", code, ndim, *shape)
    return head + _PADDING[-len(head) % _ALIGN]


class _Parts:
    """A frame's bytes in as few parts as can be without copying those that are large."""

    def __init__(self, header: bytes) -> None:
        self._parts: list[Bytes] = []
        self._small: list[Bytes] = [header]

    def add_head(self, head: bytes) -> None:
        """What says how an array is read; padded already."""
        self._small.append(head)

    def add(self, data: Bytes) -> None:
        """One part of the payload, and what pads it."""
        size = len(data)
        if size > _COPIED_BYTES:
            self._parts += (b"".join(self._small), data)
            self._small = []
        else:
            self._small.append(data)
        if size % _ALIGN:
            self._small.append(_PADDING[-size % _ALIGN])

    def joined(self) -> list[Bytes]:
        if self._small:
            self._parts.append(b"".join(self._small))
        return self._parts


class FrameBuffer:
    """Cuts a stream of bytes into frames."""

    def __init__(self) -> None:
        self._bytes = bytearray()

    def feed(self, data: bytes) -> Iterator[Frame]:
        """Yield each frame that `data` completes. Raises BrokenContract on bytes that are no frame."""
        self._bytes += data
        start = 0
        while len(self._bytes) - start >= _HEADER.size:
            header = _HEADER.unpack_from(self._bytes, start)
            magic, version, *_, size = header
            if magic != _MAGIC or version != VERSION or size > MAX_PAYLOAD_BYTES:
                raise BrokenContract("frame header", expected=(_MAGIC, VERSION), got=(magic, version))
            end = start + _HEADER.size + size
            if len(self._bytes) < end:
                break
            with memoryview(self._bytes) as view:  # a slice of the buffer itself would be copied twice
                payload = bytes(view[start + _HEADER.size : end])
            yield _decode(header, payload)
            start = end
        if start:
            del self._bytes[:start]


def _decode(header: tuple[Any, ...], payload: bytes) -> Frame:
    _, _, kind, num_arrays, request_id, meta_size, _ = header
    try:
        meta = orjson.loads(payload[:meta_size])
        if not isinstance(meta, dict):
            raise ValueError("meta is no object")
        at, arrays = _padded(meta_size), []
        for _ in range(num_arrays):
            array, at = _decode_array(payload, at)
            arrays.append(array)
        return Frame(_KINDS[kind], request_id, meta, arrays)
    except (ValueError, LookupError, OverflowError, struct.error) as error:
        raise BrokenContract("frame", expected="a readable payload", got=error) from error


def _decode_array(payload: bytes, at: int) -> tuple[Array, int]:
    code, ndim = struct.unpack_from("<BB", payload, at)
    if ndim > _MAX_DIMENSIONS:
        raise ValueError(f"{ndim} dimensions")
    shape = struct.unpack_from(f"<{ndim}Q", payload, at + 8)
    at += _padded(8 + 8 * ndim)
    count = 1
    for size in shape:
        count *= size
    array = np.frombuffer(payload, _DTYPES[code], count, at).reshape(shape)
    return array, at + _padded(array.nbytes)


def _padded(size: int) -> int:
    return size + -size % _ALIGN
