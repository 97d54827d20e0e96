"""`servoloop evaluate` and `servoloop evaluations`, against a service."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from service.cli.labelled_files import read_labelled
from servoloop import Client
from tests.service.cli.conftest import Run


@pytest.fixture(scope="module")
def truth(url: str) -> dict[str, str]:
    """What the model takes some texts for."""
    with Client(url) as client:
        return {text: client.predict("mood", text).label or "" for text in ("good", "bad", "so so", "a film")}


def rows(truth: dict[str, str]) -> list[dict[str, str]]:
    """Of which one is labelled otherwise."""
    said = [{"instance": text, "label": label} for text, label in truth.items()]
    said[0]["label"] = {"positive": "negative", "negative": "positive"}[said[0]["label"]]
    return said


def test_a_file_is_measured_and_what_is_found_is_kept(
    run: Run, url: str, truth: dict[str, str], tmp_path: Path
) -> None:
    file = tmp_path / "by-hand.ndjson"
    file.write_text("\n".join(map(json.dumps, rows(truth))) + "\n\n")
    result = run(["evaluate", "mood", file, "--url", url])
    assert result.exit_code == 0, result.stderr
    assert result.stdout.startswith("mood, 4 rows (by-hand.ndjson): evaluation ")
    assert "0.75 (" in next(line for line in result.stdout.splitlines() if " accuracy " in line)
    listed = run(["evaluations", "mood", "--url", url])
    assert "by-hand.ndjson" in listed.stdout
    assert "accuracy 0.75" in listed.stdout
    [first, *_] = json.loads(run(["evaluations", "mood", "--json", "--url", url]).stdout)
    assert (first["dataset"], first["rows"]) == ("by-hand.ndjson", 4)


def test_the_same_comes_from_csv(run: Run, url: str, truth: dict[str, str], tmp_path: Path) -> None:
    file = tmp_path / "rows.csv"
    file.write_text("text,label\n" + "".join(f"{row['instance']},{row['label']}\n" for row in rows(truth)))
    found = json.loads(run(["evaluate", "mood", file, "--json", "--url", url]).stdout)
    assert found["versions"][0]["metrics"]["accuracy"]["value"] == 0.75


def test_numbers_come_from_npz(run: Run, url: str, tmp_path: Path) -> None:
    pictures = np.random.default_rng(0).integers(0, 256, (5, 28, 28)).astype(np.uint8)
    with Client(url) as client:
        labels = client.model("clothes").labels
        said = [client.predict("clothes", one).label for one in pictures]
    file = tmp_path / "rows.npz"
    np.savez(file, rows=pictures, targets=[labels.index(label or "") for label in said])
    found = json.loads(run(["evaluate", "clothes", file, "--json", "--url", url]).stdout)
    assert found["versions"][0]["metrics"]["accuracy"]["value"] == 1.0


def test_two_versions_are_compared_in_words(run: Run, url: str, tmp_path: Path) -> None:
    file = tmp_path / "rows.npz"
    np.savez(file, rows=np.zeros((5, 28, 28), np.uint8), targets=np.zeros(5, int))
    result = run(["evaluate", "clothes", file, "--version", 2, "--against", 1, "--url", url])
    assert result.exit_code == 0, result.stderr
    assert "version 1" in result.stdout
    assert "version 2" in result.stdout
    assert "differ" in result.stdout.splitlines()[-1]


def test_without_a_file_it_is_the_held_out_rows(run: Run, url: str) -> None:
    result = run(["evaluate", "mood", "--url", url])
    assert result.exit_code == 1
    assert "has no evaluation.npz" in result.stderr


def test_where_nothing_was_found_yet_the_next_step_is_told(run: Run, url: str) -> None:
    assert "servoloop evaluate sensors" in run(["evaluations", "sensors", "--url", url]).stdout


class Like:
    """A model, as far as files are read for it."""

    def __init__(self, task: str, kind: str, *labels: str, columns: Sequence[str] = ()) -> None:
        self.name, self.task, self.labels = "any", task, labels
        self.input = {"kind": kind, "columns": [{"name": name} for name in columns]}


@pytest.mark.parametrize(
    ("name", "content", "like", "says"),
    [
        ("rows.txt", "x", Like("binary", "text"), "expected .ndjson, .jsonl, .csv or .npz, got .txt"),
        ("rows.jsonl", "\n", Like("binary", "text"), "there are no rows in it"),
        ("rows.jsonl", '{"instance": 1, "label": 2}\n[]', Like("binary", "text"), "line 2 is not"),
        ("rows.csv", "text\nx\n", Like("binary", "text"), "needs a column label"),
        ("rows.csv", "text;label\nx;y\n", Like("binary", "text"), "the header is text;label; it needs"),
        ("rows.csv", "text,label\nso, so,x\n", Like("binary", "text"), "line 2 does not have as many fields"),
        ("rows.csv", "text,label\nx\n", Like("multilabel", "text"), "line 2 does not have as many fields"),
        ("rows.csv", "a,id,label\n1,x,2\n", Like("regression", "columns", columns=["a"]), "any takes columns a, and"),
        ("rows.csv", "a,b,label\nx,y,z\n", Like("binary", "text"), "texts come in one column"),
        ("rows.csv", "a,label\nx,1\n", Like("regression", "columns"), "line 2: could not convert"),
        ("rows.csv", "a,label\n1,2\n", Like("multiclass", "image", "x"), "don't fit into columns"),
        ("rows.npz", "no zip", Like("multiclass", "image", "x"), "pickled"),
    ],
)
def test_a_file_that_is_wrong_is_said_to_be(tmp_path: Path, name: str, content: str, like: Any, says: str) -> None:
    file = tmp_path / name
    file.write_text(content)
    with pytest.raises(ValueError, match=says):
        read_labelled(file, like)


@pytest.mark.parametrize(
    ("name", "content"),
    [("rows.csv", "label,text\nx,a film\n"), ("rows.jsonl", '{"label": "x", "instance": "a film"}')],
)
def test_the_mark_that_a_file_may_begin_with_is_no_part_of_it(tmp_path: Path, name: str, content: str) -> None:
    file = tmp_path / name
    file.write_text(content, encoding="utf-8-sig")
    assert read_labelled(file, Like("binary", "text", "x")) == [("a film", "x")]  # type: ignore[arg-type]


def test_columns_and_label_sets_are_read(tmp_path: Path) -> None:
    file = tmp_path / "rows.csv"
    file.write_text("size,rooms,label\n50,2,900\n")
    like: Any = Like("regression", "columns")
    assert read_labelled(file, like) == [({"size": 50.0, "rooms": 2.0}, 900.0)]
    file.write_text("size,label\n50,a; b\n")
    assert read_labelled(file, Like("multilabel", "columns", "a", "b")) == [({"size": 50.0}, ["a", "b"])]  # type: ignore[arg-type]
    np.savez(tmp_path / "rows.npz", rows=np.array(["x"]), targets=np.array([[True, False]]))
    assert read_labelled(tmp_path / "rows.npz", Like("multilabel", "text", "a", "b")) == [("x", ["a"])]  # type: ignore[arg-type]
    np.savez(tmp_path / "rows.npz", rows=np.zeros(1), targets=np.array([7]))
    with pytest.raises(ValueError, match="a target 7, and any has 1 labels"):
        read_labelled(tmp_path / "rows.npz", Like("multiclass", "tensor", "a"))  # type: ignore[arg-type]
