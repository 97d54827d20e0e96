"""`servoloop evaluation`, against a service."""

import json

import pytest

from service.cli.evaluation import _duration, _show_slices
from servoloop import Client, Figure, SliceFigures, Slices
from tests.service.cli.conftest import Run


@pytest.fixture(scope="module")
def tag(url: str) -> str:
    """Of three predictions, one of which was right and one wrong."""
    with Client(url) as client:
        predictions = client.predict_many("mood", ["good", "bad", "so so"], tags={"of": "evaluation"})
        wrong = other(predictions[1].label)
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


@pytest.fixture(scope="module")
def groups(url: str) -> str:
    """By which they differ: of one all were right, of one all wrong, and of one there are few."""
    with Client(url) as client:
        for country, requests, is_right in (("DE", 5, True), ("[b]FR", 4, False), ("IT", 1, True)):
            for _ in range(requests):
                made = client.predict_many("mood", ["good"] * 8, tags={"country": country, "of": "groups"})
                labels = [one.label if is_right else other(one.label) for one in made]
                client.feedback_many(
                    {"prediction_id": one.prediction_id, "label": label}
                    for one, label in zip(made, labels, strict=True)
                )
    return "country"


def other(label: str | None) -> str:
    return {"positive": "negative", "negative": "positive"}[label or ""]


def test_groups_are_shown_by_how_they_differ_from_the_rest(run: Run, url: str, groups: str) -> None:
    result = run(["evaluation", "mood", "--slice", "of:groups", "--by", groups, "--url", url])
    assert result.exit_code == 0, result.stderr
    head = next(line for line in result.stdout.splitlines() if "country" in line)
    assert [cell.strip() for cell in head.strip("┃").split("┃")] == [
        "country",
        "accuracy",
        "accuracy less that of the rest",
        "labels",
        "",
    ]
    german, french = (line for line in result.stdout.splitlines() if line.startswith(("│ DE", "│ [b]FR")))
    assert "│ 1 (0.9124 to 1) " in german
    assert "│ 40 " in german
    assert "│ 0 (0 to 0.1072) " in french
    assert "│ -1 (" in french
    assert "│ worst, and worse than the rest │" in french
    assert "With fewer than 30 labels: IT." in result.stdout
    found = json.loads(run(["evaluation", "mood", "--by", groups, "--json", "--url", url]).stdout)
    assert (found["slices"]["worst"], found["slices"]["suppressed"]) == ("country:[b]FR", ["country:IT"])


def test_a_tag_that_nobody_gave_is_told(run: Run, url: str, tag: str) -> None:
    result = run(["evaluation", "mood", "--slice", tag, "--by", "planet", "--url", url])
    assert "No prediction with a label has a tag planet." in result.stdout
    assert run(["evaluation", "mood", "--by", "planet:earth", "--url", url]).exit_code == 1


def test_what_is_worst_by_chance_and_what_is_left_out_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    figures = {"mae": Figure(2.0, 40, 1.0, 3.0)}
    group = SliceFigures("country:DE", 40, 90, figures, figures)
    _show_slices(Slices("country", 30, (group,), "country:DE", False, [], 7))
    shown = capsys.readouterr().out
    assert "worst, which may be chance" in shown
    assert "mae less that of the rest" in shown
    assert "Smaller groups that are left out: 7." in shown


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
