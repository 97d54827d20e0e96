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

from models.manifest import (
    MANIFEST,
    MAX_MANIFEST_BYTES,
    WEIGHTS,
    BrokenCheckpoint,
    CheckpointFiles,
    Manifest,
    check_safetensors,
    is_name,
    parse_manifest,
    parse_version,
    verify,
)

Fields = dict[str, Any]
WEIGHT_BYTES = save({"output.weight": np.zeros((2, 3), np.float32), "output.bias": np.ones(2, np.float16)})


def entry(data: bytes) -> Fields:
    return {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data)}


def fields(**changes: Any) -> Fields:
    """The fields of a manifest that is right, but for `changes`; a change to None leaves a field out."""
    right: Fields = {
        "schema_version": 1,
        "model": "shapes",
        "version": 1,
        "architecture": {"family": "cnn", "config": {"outputs": 2}},
        "task": "multiclass",
        "input": {"kind": "image", "channels": 1, "height": 6, "width": 6},
        "preprocess": [{"step": "scale", "factor": 0.5}],
        "labels": ["round", "square"],
        "files": {WEIGHTS: entry(WEIGHT_BYTES)},
    }
    return {name: value for name, value in {**right, **changes}.items() if value is not None}


def reason(changed: Fields) -> str:
    with pytest.raises(BrokenCheckpoint) as raised:
        parse_manifest(orjson.dumps(changed))
    return str(raised.value)


def write_folder(folder: Path, manifest: Fields, files: Mapping[str, bytes]) -> Path:
    folder.mkdir(parents=True)
    (folder / MANIFEST).write_bytes(orjson.dumps(manifest))
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_folder(tmp_path / "shapes" / "1", fields(), {WEIGHTS: WEIGHT_BYTES})


# Names and versions


@pytest.mark.parametrize("name", ["a", "fashion", "house-price", "v1.2_x", "0", "a" * 64])
def test_names_are_short_and_lowercase(name: str) -> None:
    assert is_name(name)


@pytest.mark.parametrize(
    "name", ["", ".", "..", "-a", "_a", "A", "a/b", "a\\b", "a b", "a\n", "a\0", "é", "a" * 65, "%2e%2e", "../a"]
)
def test_what_could_leave_a_folder_is_no_name(name: str) -> None:
    assert not is_name(name)


@pytest.mark.parametrize(("text", "number"), [("1", 1), ("10", 10), ("999999999", 999_999_999)])
def test_versions_are_numbers(text: str, number: int) -> None:
    assert parse_version(text) == number


@pytest.mark.parametrize("text", ["0", "01", "-1", "1.0", "", "v1", "1\n", " 1", "1_0", "١", "1000000000"])  # noqa: RUF001
def test_a_version_has_one_spelling(text: str) -> None:
    assert parse_version(text) is None


# The manifest's fields


def test_a_manifest_survives_being_written_and_read() -> None:
    manifest = Manifest.model_validate(fields(metrics={"accuracy": {"value": 0.5, "low": 0.4, "high": 0.6, "n": 10}}))
    assert parse_manifest(manifest.to_json()) == manifest
    assert manifest.to_json().endswith(b"}\n")


def test_the_digest_is_that_of_the_weights() -> None:
    assert parse_manifest(orjson.dumps(fields())).digest == hashlib.sha256(WEIGHT_BYTES).hexdigest()


@pytest.mark.parametrize(
    ("changes", "outputs"),
    [
        ({}, 2),
        ({"task": "binary"}, 1),
        ({"task": "multilabel", "labels": ["a", "b", "c"]}, 3),
        ({"task": "regression", "labels": [], "target": {"name": "price"}}, 1),
        ({"task": "embedding", "labels": []}, None),
    ],
)
def test_the_task_says_how_many_outputs_a_network_has(changes: Fields, outputs: int | None) -> None:
    assert parse_manifest(orjson.dumps(fields(**changes))).num_outputs == outputs


@pytest.mark.parametrize(
    ("task", "labels", "want"),
    [
        ("multiclass", ["one"], "at least 2 labels, got 1"),
        ("binary", ["a", "b", "c"], "exactly 2 labels, got 3"),
        ("binary", ["a"], "exactly 2 labels, got 1"),
        ("multilabel", [], "at least 1 labels, got 0"),
        ("regression", ["a"], "exactly 0 labels, got 1"),
        ("embedding", ["a"], "exactly 0 labels, got 1"),
    ],
)
def test_each_task_has_its_number_of_labels(task: str, labels: list[str], want: str) -> None:
    assert reason(fields(task=task, labels=labels, target={"name": "x"})).endswith(f"task {task} needs {want}")


TENSOR = {"kind": "tensor", "shape": [-1], "dtype": "int64"}
TOKENIZE = {"step": "tokenize", "file": "tokenizer.json", "max_length": 8}
COLUMN = {"name": "area"}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"labels": ["same", "same"]}, "labels must differ"),
        ({"task": "regression", "labels": []}, "task regression needs a target"),
        ({"input": {"kind": "text"}}, "a text input needs tokenize or vocabulary as its first step"),
        ({"preprocess": [TOKENIZE]}, "only a text input has one"),
        ({"input": {"kind": "text"}, "preprocess": [TOKENIZE]}, "files lacks tokenizer.json"),
        ({"files": {}}, f"files lacks {WEIGHTS}"),
        ({"files": {WEIGHTS: entry(b""), MANIFEST: entry(b"")}}, f"files can't hold {MANIFEST} itself"),
        ({"files": {WEIGHTS: entry(b""), "../x": entry(b"")}}, "files.../x.[key]: String should match"),
        ({"files": {WEIGHTS: entry(b""), "a/b": entry(b"")}}, "files.a/b.[key]: String should match"),
        ({"files": {WEIGHTS: {"sha256": "abc", "size": 1}}}, f"files.{WEIGHTS}.sha256: String should match"),
        ({"files": {WEIGHTS: {**entry(b""), "size": -1}}}, f"files.{WEIGHTS}.size: Input should be greater"),
        ({"input": TENSOR}, "need a minimum and a maximum"),
        ({"input": {**TENSOR, "minimum": 0}}, "need a minimum and a maximum"),
        ({"input": {**TENSOR, "minimum": 0, "maximum": 1e17}}, "where floats are exact"),
        ({"input": {"kind": "tensor", "shape": [3, -1]}}, "only the first may be -1"),
        ({"input": {"kind": "tensor", "shape": [0]}}, "sizes are positive"),
        ({"input": {"kind": "tensor", "shape": [-2, 3]}}, "sizes are positive"),
        ({"input": {"kind": "tensor", "shape": []}}, "input.tensor.shape: List should have at least 1 item"),
        ({"input": {"kind": "columns", "columns": [COLUMN, COLUMN]}}, "column names must differ"),
        ({"input": {"kind": "columns", "columns": []}}, "input.columns.columns: List should have at least 1 item"),
        ({"input": {"kind": "image", "channels": 2, "height": 1, "width": 1}}, "input.image.channels: "),
        ({"input": {"kind": "sound"}}, "input: Input tag 'sound'"),
        ({"surprise": 1}, "surprise: Extra inputs are not permitted"),
        ({"input": {"kind": "text", "surprise": 1}}, "input.text.surprise: Extra inputs are not permitted"),
        ({"preprocess": [{"step": "scale", "factor": 1, "x": 1}]}, "preprocess.0.scale.x: Extra inputs"),
        ({"preprocess": [{"step": "pickle"}]}, "preprocess.0: Input tag 'pickle'"),
        ({"model": "../etc"}, "model: String should match"),
        ({"version": 0}, "version: Input should be greater than or equal to 1"),
        ({"schema_version": 2}, "schema_version: Input should be 1"),
        ({"threshold": 1}, "threshold: Input should be less than 1"),
        ({"threshold": 0}, "threshold: Input should be greater than 0"),
        ({"architecture": None}, "architecture: Field required"),
        (
            {"task": "regression", "labels": [], "target": {"name": "x", "std": 0}},
            "target.std: Input should be greater",
        ),
    ],
)
def test_a_wrong_field_is_named_with_its_fault(changes: Fields, said: str) -> None:
    text = reason(fields(**changes))
    assert text.startswith(f"{MANIFEST}: ")
    assert said in text


@pytest.mark.parametrize("data", [b"", b"{", b"\xff\xfe", b"{} {}", b'{"version": NaN}', b"[" * 5000])
def test_what_is_no_json_is_said_to_be_none(data: bytes) -> None:
    with pytest.raises(BrokenCheckpoint, match="is no JSON"):
        parse_manifest(data)


@pytest.mark.parametrize("data", [b"[]", b"1", b"null", b'"text"'])
def test_a_manifest_is_an_object(data: bytes) -> None:
    with pytest.raises(BrokenCheckpoint, match="dictionary"):
        parse_manifest(data)


# The files beside it


def test_a_right_folder_verifies(folder: Path) -> None:
    assert verify(folder) == Manifest.model_validate(fields())


def test_the_digest_of_the_manifest_names_a_checkpoint(folder: Path) -> None:
    data = (folder / MANIFEST).read_bytes()
    assert CheckpointFiles(folder).identity == hashlib.sha256(data).hexdigest()


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


@pytest.mark.parametrize(
    ("data", "said"),
    [
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
