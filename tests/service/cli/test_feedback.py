"""`servoloop feedback`, against a service."""

import csv
import json
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner
from uuid_utils import uuid7

from service.cli.app import app
from service.cli.feedback_files import read_items, write_events
from service.registry.catalog import Catalog
from service.store.row_files import Format
from servoloop import Client
from tests.service.cli.conftest import Run, running

LINES = ["feedback.ndjson", "feedback.csv", "feedback.parquet"]


@pytest.fixture
def prediction(url: str) -> str:
    with Client(url) as client:
        return client.predict("mood", "a good film", external_id="order-1").prediction_id


@pytest.fixture(scope="module")
def other_url(catalog: Catalog, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Another service, with a prediction under the same caller's id."""
    with running(catalog, tmp_path_factory.mktemp("other")) as address:
        with Client(address) as client:
            client.predict("mood", "a good film", external_id="order-1")
        yield address


def events(url: str, prediction: str) -> list[Any]:
    with Client(url) as client:
        return list(client.feedback_events(prediction_id=prediction).events)


def said_by(url: str, source: str) -> int:
    with Client(url) as client:
        return len(client.feedback_events(source=source).events)


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
def test_what_is_exported_can_be_taken_in(
    run: Run, url: str, other_url: str, prediction: str, tmp_path: Path, name: str
) -> None:
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
        assert item.said.items() >= {**expected, "source": source}.items()
    assert run(["feedback", "import", path, "--url", url]).stdout == "4 duplicate\n"
    assert said_by(url, source) == 4
    taken_in = [run(["feedback", "import", path, "--url", other_url]).stdout for _ in range(2)]
    assert taken_in == ["1 joined, 3 pending\n", "4 duplicate\n"]
    assert said_by(other_url, source) == 4


@pytest.mark.parametrize("name", LINES)
def test_what_was_taken_back_stays_so_in_another_service(
    run: Run, url: str, other_url: str, prediction: str, tmp_path: Path, name: str
) -> None:
    source = f"taken back in {name}"
    with Client(url) as client:
        label = client.feedback(prediction, label="positive", source=source).event_id
        other = client.feedback(prediction, label="negative", source=source).event_id
        correction = client.feedback(prediction, label="negative", kind="correction", source=source, supersedes=label)
        client.feedback(prediction, kind="retraction", source=source, supersedes=correction.event_id)
        client.feedback(prediction, kind="retraction", source=source, supersedes=str(uuid7()))
    path = tmp_path / name
    run(["feedback", "export", path, "--source", source, "--url", url])
    for expected in ("5 pending\n", "5 duplicate\n"):
        assert run(["feedback", "import", path, "--url", other_url]).stdout == expected
    with Client(url) as first, Client(other_url) as second:
        before = first.feedback_events(source=source).events
        after = second.feedback_events(source=source).events
    became = {old.event_id: new.event_id for old, new in zip(before, after, strict=True)}
    assert [one.idempotency_key for one in after] == list(became)
    assert {label, other} < became.keys()
    assert [one.supersedes for one in after] == [became.get(old.supersedes, old.supersedes) for old in before]  # type: ignore[arg-type]
    assert sum(one.supersedes in became.values() for one in after) == 2


def test_what_an_item_supersedes_may_come_from_the_same_file(
    run: Run, url: str, other_url: str, prediction: str, tmp_path: Path
) -> None:
    with Client(url) as client:
        label = client.feedback(prediction, label="positive", source="edited").event_id
    path = tmp_path / "edited.ndjson"
    run(["feedback", "export", path, "--source", "edited", "--url", url])
    by_hand = {"prediction_id": prediction, "kind": "retraction", "supersedes": label, "source": "edited"}
    path.write_text(path.read_text() + json.dumps(by_hand) + "\n")
    assert run(["feedback", "import", path, "--url", other_url]).stdout == "2 pending\n"
    with Client(other_url) as client:
        retraction, copy = client.feedback_events(source="edited").events
    assert retraction.supersedes == copy.event_id != label


def test_an_export_adds_to_its_own_service_what_it_lacks(
    run: Run, url: str, prediction: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.cli.feedback._PAGE", 2)
    with Client(url) as client:
        ids = [client.feedback(prediction, rating=number, source="partly").event_id for number in range(7)]
    path = tmp_path / "partly.ndjson"
    run(["feedback", "export", path, "--source", "partly", "--url", url])
    # Two that the service does not have, before and between those that it has, and one of another system.
    expired, lost, foreign = (
        ids[0].replace(ids[0][:8], "01900000"),
        f"{ids[3][:-1]}{int(ids[3][-1], 16) ^ 1:x}",
        "row-7",
    )
    said = {"prediction_id": prediction, "rating": 9, "source": "partly"}
    lines = [json.dumps({"event_id": one, **said}) + "\n" for one in (expired, lost, foreign)]
    path.write_text(path.read_text() + "".join(lines))
    assert run(["feedback", "import", path, "--url", url]).stdout == "7 duplicate, 3 joined\n"
    assert run(["feedback", "import", path, "--url", url]).stdout == "10 duplicate\n"
    assert said_by(url, "partly") == 10


def test_what_supersedes_an_event_that_expired_follows_its_copy(
    run: Run, url: str, prediction: str, tmp_path: Path
) -> None:
    expired = str(uuid7())
    with Client(url) as client:
        retraction = client.feedback(prediction, kind="retraction", source="late", supersedes=expired).event_id
    path = tmp_path / "late.ndjson"
    run(["feedback", "export", path, "--source", "late", "--url", url])
    label = {"event_id": expired, "prediction_id": prediction, "label": "positive", "source": "late"}
    path.write_text(path.read_text() + json.dumps(label) + "\n")
    assert run(["feedback", "import", path, "--url", url]).stdout == "2 joined\n"
    again, copy, first = events(url, prediction)
    assert (first.event_id, again.supersedes) == (retraction, copy.event_id)


@pytest.mark.parametrize(
    ("name", "accept"),
    [
        ("feedback.ndjson", "application/x-ndjson"),
        ("feedback.csv", "text/csv"),
        ("feedback.parquet", "application/vnd.apache.parquet"),
    ],
)
def test_what_the_api_exports_is_what_the_command_does_and_can_be_taken_in(
    run: Run, url: str, other_url: str, prediction: str, tmp_path: Path, name: str, accept: str
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
    assert run(["feedback", "import", from_api, "--url", other_url]).stdout == "3 pending\n"
    assert run(["feedback", "import", from_command, "--url", other_url]).stdout == "3 duplicate\n"


def test_a_file_is_taken_in_once(run: Run, url: str, prediction: str, tmp_path: Path) -> None:
    path = tmp_path / "once.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerows([("prediction_id", "label", "rating"), (prediction, "positive", ""), (prediction, "", "2")])
    assert run(["feedback", "import", path, "--url", url]).stdout == "2 joined\n"
    assert run(["feedback", "import", path, "--url", url]).stdout == "2 duplicate\n"
    assert run(["feedback", "import", path, "--key", "anew", "--url", url]).stdout == "2 joined\n"
    assert len(events(url, prediction)) == 4


def test_another_file_of_the_same_name_is_new(run: Run, url: str, prediction: str, tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    for label in ("positive", "negative"):
        path.write_text(f"prediction_id,label\n{prediction},{label}\n")
        assert run(["feedback", "import", path, "--url", url]).stdout == "1 joined\n"
    renamed = path.rename(tmp_path / "renamed.csv")
    assert run(["feedback", "import", renamed, "--url", url]).stdout == "1 duplicate\n"


def test_a_conflict_names_the_file_and_the_key(run: Run, url: str, prediction: str, tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    for label in ("positive", "negative"):
        path.write_text(f"prediction_id,label\n{prediction},{label}\n")
        result = run(["feedback", "import", path, "--key", "daily", "--url", url])
    assert (result.exit_code, result.stdout) == (1, "1 conflict\n")
    assert f"{path}: other items were taken in under --key daily" in result.stderr


def test_lines_come_from_stdin_and_from_a_pipe(url: str, prediction: str, tmp_path: Path) -> None:
    line = json.dumps({"prediction_id": prediction, "label": "positive", "actor": "a pipe"}) + "\n"
    words = ["feedback", "import", "-", "--url", url]
    assert [CliRunner().invoke(app, words, input=line).stdout for _ in range(2)] == ["1 joined\n", "1 duplicate\n"]
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with ThreadPoolExecutor(1) as threads:
        threads.submit(pipe.write_text, line)
        assert CliRunner().invoke(app, ["feedback", "import", str(pipe), "--url", url]).stdout == "1 duplicate\n"


@pytest.mark.parametrize("name", ["marked.csv", "marked.ndjson"])
def test_the_mark_that_a_file_may_begin_with_is_no_part_of_it(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    content = {"marked.csv": "prediction_id,label\np,a\n", "marked.ndjson": '{"prediction_id": "p", "label": "a"}\n'}
    path.write_text(content[name], encoding="utf-8-sig")
    [item] = read_items(path, Format.of(path))
    assert item.said == {"prediction_id": "p", "label": "a"}


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
        (
            "parted.csv",
            "prediction_id;label\na;b\n",
            "the header is prediction_id;label; of that, 'prediction_id;label'",
        ),
        ("more.csv", "prediction_id,label,note\na,b,c\n", "'note' is unknown. Expected columns"),
        ("long.csv", "prediction_id,label\na,b,c\n", "line 2 has more fields than the header, which has 2"),
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
    assert item.said["label"] == ["a", "b,c"]
