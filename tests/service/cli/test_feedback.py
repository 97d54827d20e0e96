"""`servoloop feedback`, against a service."""

import csv
import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from uuid_utils import uuid7

from service.cli.feedback_files import read_items, write_events
from service.store.row_files import Format
from servoloop import Client
from tests.service.cli.conftest import Run

LINES = ["feedback.ndjson", "feedback.csv", "feedback.parquet"]


@pytest.fixture
def prediction(url: str) -> str:
    with Client(url) as client:
        return client.predict("mood", "a good film", external_id="order-1").prediction_id


def events(url: str, prediction: str) -> list[Any]:
    with Client(url) as client:
        return list(client.feedback_events(prediction_id=prediction).events)


def test_one_label_is_told(run: Run, url: str, prediction: str) -> None:
    words = [prediction, "--label", "positive", "--source", "expert", "--actor", "ann"]
    result = run(["feedback", "add", *words, "--url", url])
    assert result.exit_code == 0, result.stderr
    [event] = events(url, prediction)
    assert result.stdout == f"joined as {event.event_id}.\n"
    assert (event.label, event.source, event.actor, event.kind) == ("positive", "expert", "ann", "label")


def test_a_label_is_corrected_and_taken_back(run: Run, url: str, prediction: str) -> None:
    run(["feedback", "add", prediction, "--label", "positive", "--url", url])
    [first] = events(url, prediction)
    run(["feedback", "add", prediction, "--label", "negative", "--correct", first.event_id, "--url", url])
    run(["feedback", "add", prediction, "--retract", "--url", url])
    run(["feedback", "add", prediction, "--rating", "4", "--url", url])
    rating, retraction, correction, _ = events(url, prediction)
    assert (correction.kind, correction.supersedes) == ("correction", first.event_id)
    assert (retraction.kind, rating.rating) == ("retraction", 4)


def test_what_is_not_known_yet_waits(run: Run, url: str) -> None:
    result = run(["feedback", "add", str(uuid7()), "--label", "positive", "--url", url])
    assert result.exit_code == 0
    assert "its prediction is not known yet, and it counts once it is" in result.stdout


def test_what_the_service_refuses_is_told(run: Run, url: str, prediction: str) -> None:
    result = run(["feedback", "add", prediction, "--label", "splendid", "--url", url])
    assert result.exit_code == 1
    assert "'splendid' is no label of the model; expected one of negative, positive" in result.stderr


@pytest.mark.parametrize("name", LINES)
def test_what_is_exported_can_be_taken_in(run: Run, url: str, prediction: str, tmp_path: Path, name: str) -> None:
    said = [
        {"prediction_id": prediction, "label": "positive", "actor": f"ann, {name}"},
        {"prediction_id": prediction, "rating": 4.5},
        {"model": "mood", "external_id": "order-1", "label": "negative", "labelled_at": "2026-01-31T08:00:00Z"},
        {"prediction_id": prediction, "kind": "retraction"},
    ]
    source = f"export of {name}"
    first = tmp_path / "first.ndjson"
    first.write_text("".join(json.dumps({**item, "source": source}) + "\n" for item in said))
    assert run(["feedback", "import", first, "--key", name, "--url", url]).stdout == "4 joined\n"
    path = tmp_path / name
    result = run(["feedback", "export", path, "--source", source, "--url", url])
    assert (result.exit_code, result.stdout) == (0, f"4 events are in {path}.\n")
    for item, expected in zip(read_items(path, Format.of(path)), reversed(said), strict=True):
        assert item.items() >= {**expected, "source": source}.items()
    assert [run(["feedback", "import", path, "--url", url]).stdout for _ in range(2)] == ["4 joined\n", "4 duplicate\n"]


@pytest.mark.parametrize(
    ("name", "accept"),
    [
        ("feedback.ndjson", "application/x-ndjson"),
        ("feedback.csv", "text/csv"),
        ("feedback.parquet", "application/vnd.apache.parquet"),
    ],
)
def test_what_the_api_exports_is_what_the_command_does_and_can_be_taken_in(
    run: Run, url: str, prediction: str, tmp_path: Path, name: str, accept: str
) -> None:
    source = f"api's {name}"
    with Client(url) as client:
        client.feedback(prediction, label="positive", source=source, actor='ann,\u00e9 "a"')
        client.feedback(prediction, rating=4.5, source=source)
        client.feedback(prediction, kind="retraction", source=source)
    answer = httpx.get(f"{url}/v1/feedback", params={"source": source}, headers={"Accept": accept})
    from_api, from_command = tmp_path / f"api-{name}", tmp_path / name
    from_api.write_bytes(answer.content)
    run(["feedback", "export", from_command, "--source", source, "--url", url])
    items = [list(read_items(path, Format.of(path))) for path in (from_api, from_command)]
    assert items[0] == items[1]
    if name.endswith(".csv"):
        assert from_api.read_bytes() == from_command.read_bytes()
    assert run(["feedback", "import", from_api, "--url", url]).stdout == "3 joined\n"
    assert run(["feedback", "import", from_command, "--url", url]).stdout == "3 duplicate\n"


def test_a_file_is_taken_in_once(run: Run, url: str, prediction: str, tmp_path: Path) -> None:
    path = tmp_path / "once.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerows([("prediction_id", "label", "rating"), (prediction, "positive", ""), (prediction, "", "2")])
    assert run(["feedback", "import", path, "--url", url]).stdout == "2 joined\n"
    assert run(["feedback", "import", path, "--url", url]).stdout == "2 duplicate\n"
    assert run(["feedback", "import", path, "--key", "anew", "--url", url]).stdout == "2 joined\n"
    assert len(events(url, prediction)) == 4


def test_items_that_are_wrong_are_told_and_keep_no_others_out(
    run: Run, url: str, prediction: str, tmp_path: Path
) -> None:
    path = tmp_path / "wrong.ndjson"
    good, bad = {"prediction_id": prediction, "label": "positive"}, {"prediction_id": prediction, "label": "splendid"}
    path.write_text("\n\n".join(json.dumps(item) for item in [good, *[bad] * 25]))
    result = run(["feedback", "import", path, "--url", url])
    assert (result.exit_code, result.stdout) == (1, "1 joined, 25 rejected\n")
    told = result.stderr.splitlines()
    assert told[0] == "item 2: 'splendid' is no label of the model; expected one of negative, positive"
    assert told[-1] == "... and 5 more"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("torn.ndjson", '{"rating": 1}\n{', "line 2 is no JSON"),
        ("list.ndjson", "[1]", "line 1 is no object"),
        ("words.csv", "prediction_id,rating\na,b\n", "line 2: rating 'b' is no number"),
        ("not.parquet", "PAR?", "not.parquet: "),
    ],
)
def test_a_file_that_cannot_be_read_is_an_error(
    run: Run, url: str, tmp_path: Path, name: str, content: str, message: str
) -> None:
    path = tmp_path / name
    path.write_text(content)
    result = run(["feedback", "import", path, "--url", url])
    assert result.exit_code == 1
    assert message in result.stderr
    missing = run(["feedback", "import", tmp_path / "nothing.csv", "--url", url])
    assert (missing.exit_code, missing.stderr) == (1, f"error: {tmp_path / 'nothing.csv'}: No such file or directory\n")


def test_lines_go_to_stdout(run: Run, url: str, prediction: str) -> None:
    run(["feedback", "add", prediction, "--label", "positive", "--source", "stdout", "--url", url])
    result = run(["feedback", "export", "-", "--source", "stdout", "--url", url])
    [line] = result.stdout.splitlines()
    assert json.loads(line)["prediction_id"] == prediction
    assert result.stderr == "1 events are in -.\n"


@pytest.mark.parametrize("name", LINES)
def test_several_labels_survive_a_file(tmp_path: Path, name: str) -> None:
    event = {
        **dict.fromkeys(["event_id", "model", "external_id", "actor", "supersedes", "idempotency_key"]),
        "value": None,
        "rating": None,
        "trust": 1,
        "prediction_id": "p",
        "kind": "label",
        "source": "user",
        "label": ["a", "b,c"],
        "principal": "x",
        "labelled_at": "2026-01-31T08:00:00Z",
        "received_at": "2026-01-31T08:00:00.123000Z",
        "status": "joined",
    }
    path = tmp_path / name
    assert write_events(path, Format.of(path), [event]) == 1
    [item] = read_items(path, Format.of(path))
    assert item["label"] == ["a", "b,c"]
