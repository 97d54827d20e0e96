"""`servoloop evaluation`, against a service."""

import json

import pytest

from service.cli.evaluation import _duration
from servoloop import Client
from tests.service.cli.conftest import Run


@pytest.fixture(scope="module")
def tag(url: str) -> str:
    """Of three predictions, one of which was right and one wrong."""
    with Client(url) as client:
        predictions = client.predict_many("mood", ["good", "bad", "so so"], tags={"of": "evaluation"})
        wrong = {"positive": "negative", "negative": "positive"}[predictions[1].label or ""]
        client.feedback(predictions[0], label=predictions[0].label)
        client.feedback(predictions[1], label=wrong)
        client.feedback(predictions[2], rating=4)
    return "of:evaluation"


def test_figures_are_shown_with_their_intervals(run: Run, url: str, tag: str) -> None:
    result = run(["evaluation", "mood", "--slice", tag, "--window", "1h", "--url", url])
    assert result.exit_code == 0, result.stderr
    first, *lines = result.stdout.splitlines()
    assert first.startswith("mood, all versions, of:evaluation, since ")
    assert ": 2 of 3 predictions (66.7%) have a label, half of the labels within " in first
    accuracy = next(line for line in lines if " accuracy " in line)
    assert "0.5 (0.09453 to 0.9055)" in accuracy
    assert any("rating" in line and "4 " in line for line in lines)
    assert any("was, taken for" in line and "positive" in line for line in lines)
    assert any("precision" in line and "recall" in line for line in lines)


def test_the_same_comes_as_json(run: Run, url: str, tag: str) -> None:
    result = run(["evaluation", "mood", "--slice", tag, "--version", 1, "--role", "all", "--json", "--url", url])
    found = json.loads(result.stdout)
    assert (found["n"], found["version"], found["metrics"]["accuracy"]["value"]) == (2, "1", 0.5)


def test_where_nothing_is_known_it_is_told_what_to_do(run: Run, url: str, tag: str) -> None:
    result = run(["evaluation", "mood", "--slice", "of:nothing", "--url", url])
    assert result.exit_code == 0
    assert "0 of 0 predictions have a label" in result.stdout
    assert "servoloop feedback add PREDICTION_ID --label LABEL" in result.stdout


def test_what_the_service_refuses_is_told(run: Run, url: str) -> None:
    result = run(["evaluation", "nothing", "--url", url])
    assert (result.exit_code, "there is no model named 'nothing'" in result.stderr) == (1, True)
    assert run(["evaluation", "mood", "--window", "soon", "--url", url]).exit_code == 1


@pytest.mark.parametrize(
    ("seconds", "shown"), [(0.5, "0.5 s"), (59, "59 s"), (90, "1.5 min"), (7200, "2 h"), (86_400, "1 d")]
)
def test_durations_are_told_in_their_unit(seconds: float, shown: str) -> None:
    assert _duration(seconds) == shown
