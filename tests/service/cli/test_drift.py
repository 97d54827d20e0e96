"""`servoloop drift`, and what commands draw, against a service with the shipped model's reference."""

import json
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from service.cli.drift import advice, distances_table, estimate, summary
from service.cli.output import listed
from service.registry.catalog import Catalog
from service.registry.scanner import scan
from servoloop import Compared, Drift, EstimatedAccuracy, Figure
from tests.checkpoints import write_image
from tests.clothes import pictures, predict
from tests.service.cli.conftest import Run, running
from tests.stores import OpenStore, open_store

FAR = Compared(0.31, 0.12, 400, 1000, 0.2, 0.1, 0.15, True, None, [0.0, 1.0], None, [1000], [400])
NEAR = Compared(0.02, 0.01, 400, 1000, 0.2, 0.1, 0.15, False, None, None, ["a"], [1000], [400])
FEW = Compared(0.5, 0.2, 7, 1000, 0.2, 0.1, 0.9, None, "fewer than 200 rows", None, ["a"], [1000], [7])


def drift(**fields: Any) -> Drift:
    usual = Drift(
        model="fashion",
        version="1",
        since="2026-01-31T08:00:00Z",
        until="2026-01-31T09:00:00Z",
        n=400,
        minimum_n=200,
        reference_rows=1000,
        reference_reason=None,
        drifted=True,
        inputs={"a": FAR},
        predictions=NEAR,
        confidence=None,
        estimated_accuracy=None,
    )
    return replace(usual, **fields)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the service's store lies."""
    return tmp_path_factory.mktemp("store")


@pytest.fixture(scope="module")
def watched(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A service with two versions of the model, of which the first has a reference; its address."""
    root = tmp_path_factory.mktemp("models")
    for version in (1, 2):
        write_image(root, "fashion", version)
    with running(Catalog(scan([root], {"fashion": {"champion": 1}}).models), folder) as address:
        yield address


@pytest.fixture(scope="module")
def store(watched: str, folder: Path) -> Iterator[OpenStore]:
    """That store, with predictions of three hundred pictures and then as many inverted ones, half of them labelled."""
    opened = open_store(folder)
    now = time.time()
    predict(opened, pictures(300), now=now - 60)
    predict(opened, 255 - pictures(300), now=now - 10, right=0.9)
    predict(opened, pictures(3), now=now, version=2)
    yield opened
    opened.close()


def test_what_drifted_is_said_in_words_and_shown_by_how_far(run: Run, watched: str, store: OpenStore) -> None:
    result = run(["drift", "fashion", "--rows", 300, "--url", watched])
    assert result.exit_code == 0, result.stderr
    first, *lines = result.stdout.splitlines()
    assert first.startswith("fashion, version 1, 300 latest predictions since 20")
    assert "inputs drifted: pixel_mean" in first
    assert first.endswith("predictions as in the reference; confidence as in the reference")
    rows = [line.strip("│ ").split("│") for line in lines if line.startswith("│")]
    assert rows[0][0].strip() == "input pixel_mean"
    assert [float(row[1]) for row in rows] == sorted((float(row[1]) for row in rows), reverse=True)
    assert {row[0].strip() for row in rows} == {"input pixel_mean", "input pixel_std", "predictions", "confidence"}
    assert (rows[0][-1].strip(), rows[-1][-1].strip()) == ("drifted", "as in the reference")
    assert any(line.startswith("Estimated accuracy: 0.9") for line in lines)
    assert any("Of 300 predictions of the last day that have a label: estimated 0.9" in line for line in lines)


def test_the_same_comes_as_json(run: Run, watched: str, store: OpenStore) -> None:
    found = json.loads(run(["drift", "fashion", "--version", 1, "--json", "--url", watched]).stdout)
    assert (found["n"], found["version"], found["inputs"]["pixel_mean"]["drifted"]) == (600, "1", True)


def test_where_nothing_can_be_said_it_is_told_what_to_do(run: Run, watched: str, store: OpenStore) -> None:
    result = run(["drift", "fashion", "--rows", 100, "--url", watched])
    assert "nothing can be said of drift yet" in result.stdout.splitlines()[0]
    assert "something is said of 200 or more; ask with --rows 200." in result.stdout
    result = run(["drift", "fashion", "--version", 2, "--url", watched])
    assert "There is nothing to compare with: its reference can't be read: its folder is not there." in result.stdout


def test_what_the_service_refuses_is_told(run: Run, watched: str) -> None:
    result = run(["drift", "nothing", "--url", watched])
    assert (result.exit_code, "there is no model named 'nothing'" in result.stderr) == (1, True)
    assert run(["drift", "fashion", "--version", 3, "--url", watched]).exit_code == 1
    assert run(["drift", "fashion", "--rows", 10, "--url", watched]).exit_code == 2


@pytest.mark.parametrize("command", [["drift", "fashion", "--rows", 300], ["evaluation", "fashion", "--by", "country"]])
def test_a_picture_is_drawn_into_a_file(
    run: Run, watched: str, store: OpenStore, command: list[object], tmp_path: Path
) -> None:
    for name in ("a.png", "b.SVG"):
        result = run([*command, "--picture", tmp_path / name, "--url", watched])
        assert result.exit_code == 0, result.stderr
        assert result.stdout.startswith("fashion, ")
        assert f"The picture is in {tmp_path / name}." in result.stderr
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    assert "<svg" in (tmp_path / "b.SVG").read_text()
    json.loads(run([*command, "--json", "--picture", tmp_path / "c.png", "--url", watched]).stdout)


@pytest.mark.parametrize("command", ["drift", "evaluation"])
def test_a_file_that_no_picture_can_go_to_is_refused(run: Run, watched: str, command: str, tmp_path: Path) -> None:
    result = run([command, "fashion", "--picture", tmp_path / "a.jpg", "--url", watched])
    assert result.exit_code == 2
    assert "expected a file that ends in .png or .svg" in " ".join(result.stderr.replace("│", " ").split())
    result = run([command, "fashion", "--picture", tmp_path / "nowhere" / "a.png", "--url", watched])
    assert (result.exit_code, "a.png: No such file or directory" in result.stderr) == (1, True)


def test_a_service_that_can_not_draw_says_what_it_lacks(
    run: Run, watched: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    result = run(["drift", "fashion", "--picture", tmp_path / "a.png", "--url", watched])
    assert result.exit_code == 1
    assert "the service can't draw: where it runs, pip install 'servoloop[plots]'" in result.stderr
    assert not (tmp_path / "a.png").exists()


def test_a_summary_says_what_drifted_and_what_did_not() -> None:
    assert summary(drift()) == (
        "fashion, version 1, 400 latest predictions since 2026-01-31T08:00: "
        "inputs drifted: a; predictions as in the reference"
    )
    said = summary(drift(inputs={"a": NEAR, "b": FEW}, predictions=FAR, confidence=FEW))
    assert said.endswith(": inputs as in the reference; predictions drifted; too few to say of confidence")
    assert summary(drift(inputs={}, predictions=FAR)).endswith(": predictions drifted")
    few = drift(inputs={"b": FEW}, predictions=FAR)
    assert summary(few).endswith(": too few to say of inputs; predictions drifted")
    assert summary(drift(inputs={"a": NEAR}, drifted=False)).endswith(": as in the reference")
    few = drift(inputs={"b": FEW}, drifted=False)
    assert summary(few).endswith(": too few to say of inputs; predictions as in the reference")
    nothing = drift(drifted=None, n=0, since=None)
    assert summary(nothing) == "fashion, version 1, 0 latest predictions: nothing can be said of drift yet"


def test_of_many_inputs_the_farthest_are_shown() -> None:
    found = drift(inputs={f"[b]{number}": FAR for number in range(30)}, predictions=None, confidence=FEW)
    assert ": inputs drifted: [b]0, [b]1, " in summary(found)
    assert summary(found).endswith("[b]19 and 10 more; too few to say of confidence")
    table = distances_table(found)
    assert table.row_count == 20
    assert next(iter(table.columns[0].cells)) == "confidence"
    assert listed(["a", "b"]) == "a, b"


def test_an_estimate_says_what_it_follows_from() -> None:
    figure, nothing = Figure(0.9, 400, 0.8, 0.95), Figure(None, 0, reason="no rows")

    def said(by: str, actual: Figure = nothing) -> str:
        return estimate(EstimatedAccuracy(figure, by, 300, figure, actual))

    assert said("labels").startswith(
        "Estimated accuracy: 0.9 (0.8 to 0.95), by how sure it is, as 300 labels calibrate that."
    )
    assert "as the reference's 300 rows calibrate that" in said("reference")
    assert "taken at its word" in said("none")
    assert "No prediction of the last day has a label yet" in said("none")
    scored = said("labels", Figure(0.7, 50, 0.6, 0.8))
    assert scored.endswith("Of 50 predictions of the last day that have a label: estimated 0.9 (0.8 to 0.95), "
                           "actual 0.7 (0.6 to 0.8).")  # fmt: skip


def test_advice_fits_what_is_missing() -> None:
    assert list(advice(drift(), None)) == []
    [capture] = advice(drift(inputs={}), None)
    assert "SERVOLOOP_CAPTURE=sample" in capture
    [few] = advice(drift(n=100), None)
    assert few.endswith("ask again later.")
    [more] = advice(drift(n=100), 100)
    assert more.endswith("ask with --rows 200.")
    reference, nothing = advice(drift(n=0, reference_rows=0, reference_reason="its checkpoint has no one"), None)
    assert "nothing to compare with: its checkpoint has no one." in reference
    assert "It has predicted nothing within a day" in nothing
