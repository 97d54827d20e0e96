import hashlib

import orjson
import pytest

from models.manifest import MANIFEST, WEIGHTS, BrokenCheckpoint, Manifest, is_name, parse_manifest, parse_version
from tests.models.manifests import WEIGHT_BYTES, Fields, entry, fields, reason

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


TOKENIZE = {"step": "tokenize", "file": "tokenizer.json", "max_length": 8}


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
        ({"surprise": 1}, "surprise: Extra inputs are not permitted"),
        ({"preprocess": [{"step": "scale", "factor": 1, "x": 1}]}, "preprocess.0.scale.x: Extra inputs"),
        ({"preprocess": [{"step": "pickle"}]}, "preprocess.0: Input tag 'pickle'"),
        ({"model": "../etc"}, "model: String should match"),
        ({"version": 0}, "version: Input should be greater than or equal to 1"),
        ({"schema_version": 2}, "schema_version: Input should be 1"),
        ({"threshold": 1}, "threshold: Input should be less than 1"),
        ({"threshold": 0}, "threshold: Input should be greater than 0"),
        ({"architecture": None}, "architecture is missing"),
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
