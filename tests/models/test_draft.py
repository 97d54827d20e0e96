"""Manifests as authors write them."""

from pathlib import Path
from typing import Any

import orjson
import pytest

from models.draft import read_draft
from models.manifest import WEIGHTS, BrokenCheckpoint, FileEntry

VOCABULARY = orjson.dumps({"good": 2, "bad": 3})
TEXT: dict[str, Any] = {
    "architecture": {"family": "recurrent", "config": {}},
    "task": "binary",
    "input": {"kind": "text"},
    "preprocess": [{"step": "vocabulary", "file": "vocabulary.json", "max_length": 8}],
    "labels": ["negative", "positive"],
}


def write(folder: Path, **changes: Any) -> Path:
    (folder / "vocabulary.json").write_bytes(VOCABULARY)
    path = folder / "manifest.json"
    path.write_bytes(orjson.dumps({**TEXT, **changes}))
    return path


def test_name_version_and_files_are_filled_in(tmp_path: Path) -> None:
    draft = read_draft(write(tmp_path), model="mood", version=4)
    assert (draft.manifest.model, draft.manifest.version) == ("mood", 4)
    assert draft.files == {"vocabulary.json": VOCABULARY}
    assert draft.read("vocabulary.json") == VOCABULARY
    assert draft.manifest.files["vocabulary.json"] == FileEntry.of(VOCABULARY)
    assert draft.declared_weights is None


def test_the_weights_complete_it(tmp_path: Path) -> None:
    manifest = read_draft(write(tmp_path), model="mood", version=1).with_weights(b"weights")
    assert manifest.files == {WEIGHTS: FileEntry.of(b"weights"), "vocabulary.json": FileEntry.of(VOCABULARY)}


def test_the_manifest_of_a_whole_checkpoint_is_one_too(tmp_path: Path) -> None:
    (tmp_path / "reference.json").write_bytes(b"{}")
    files = {
        WEIGHTS: FileEntry.of(b"weights").model_dump(),
        "vocabulary.json": FileEntry.of(VOCABULARY).model_dump(),
        "reference.json": FileEntry.of(b"{}").model_dump(),
    }
    draft = read_draft(write(tmp_path, model="mood", version=1, files=files), model="mood", version=2)
    assert draft.manifest.version == 2
    assert draft.files.keys() == {"vocabulary.json", "reference.json"}
    assert draft.declared_weights == FileEntry.of(b"weights")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"model": "other"}, "manifest.json says model 'other', not 'mood'"),
        ({"files": []}, "files is no object"),
        ({"files": {"vocabulary.json": FileEntry.of(b"other").model_dump()}}, "its sha256 or size differs"),
        ({"files": {"reference.json": FileEntry.of(b"").model_dump()}}, "there is no file .*reference.json"),
        ({"preprocess": [{"step": "vocabulary", "file": "../up.json", "max_length": 8}]}, "the plain name of a file"),
        (
            {"preprocess": [{"step": "vocabulary", "file": "none.json", "max_length": 8}]},
            "there is no file .*none.json",
        ),
        ({"preprocess": 7}, "preprocess: "),
        ({"task": "guess"}, "task: "),
        ({"labels": ["one"]}, "task binary needs exactly 2 labels, got 1"),
        ({"surprise": 1}, "surprise: "),
    ],
)
def test_a_faulty_manifest_is_refused_with_its_fault(tmp_path: Path, changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(BrokenCheckpoint, match=reason):
        read_draft(write(tmp_path, **changes), model="mood", version=1)


@pytest.mark.parametrize(
    ("content", "reason"), [(b"{", "is no JSON"), (b"[]", "holds no JSON object"), (b" " * (5 << 20), "is larger than")]
)
def test_what_is_no_manifest_is_refused(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "manifest.json"
    path.write_bytes(content)
    with pytest.raises(BrokenCheckpoint, match=reason):
        read_draft(path, model="mood", version=1)
