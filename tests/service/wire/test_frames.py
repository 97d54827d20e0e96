import re
import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from models.preprocess.tensors import Array
from service.errors import BrokenContract
from service.wire.frames import MAX_PAYLOAD_BYTES, VERSION, Frame, FrameBuffer, Kind, parts_of
from tests.frames import encode
from tests.memory import at_most

DTYPES = ["<f4", "<i8", "<i4", "<u1", "<f8", "<f2", "|b1"]
HEADER = struct.Struct("<2sBBIQII8x")

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
any_array = st.sampled_from(DTYPES).flatmap(
    lambda dtype: arrays.arrays(dtype, arrays.array_shapes(min_dims=0, max_dims=5, min_side=0, max_side=4))
)
frames = st.builds(
    Frame,
    kind=st.sampled_from(Kind),
    request_id=st.integers(0, 2**64 - 1),
    meta=st.dictionaries(st.text(), json_values, max_size=4),
    arrays=st.lists(any_array, max_size=3),
)


def only(data: bytes) -> Frame:
    (frame,) = FrameBuffer().feed(data)
    return frame


def assert_same(got: Frame, sent: Frame) -> None:
    assert (got.kind, got.request_id, got.meta) == (sent.kind, sent.request_id, sent.meta)
    assert len(got.arrays) == len(sent.arrays)
    for a, b in zip(got.arrays, sent.arrays, strict=True):
        assert (a.dtype, a.shape) == (b.dtype, b.shape)
        assert a.tobytes() == b.tobytes()


@given(frames)
def test_a_frame_arrives_as_it_was_sent(frame: Frame) -> None:
    assert_same(only(encode(frame)), frame)


@given(sent=st.lists(frames, max_size=4), data=st.data())
def test_how_the_stream_is_cut_does_not_matter(sent: list[Frame], data: st.DataObject) -> None:
    stream = b"".join(map(encode, sent))
    cuts = data.draw(st.lists(st.integers(0, len(stream)), max_size=12).map(sorted))
    buffer, got = FrameBuffer(), []
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        got += buffer.feed(stream[start:end])
    assert len(got) == len(sent)
    for a, b in zip(got, sent, strict=True):
        assert_same(a, b)


def test_byte_by_byte_a_frame_is_complete_with_its_last_byte() -> None:
    data = encode(Frame(Kind.INFER, 7, {"model": "m"}, [np.arange(6).reshape(2, 3)]))
    buffer = FrameBuffer()
    counts = [len(list(buffer.feed(data[i : i + 1]))) for i in range(len(data))]
    assert counts == [0] * (len(data) - 1) + [1]


def test_a_frame_lies_on_the_wire_as_version_3_says() -> None:
    header = b"SL" + struct.pack("<BBIQII8x", 3, 3, 1, 7, 7, 64)
    array = struct.pack("<BB6xQQ8x", 2, 2, 1, 2) + struct.pack("<ii8x", 5, 6)
    sent = Frame(Kind.RESULT, 7, {"a": 1}, [np.array([[5, 6]], "<i4")])
    assert encode(sent) == header + b'{"a":1}'.ljust(16, b"\0") + array


@pytest.mark.parametrize(("code", "dtype"), list(enumerate(DTYPES)))
def test_a_dtype_has_its_code(code: int, dtype: str) -> None:
    assert encode(Frame(Kind.RESULT, arrays=[np.zeros(1, dtype)]))[HEADER.size + 16] == code


def test_what_asks_for_no_answer_has_id_0() -> None:
    assert only(encode(Frame(Kind.STATUS))) == Frame(Kind.STATUS, 0, {}, [])


@given(frames)
def test_every_array_begins_at_a_multiple_of_16(frame: Frame) -> None:
    marked = [np.full(array.shape, 7, array.dtype) if array.dtype != bool else array for array in frame.arrays]
    data = encode(Frame(frame.kind, frame.request_id, frame.meta, marked))
    meta_size = HEADER.unpack_from(data)[5]
    at = HEADER.size + meta_size + -meta_size % 16
    assert HEADER.size % 16 == 0
    for array in marked:
        at += 8 + 8 * array.ndim
        at += -at % 16
        assert data[at : at + array.nbytes] == array.tobytes()
        at += array.nbytes + -array.nbytes % 16
    assert at == len(data)


@pytest.mark.parametrize("order", ["F", "strided"])
def test_an_array_that_is_not_contiguous_arrives_whole(order: str) -> None:
    array: Array = np.arange(12, dtype=np.float32).reshape(3, 4)
    sent = np.asfortranarray(array) if order == "F" else np.repeat(array, 2, axis=1)[:, ::2]
    np.testing.assert_array_equal(only(encode(Frame(Kind.RESULT, arrays=[sent]))).arrays[0], array)


def test_arrays_that_arrive_share_the_payloads_memory_and_cannot_be_written() -> None:
    array = only(encode(Frame(Kind.RESULT, arrays=[np.zeros(3, np.float32)]))).arrays[0]
    assert not array.flags.writeable


@pytest.mark.parametrize("nbytes", [4095, 4096, 4097, 8192])
@pytest.mark.parametrize("num_arrays", [1, 3])
def test_large_arrays_arrive_between_others(nbytes: int, num_arrays: int) -> None:
    arrays = [np.arange(nbytes, dtype=np.uint8) + index for index in range(num_arrays)]
    frame = Frame(Kind.INFER, 3, {"model": "m"}, [np.arange(3), *arrays, np.arange(5.0)])
    assert_same(only(encode(frame)), frame)


def test_a_large_array_is_sent_from_where_it_lies() -> None:
    array = np.arange(2048, dtype=np.float32)
    head, data = parts_of(Frame(Kind.INFER, arrays=[array]))
    assert np.shares_memory(np.frombuffer(data, np.uint8), array)
    assert head[:2] == b"SL"


@pytest.mark.parametrize(("nbytes", "num_parts"), [(4096, 1), (4097, 3)])
def test_an_array_is_copied_up_to_four_kibibytes(nbytes: int, num_parts: int) -> None:
    assert len(parts_of(Frame(Kind.INFER, arrays=[np.zeros(nbytes, np.uint8)]))) == num_parts


def test_small_arrays_are_sent_in_one_piece() -> None:
    assert len(parts_of(Frame(Kind.INFER, arrays=[np.zeros(4096, np.uint8), np.zeros(4000, np.uint8)]))) == 1


def test_an_array_of_eight_dimensions_arrives() -> None:
    frame = Frame(Kind.INFER, arrays=[np.arange(4).reshape(2, 1, 1, 1, 1, 1, 1, 2)])
    assert_same(only(encode(frame)), frame)


@pytest.mark.parametrize(
    "array",
    [np.array(["text"]), np.array([object()]), np.zeros(2, np.complex64), np.zeros(2, ">f4"), np.zeros((1,) * 9)],
)
def test_an_array_that_has_no_place_on_the_wire_is_refused(array: Array) -> None:
    said = f"array on the wire: expected a known dtype, got {array.dtype}, {array.ndim} dims"
    with pytest.raises(BrokenContract, match=f"^{re.escape(said)}$"):
        encode(Frame(Kind.INFER, arrays=[array]))


# What a broken peer may send

GOOD = encode(Frame(Kind.INFER, 1, {"model": "m"}, [np.zeros((2, 3), np.float32)]))


def patched(offset: int, data: bytes) -> bytes:
    return GOOD[:offset] + data + GOOD[offset + len(data) :]


ARRAY_AT = HEADER.size + 16


@pytest.mark.parametrize(
    "data",
    [
        patched(0, b"XX"),
        patched(2, bytes([VERSION + 1])),
        patched(3, b"\x00"),
        patched(3, b"\xff"),
        patched(4, struct.pack("<I", 2)),
        patched(4, struct.pack("<I", 2**32 - 1)),
        patched(16, struct.pack("<I", 3)),
        patched(20, struct.pack("<I", MAX_PAYLOAD_BYTES + 1)),
        patched(HEADER.size, b"not json"),
        patched(ARRAY_AT, b"\xff"),
        patched(ARRAY_AT + 1, b"\x09"),
        patched(ARRAY_AT + 1, b"\xff"),
        patched(ARRAY_AT + 8, struct.pack("<Q", 3)),
        patched(ARRAY_AT + 8, struct.pack("<Q", 2**40)),
        patched(ARRAY_AT + 8, struct.pack("<QQ", 2**63, 2**63)),
        patched(ARRAY_AT + 8, struct.pack("<QQ", 2**62, 1)),
        patched(ARRAY_AT + 8, struct.pack("<QQ", 2**64 - 1, 2**64 - 1)),
        patched(ARRAY_AT + 8, struct.pack("<QQ", 0, 2**64 - 1)),
    ],
    ids=lambda data: data[:8].hex(),
)
def test_what_is_no_frame_breaks_the_contract_and_takes_no_memory(data: bytes) -> None:
    with at_most(16 << 20), pytest.raises(BrokenContract):
        list(FrameBuffer().feed(data))


@pytest.mark.parametrize(("offset", "data"), [(0, b"XX"), (2, bytes([VERSION + 1]))])
def test_a_header_of_another_protocol_is_refused_before_more_has_come(offset: int, data: bytes) -> None:
    header = patched(offset, data)[: HEADER.size]
    got = (header[:2], header[2])
    with pytest.raises(BrokenContract, match=re.escape(f"frame header: expected {(b'SL', VERSION)}, got {got}")):
        list(FrameBuffer().feed(header))


def test_what_is_wrong_with_a_payload_is_said() -> None:
    with pytest.raises(BrokenContract, match=r"^frame: expected a readable payload, got 9 dimensions$"):
        only(patched(ARRAY_AT + 1, b"\x09"))


@pytest.mark.parametrize("meta", [b"[]", b"1", b"null", b'"m"'])
def test_meta_is_an_object(meta: bytes) -> None:
    data = HEADER.pack(b"SL", VERSION, Kind.STATUS, 0, 0, len(meta), 16) + meta.ljust(16, b"\0")
    with pytest.raises(BrokenContract, match=r"^frame: expected a readable payload, got meta is no object$"):
        only(data)


def test_a_frame_that_is_too_large_is_refused_by_its_sender(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.wire.frames.MAX_PAYLOAD_BYTES", 64)
    largest = Frame(Kind.INFER, arrays=[np.zeros(8, np.float32)])
    assert_same(only(encode(largest)), largest)
    with pytest.raises(BrokenContract, match=r"^frame size: expected at most 64 bytes, got 80$"):
        encode(Frame(Kind.INFER, arrays=[np.zeros(9, np.float32)]))


def test_a_header_that_claims_a_gigabyte_takes_memory_only_for_what_came() -> None:
    data = patched(20, struct.pack("<I", MAX_PAYLOAD_BYTES))
    with at_most(16 << 20):
        assert list(FrameBuffer().feed(data)) == []


@given(st.data())
def test_no_changed_byte_raises_anything_but_broken_contract(data: st.DataObject) -> None:
    changed = bytearray(GOOD)
    for _ in range(data.draw(st.integers(1, 4))):
        changed[data.draw(st.integers(0, len(changed) - 1))] = data.draw(st.integers(0, 255))
    try:
        got: list[Any] = list(FrameBuffer().feed(bytes(changed)))
    except BrokenContract:
        return
    assert len(got) <= 1


def test_nothing_on_the_wire_is_pickled() -> None:
    data = encode(Frame(Kind.INFER, meta={"a": 1}, arrays=[np.zeros(2, np.float32)]))
    assert b"numpy" not in data
    assert b"\x80\x04" not in data
