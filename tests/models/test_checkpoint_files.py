import contextlib
import hashlib
import json
import os
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save

from models.checkpoint_files import CheckpointFiles, check_safetensors, verify
from models.manifest import MANIFEST, MAX_MANIFEST_BYTES, WEIGHTS, BrokenCheckpoint, Manifest
from tests.models.manifests import WEIGHT_BYTES, Fields, entry, fields


def write_folder(folder: Path, manifest: Fields, files: Mapping[str, bytes]) -> Path:
    folder.mkdir(parents=True)
    (folder / MANIFEST).write_bytes(orjson.dumps(manifest))
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_folder(tmp_path / "shapes" / "1", fields(), {WEIGHTS: WEIGHT_BYTES})


# The files beside it


def test_a_right_folder_verifies(folder: Path) -> None:
    assert verify(folder) == Manifest.model_validate(fields())


def test_the_digest_of_the_manifest_names_a_checkpoint(folder: Path) -> None:
    data = (folder / MANIFEST).read_bytes()
    assert CheckpointFiles(folder).identity == hashlib.sha256(data).hexdigest()


def test_verifying_counts_the_elements_of_the_weights(folder: Path) -> None:
    assert CheckpointFiles(folder).verify() == 2 * 3 + 2


def test_a_changed_byte_of_another_file_is_found(tmp_path: Path) -> None:
    manifest = fields(files={WEIGHTS: entry(WEIGHT_BYTES), "words.json": entry(b"{}")})
    folder = write_folder(tmp_path / "1", manifest, {WEIGHTS: WEIGHT_BYTES, "words.json": b"[]"})
    with pytest.raises(BrokenCheckpoint, match=r"^words\.json is not the file that manifest\.json names"):
        verify(folder)


def test_a_changed_byte_is_found(folder: Path) -> None:
    data = bytearray(WEIGHT_BYTES)
    data[-1] ^= 1
    (folder / WEIGHTS).write_bytes(data)
    with pytest.raises(BrokenCheckpoint, match="its sha256 differs"):
        verify(folder)


def test_a_missing_file_is_found(folder: Path) -> None:
    (folder / WEIGHTS).unlink()
    with pytest.raises(BrokenCheckpoint, match=f"^{WEIGHTS} is missing$"):
        verify(folder)


def test_a_missing_manifest_is_found(folder: Path) -> None:
    (folder / MANIFEST).unlink()
    with pytest.raises(BrokenCheckpoint, match=f"^{MANIFEST} is missing$"):
        verify(folder)


@pytest.mark.parametrize(
    ("data", "said"), [(WEIGHT_BYTES[:-1], "bytes, manifest.json says"), (WEIGHT_BYTES + b"x", "is larger than")]
)
def test_a_wrong_size_is_found(folder: Path, data: bytes, said: str) -> None:
    (folder / WEIGHTS).write_bytes(data)
    with pytest.raises(BrokenCheckpoint, match=said):
        verify(folder)


@pytest.mark.parametrize("size", [1 << 45, 1 << 62, (1 << 64) - 1])
def test_memory_is_taken_for_what_is_there_not_for_what_is_claimed(tmp_path: Path, size: int) -> None:
    claimed = fields(files={WEIGHTS: {**entry(WEIGHT_BYTES), "size": size}})
    folder = write_folder(tmp_path / "1", claimed, {WEIGHTS: WEIGHT_BYTES})
    with pytest.raises(BrokenCheckpoint, match=f"has {len(WEIGHT_BYTES)} bytes, {MANIFEST} says {size}"):
        verify(folder)


def test_a_file_is_not_read_past_what_is_claimed(folder: Path) -> None:
    with (folder / WEIGHTS).open("r+b") as file:
        file.truncate(1 << 40)  # a hole that no memory holds
    with pytest.raises(BrokenCheckpoint, match=f"^{WEIGHTS} is larger than the {len(WEIGHT_BYTES)} bytes expected$"):
        verify(folder)


def test_a_file_past_all_memory_is_refused_even_if_it_is_claimed(tmp_path: Path) -> None:
    size = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") + 1
    folder = write_folder(tmp_path / "1", fields(files={WEIGHTS: {**entry(b""), "size": size}}), {WEIGHTS: b""})
    with (folder / WEIGHTS).open("r+b") as file:
        file.truncate(size)
    with pytest.raises(BrokenCheckpoint, match=f"^{WEIGHTS} has {size} bytes, more than this machine's memory$"):
        verify(folder)


def test_a_manifest_up_to_its_limit_is_read(folder: Path) -> None:
    data = (folder / MANIFEST).read_bytes()
    (folder / MANIFEST).write_bytes(data.ljust(MAX_MANIFEST_BYTES))
    verify(folder)


def test_a_manifest_beyond_its_limit_is_not_read(folder: Path) -> None:
    with (folder / MANIFEST).open("r+b") as file:
        file.truncate(MAX_MANIFEST_BYTES + 1)
    with pytest.raises(BrokenCheckpoint, match=f"larger than the {MAX_MANIFEST_BYTES} bytes"):
        verify(folder)


def test_a_link_out_of_the_folder_is_refused_even_to_the_right_bytes(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_bytes(WEIGHT_BYTES)
    (folder / WEIGHTS).unlink()
    (folder / WEIGHTS).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(BrokenCheckpoint, match="a link that leads out of the checkpoint"):
        verify(folder)


def test_a_link_within_the_folder_is_followed(folder: Path) -> None:
    (folder / WEIGHTS).rename(folder / "real")
    (folder / WEIGHTS).symlink_to("real")
    verify(folder)


def test_links_that_lead_to_one_another_are_refused(folder: Path) -> None:
    (folder / WEIGHTS).unlink()
    (folder / WEIGHTS).symlink_to("other")
    (folder / "other").symlink_to(WEIGHTS)
    with pytest.raises(BrokenCheckpoint, match=f"^{WEIGHTS} (is a link that leads nowhere|can't be read: .+)$"):
        verify(folder)


def test_a_file_in_place_of_the_folder_is_refused(folder: Path) -> None:
    with pytest.raises(BrokenCheckpoint, match=f"^{MANIFEST} can't be read: Not a directory$"):
        verify(folder / WEIGHTS)


def test_a_directory_in_place_of_a_file_is_refused(folder: Path) -> None:
    (folder / WEIGHTS).unlink()
    (folder / WEIGHTS).mkdir()
    with pytest.raises(BrokenCheckpoint, match=f"{WEIGHTS} is no regular file"):
        verify(folder)


def test_a_pipe_in_place_of_a_file_is_refused_without_waiting_for_its_writer(folder: Path) -> None:
    (folder / WEIGHTS).unlink()
    os.mkfifo(folder / WEIGHTS)
    with pytest.raises(BrokenCheckpoint, match=f"{WEIGHTS} is no regular file"):
        verify(folder)


def test_only_declared_files_are_read(folder: Path) -> None:
    (folder / "notes.txt").write_text("not in the manifest")
    with pytest.raises(BrokenCheckpoint, match=r"notes\.txt is not declared"):
        CheckpointFiles(folder).read("notes.txt")


def test_no_reason_names_a_path_of_the_machine(folder: Path) -> None:
    (folder / WEIGHTS).unlink()
    with pytest.raises(BrokenCheckpoint) as raised:
        verify(folder)
    assert str(folder) not in str(raised.value)


# The header of a safetensors file


def weights(header: Any, data: bytes = b"", size: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if size is None else size) + text + data


def tensor(begin: int, end: int, shape: Any = (1,), dtype: Any = "F32") -> Fields:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def test_a_header_gives_names_dtypes_and_shapes() -> None:
    assert check_safetensors(WEIGHT_BYTES) == {"output.weight": ("F32", (2, 3)), "output.bias": ("F16", (2,))}


def test_metadata_is_no_tensor() -> None:
    assert check_safetensors(save({"w": np.zeros(2, np.float32)}, {"format": "pt"})) == {"w": ("F32", (2,))}


def test_the_header_says_in_any_order_what_follows_what() -> None:
    header = {"empty": tensor(4, 4, [0]), "last": tensor(4, 8), "first": tensor(0, 4), "none": tensor(0, 0, [0])}
    assert list(check_safetensors(weights(header, bytes(8)))) == list(header)


@pytest.mark.parametrize(
    ("dtypes", "width"),
    [
        (("BOOL", "U8", "I8", "F8_E4M3", "F8_E5M2"), 1),
        (("I16", "U16", "F16", "BF16"), 2),
        (("I32", "U32", "F32"), 4),
        (("I64", "U64", "F64"), 8),
    ],
)
def test_an_element_has_the_width_of_its_dtype(dtypes: tuple[str, ...], width: int) -> None:
    for dtype in dtypes:
        assert check_safetensors(weights({"a": tensor(0, width, dtype=dtype)}, bytes(width))) == {"a": (dtype, (1,))}


def test_a_header_is_bounded() -> None:
    most = 16 << 20
    assert check_safetensors(weights(b"{}".ljust(most))) == {}
    with pytest.raises(BrokenCheckpoint, match="the header's length"):
        check_safetensors(weights(b"{}".ljust(most + 1)))


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (bytes(7), "length points past the end"),
        (bytes(8), "header is no JSON"),
        (b"", "length points past the end"),
        (b"\x01\x00\x00", "length points past the end"),
        (weights({}, size=3), "length points past the end"),
        (weights({}, size=100), "length points past the end"),
        (weights({}, size=(1 << 64) - 1), "length points past the end"),
        (weights({}, size=1 << 63), "length points past the end"),
        (weights(b"no json!"), "header is no JSON"),
        (weights(b"\x80\x04\x95"), "header is no JSON"),
        (weights(b"[" * 3000), "header is no JSON"),
        (weights([]), "no JSON object"),
        (weights(None), "no JSON object"),
        (weights({"a": tensor(0, 4)}), "tensors end at byte 4, the data at 0"),
        (weights({"a": tensor(0, 4)}, bytes(5)), "tensors end at byte 4, the data at 5"),
        (weights({}, bytes(1)), "tensors end at byte 0, the data at 1"),
        (weights({"a": tensor(0, 4), "b": tensor(2, 6)}, bytes(6)), "b begins at byte 2 where 4 was expected"),
        (weights({"a": tensor(0, 4), "b": tensor(0, 4)}, bytes(4)), "b begins at byte 0 where 4 was expected"),
        (weights({"a": tensor(0, 4), "b": tensor(8, 12)}, bytes(12)), "b begins at byte 8 where 4 was expected"),
        (weights({"a": tensor(4, 8)}, bytes(8)), "a begins at byte 4 where 0 was expected"),
        (weights({"a": tensor(0, 4, [2])}, bytes(4)), "a spans 4 bytes, its shape and dtype need 8"),
        (weights({"a": tensor(0, 4, dtype="F16")}, bytes(4)), "a spans 4 bytes, its shape and dtype need 2"),
        (weights({"a": tensor(4, 0)}, bytes(4)), "a spans -4 bytes"),
        (weights({"a": tensor(0, 4, [1 << 40, 1 << 40])}, bytes(4)), "a spans 4 bytes"),
        (weights({"a": tensor(-4, 0)}), "numbers for a are not whole and positive"),
        (weights({"a": tensor(0, 4, [-1, -1])}, bytes(4)), "not whole and positive"),
        (weights({"a": tensor(0, 4, [1.0])}, bytes(4)), "not whole and positive"),
        (weights({"a": tensor(0, 4, [True])}, bytes(4)), "not whole and positive"),
        (weights({"a": tensor(0, 4, "1")}, bytes(4)), "not whole and positive"),
        (weights({"a": tensor(0, 4, dtype="F33")}, bytes(4)), "the header's entry for a is malformed"),
        (weights({"a": tensor(0, 4, dtype=["F32"])}, bytes(4)), "the header's entry for a is malformed"),
        (weights({"a": tensor(0, 4, None)}, bytes(4)), "the header's entry for a is malformed"),
        (weights({"a": {"dtype": "F32", "shape": [1]}}, bytes(4)), "the header's entry for a is malformed"),
        (weights({"a": {**tensor(0, 4), "data_offsets": [0]}}, bytes(4)), "the header's entry for a is malformed"),
        (weights({"a": [1]}), "the header's entry for a is malformed"),
        (weights({"a": "text"}), "the header's entry for a is malformed"),
        (weights({"a": None}), "the header's entry for a is malformed"),
    ],
)
def test_a_lying_header_is_refused(data: bytes, said: str) -> None:
    with pytest.raises(BrokenCheckpoint, match=said) as raised:
        check_safetensors(data)
    assert str(raised.value).startswith(WEIGHTS)


def test_verifying_looks_into_the_weights_too(tmp_path: Path) -> None:
    lying = weights({"a": tensor(0, 4)}, bytes(5))
    folder = write_folder(tmp_path / "1", fields(files={WEIGHTS: entry(lying)}), {WEIGHTS: lying})
    with pytest.raises(BrokenCheckpoint, match="tensors end at byte 4"):
        verify(folder)


shapes = st.lists(st.integers(0, 4), max_size=4).map(tuple)
dtypes = st.sampled_from(["f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "?"])
tensors = st.dictionaries(
    st.text(max_size=8).filter(lambda n: n != "__metadata__"), st.tuples(shapes, dtypes), max_size=5
)


def written(described: dict[str, tuple[tuple[int, ...], str]]) -> bytes:
    return save({name: np.zeros(shape, dtype) for name, (shape, dtype) in described.items()})


@given(tensors)
def test_whatever_the_library_writes_is_accepted(described: dict[str, tuple[tuple[int, ...], str]]) -> None:
    found = check_safetensors(written(described))
    assert {name: shape for name, (_, shape) in found.items()} == {
        name: shape for name, (shape, _) in described.items()
    }


@given(described=tensors, data=st.data())
def test_no_changed_byte_of_a_header_raises_anything_but_its_reason(
    described: dict[str, tuple[tuple[int, ...], str]], data: st.DataObject
) -> None:
    changed = bytearray(written(described))
    header_end = 8 + int.from_bytes(changed[:8], "little")
    changed[data.draw(st.integers(0, header_end - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(BrokenCheckpoint):
        check_safetensors(bytes(changed))


@given(st.binary(max_size=200))
def test_no_bytes_at_all_raise_anything_but_their_reason(data: bytes) -> None:
    with contextlib.suppress(BrokenCheckpoint):
        check_safetensors(data)
