"""`servoloop predict` and `servoloop models`, against a service."""

import io
import json
import socket
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from service.cli.asking import models_table, read_instance
from servoloop import Backend, Model, Models, Version
from tests.service.cli.conftest import Run


def test_a_text_is_answered_with_its_labels(run: Run, url: str) -> None:
    result = run(["predict", "mood", "a", "good", "film", "--url", url])
    assert result.exit_code == 0
    assert "mood/1 · prediction " in result.stdout
    negative, positive = (next(line for line in result.stdout.splitlines() if label in line) for label in LABELS)
    assert "50.0%" in negative
    assert "50.0%" in positive


LABELS = ("negative", "positive")
FAST = Backend("openvino", "bfloat16", 1, "it was measured", pending=False)
PLAIN = Backend("eager", "float32", 0, "nothing was tried here yet", pending=True)


def test_columns_are_answered_with_a_value(run: Run, url: str) -> None:
    result = run(["predict", "rent", "area=70", "rooms=3", "--url", url])
    assert result.exit_code == 0
    assert "500" in result.stdout


def test_a_picture_s_file_is_sent(run: Run, url: str, tmp_path: Path) -> None:
    path = tmp_path / "boot.png"
    Image.new("L", (28, 28), 99).save(path)
    result = run(["predict", "clothes", path, "--url", url, "--top-k", 2, "--version", 2, "--json"])
    prediction = json.loads(result.stdout)
    assert (prediction["model"], prediction["version"], prediction["label"]) == ("clothes", "2", "Ankle boot")
    assert [entry["label"] for entry in prediction["top"]] == ["Ankle boot", "Bag"]
    assert "value" not in prediction


def test_vectors_and_several_labels_are_shown(run: Run, url: str, tmp_path: Path) -> None:
    steps = tmp_path / "steps.npy"
    np.save(steps, np.zeros((4, 3), np.float32))
    assert "0, 1, 2, 3, 4" in run(["predict", "motion", steps, "--url", url]).stdout
    sensors = tmp_path / "sensors.json"
    sensors.write_text("[1, 2, 3, 4]")
    result = run(["predict", "sensors", sensors, "--url", url])
    assert "loud" in result.stdout


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["predict", "nothing", "x"], "there is no model named 'nothing'"),
        (["predict", "rent", "x"], "instances[0]: this is a string; expected a number for each column: area, rooms"),
        (["predict", "rent", "area=nan"], "NaN"),
        (["predict", "mood", "x", "--version", "9"], "there is no version of mood named '9'"),
    ],
)
def test_the_service_s_refusal_is_shown(run: Run, url: str, words: list[str], message: str) -> None:
    result = run([*words, "--url", url])
    assert result.exit_code == 1
    assert message in result.stderr
    assert result.stdout == ""


@pytest.mark.parametrize("words", [["predict", "mood", "x"], ["models"]])
def test_where_no_service_answers_it_says_what_to_do(run: Run, words: list[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        free = listener.getsockname()[1]
    result = run([*words, "--url", f"http://127.0.0.1:{free}"])
    assert result.exit_code == 1
    assert "start a service with `servoloop serve`" in result.stderr


def test_models_are_listed_with_what_is_wrong(run: Run, url: str) -> None:
    result = run(["models", "--url", url])
    assert result.exit_code == 0
    lines = {tuple(line.split("│")[1:3]): line for line in result.stdout.splitlines() if "│" in line}
    rows = {(model.strip(), version.strip()): line for (model, version), line in lines.items()}
    assert "accuracy 0.5 (0.4 to 0.6)" in rows["clothes", "1"]
    assert rows["clothes", "1"].count("yes") == 1
    assert rows["clothes", "2"].count("yes") == 0
    assert " loaded " in rows["clothes", "1"]
    assert "failed: its weights hold [NaN]" in rows["codes", "1"]
    assert "broken: weights.safetensors is [missing]" in rows["torn", "1"]


@pytest.mark.parametrize(
    ("known", "shown"),
    [
        ({"state": "loaded"}, "loaded"),
        ({"state": "loaded", "pinned": True}, "loaded, pinned"),
        ({"state": "loaded", "backend": FAST}, "loaded (openvino bfloat16)"),
        ({"state": "loaded", "backend": PLAIN, "pinned": True}, "loaded, pinned (eager float32, to be optimised)"),
        ({"state": "loaded", "ready": False, "reason": "it is silent"}, "loaded, not ready: it is silent"),
        ({"state": "loading", "ready": False, "reason": "its engine is starting"}, "loading"),
        ({"state": "on_demand", "ready": False, "reason": "it is loaded when it is asked for"}, "on demand"),
        ({"state": "unloaded", "ready": False, "reason": "an operator wants it unloaded"}, "unloaded"),
        ({"state": "no_room", "ready": False, "reason": "it needs 9 GB"}, "no room: it needs 9 GB"),
        ({"state": "loaded", "reason": "it is torn"}, "loaded; it could not be loaded anew: it is torn"),
    ],
)
def test_each_state_is_shown_in_words(known: dict[str, Any], shown: str) -> None:
    usual = {"ready": True, "reason": None, "pinned": False, "replicas": 1, "precision": "float32", "engines": []}
    checkpoint = {"version": "2", "description": "", "architecture": "cnn", "digest": "", "metrics": {}}
    version = Version(**{**usual, **checkpoint, "resident_bytes": None, "backend": None, **known})
    model = Model("clothes", "multiclass", {}, [], [], None, {"champion": "1"}, True, (version,))
    [cell] = models_table(Models((model,), ())).columns[-1].cells
    assert str(cell) == shown


def test_models_can_be_had_as_json(run: Run, url: str) -> None:
    document = json.loads(run(["models", "--json", "--url", url]).stdout)
    assert "clothes" in [model["name"] for model in document["models"]]
    assert document["broken"][0]["model"] == "torn"


def test_an_alias_is_moved_and_it_says_from_where(run: Run, url: str) -> None:
    first = run(["alias", "clothes", "trial", 1, "--url", url])
    assert (first.exit_code, first.stderr) == (0, "")
    assert first.stdout == "trial of clothes names version 1; before, it named nothing.\n"
    second = run(["alias", "clothes", "trial", 2, "--url", url, "--expected", 1, "--reason", "it is better"])
    assert second.stdout == "trial of clothes names version 2; before, it named version 1.\n"
    third = run(["alias", "clothes", "trial", 1, "--url", url, "--expected", 1])
    assert third.exit_code == 1
    assert "names version 2, and version 1 was expected" in third.stderr
    assert run(["alias", "clothes", "trial", 0, "--url", url]).exit_code == 2


def test_words_are_a_text_unless_they_name_something(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("good.txt").write_text("from a file")
    assert read_instance(["good.txt"]) == "from a file"
    assert read_instance(["good.txt", "and", "more"]) == "good.txt and more"
    assert read_instance(["I read it in good.txt"]) == "I read it in good.txt"
    assert read_instance(["area=70", "rooms=3"]) == {"area": 70.0, "rooms": 3.0}
    assert read_instance(["area=70", "and more"]) == "area=70 and more"
    assert read_instance(["area=large"]) == "area=large"


def test_an_array_of_objects_is_not_unpickled(run: Run, url: str, tmp_path: Path) -> None:
    buffer = io.BytesIO()
    np.save(buffer, np.array([object()]), allow_pickle=True)
    path = tmp_path / "objects.npy"
    path.write_bytes(buffer.getvalue())
    result = run(["predict", "motion", path, "--url", url])
    assert result.exit_code == 2
    assert "can't be read" in result.stderr


def test_a_file_that_is_not_there_is_a_fault_of_the_command(run: Run, url: str) -> None:
    result = run(["predict", "clothes", "nothing.png", "--url", url])
    assert result.exit_code == 2
    assert "nothing.png" in result.stderr
