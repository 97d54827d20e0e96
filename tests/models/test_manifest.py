import hashlib
import math

import orjson
import pytest
from pydantic import ValidationError

from models.manifest import (
    MANIFEST,
    WEIGHTS,
    BrokenCheckpoint,
    FileEntry,
    Manifest,
    Metric,
    is_name,
    parse_manifest,
    parse_version,
)
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
    metrics = {
        "accuracy": {"value": 0.5, "low": 0.4, "high": 0.6, "n": 10},
        "auc": {"value": None, "n": 3, "reason": "needs rows of every class"},
    }
    manifest = Manifest.model_validate(fields(metrics=metrics, lineage={"seed": None, "data": ["é"]}))
    assert parse_manifest(manifest.to_json()) == manifest


def test_a_written_manifest_is_for_people_to_read_and_says_nothing_of_what_it_has_not() -> None:
    written = Manifest.model_validate(fields(metrics={"auc": {"value": None, "n": 0}})).to_json()
    assert written.startswith(b'{\n  "schema_version": 1,\n  "model": "shapes",\n')
    assert written.endswith(b"}\n")
    document = orjson.loads(written)
    assert document["metrics"] == {"auc": {"n": 0}}
    assert "target" not in document


def test_what_a_manifest_leaves_out_has_one_meaning() -> None:
    short = {name: value for name, value in fields().items() if name not in ("schema_version", "preprocess")}
    full = fields(description="", preprocess=[], threshold=0.5, metrics={}, lineage={})
    assert parse_manifest(orjson.dumps(short)) == parse_manifest(orjson.dumps(full))
    regression = {"task": "regression", "labels": []}
    target = {"name": "price", "mean": 0.0, "std": 1.0}
    assert parse_manifest(orjson.dumps(fields(**regression, target={"name": "price"}))) == parse_manifest(
        orjson.dumps(fields(**regression, target=target))
    )


def test_a_manifest_stays_as_it_is() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        parse_manifest(orjson.dumps(fields())).version = 2  # type: ignore[misc]


def test_an_entry_says_what_a_file_must_be() -> None:
    assert FileEntry.of(b"abc").model_dump() == entry(b"abc")


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


@pytest.mark.parametrize(
    ("task", "labels"),
    [("multiclass", 2), ("multiclass", 9), ("binary", 2), ("multilabel", 1), ("multilabel", 9), ("regression", 0)],
)
def test_labels_of_a_fitting_number_are_taken(task: str, labels: int) -> None:
    written = fields(task=task, labels=[str(number) for number in range(labels)], target={"name": "x"})
    assert len(parse_manifest(orjson.dumps(written)).labels) == labels


TOKENIZE = {"step": "tokenize", "file": "tokenizer.json", "max_length": 8}
VOCABULARY = {"step": "vocabulary", "file": "words.json", "max_length": 8}
SCALE = {"step": "scale", "factor": 0.5}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"labels": ["same", "same"]}, "labels must differ"),
        ({"task": "regression", "labels": []}, "task regression needs a target"),
        ({"input": {"kind": "text"}}, "a text input needs tokenize or vocabulary as its first step"),
        ({"input": {"kind": "text"}, "preprocess": []}, "a text input needs tokenize or vocabulary"),
        ({"input": {"kind": "text"}, "preprocess": [SCALE, TOKENIZE]}, "as its first step"),
        ({"preprocess": [TOKENIZE]}, "only a text input has one"),
        ({"preprocess": [VOCABULARY]}, "only a text input has one"),
        ({"input": {"kind": "text"}, "preprocess": [TOKENIZE]}, "files lacks tokenizer.json"),
        ({"input": {"kind": "text"}, "preprocess": [VOCABULARY]}, "files lacks words.json"),
        ({"files": {}}, f"files lacks {WEIGHTS}"),
        ({"input": {"kind": "text"}, "preprocess": [TOKENIZE], "files": {}}, f"files lacks tokenizer.json, {WEIGHTS}"),
        ({"files": {WEIGHTS: entry(b""), MANIFEST: entry(b"")}}, f"files can't hold {MANIFEST} itself"),
        ({"files": {WEIGHTS: entry(b""), "../x": entry(b"")}}, "files.../x.[key]: String should match"),
        ({"files": {WEIGHTS: entry(b""), "a/b": entry(b"")}}, "files.a/b.[key]: String should match"),
        ({"files": {WEIGHTS: {"sha256": "abc", "size": 1}}}, f"files.{WEIGHTS}.sha256: String should match"),
        ({"files": {WEIGHTS: {**entry(b""), "sha256": "a" * 65}}}, f"files.{WEIGHTS}.sha256: String should match"),
        ({"files": {WEIGHTS: {**entry(b""), "sha256": "A" * 64}}}, f"files.{WEIGHTS}.sha256: String should match"),
        ({"files": {WEIGHTS: {**entry(b""), "size": -1}}}, f"files.{WEIGHTS}.size: Input should be greater"),
        ({"surprise": 1}, "surprise: Extra inputs are not permitted"),
        ({"preprocess": [{"step": "scale", "factor": 1, "x": 1}]}, "preprocess.0.scale.x: Extra inputs"),
        ({"preprocess": [{"step": "pickle"}]}, "preprocess.0: Input tag 'pickle'"),
        ({"model": "../etc"}, "model: String should match"),
        ({"model": "a\n"}, "model: String should match"),
        ({"architecture": {"family": "CNN", "config": {}}}, "architecture.family: String should match"),
        ({"version": 0}, "version: Input should be greater than or equal to 1"),
        ({"version": 1_000_000_000}, "version: Input should be less than 1000000000"),
        ({"preprocess": [SCALE] * 65}, "preprocess: List should have at most 64 items"),
        ({"metrics": {"auc": {"value": 0.5, "n": -1}}}, "metrics.auc.n: Input should be greater than or equal to 0"),
        ({"metrics": {"auc": {"value": 0.5}}}, "metrics.auc.n is missing"),
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


def test_a_fault_of_the_whole_is_named_alone() -> None:
    assert reason(fields(labels=["same", "same"])) == f"{MANIFEST}: labels must differ"


@pytest.mark.parametrize("bound", ["value", "low", "high"])
def test_a_figure_is_finite(bound: str) -> None:
    with pytest.raises(ValidationError, match="finite number"):
        Metric.model_validate({"n": 1, bound: math.inf})


def test_a_reason_quotes_a_checkpoint_only_so_far() -> None:
    assert str(BrokenCheckpoint("x" * 2000)) == "x" * 2000
    assert str(BrokenCheckpoint("x" * 2001)) == "x" * 2000 + "..."


def test_a_manifest_may_fill_its_bounds() -> None:
    assert parse_manifest(orjson.dumps(fields(version=999_999_999, preprocess=[SCALE] * 64))).version == 999_999_999


@pytest.mark.parametrize("data", [b"", b"{", b"\xff\xfe", b"{} {}", b'{"version": NaN}', b"[" * 5000])
def test_what_is_no_json_is_said_to_be_none(data: bytes) -> None:
    with pytest.raises(BrokenCheckpoint, match="is no JSON"):
        parse_manifest(data)


@pytest.mark.parametrize("data", [b"[]", b"1", b"null", b'"text"'])
def test_a_manifest_is_an_object(data: bytes) -> None:
    with pytest.raises(BrokenCheckpoint, match="dictionary"):
        parse_manifest(data)
