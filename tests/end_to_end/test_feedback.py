"""Feedback and live evaluation by a running service, while its processes are killed."""

import contextlib
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest

from models.metrics import confusion_matrix
from service.settings import SHIPPED_CHECKPOINTS
from tests import postgres
from tests.end_to_end.service import Homes, Service, until

NUM_ROWS = 200


@pytest.fixture(scope="module", params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def service(request: pytest.FixtureRequest, new_home: Homes) -> Iterator[Service]:
    with contextlib.ExitStack() as stack:
        settings = {}
        if request.param == "postgresql":
            settings["store_url"] = stack.enter_context(postgres.server())
        yield stack.enter_context(Service(new_home(), **settings)).wait_ready()


@pytest.fixture(scope="module")
def held_out() -> tuple[list[Any], list[str]]:
    """Real pictures of clothes, and what they are."""
    folder = Path(SHIPPED_CHECKPOINTS) / "fashion" / "1"
    labels = orjson.loads((folder / "manifest.json").read_bytes())["labels"]
    with np.load(folder / "evaluation.npz") as sample:
        rows, targets = sample["rows"][:NUM_ROWS], sample["targets"][:NUM_ROWS]
    return rows.tolist(), [labels[target] for target in targets]


def give(service: Service, items: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What became of each item; asked again under the same keys until it is known."""

    def kept() -> list[dict[str, Any]] | None:
        response = service.client.post("/v1/feedback", json=items)
        return response.json()["results"] if response.status_code == 200 else None

    return until(kept, "feedback is kept")


def evaluated(service: Service, **parameters: Any) -> dict[str, Any]:
    def answered() -> dict[str, Any] | None:
        response = service.client.get("/v1/models/fashion/evaluation", params=parameters)
        return response.json() if response.status_code == 200 else None

    return until(answered, "the model is measured")


@dataclass
class Said:
    """What was predicted of some rows, and what they are."""

    ids: list[str]
    predicted: list[str]
    truth: list[str]


@pytest.fixture(scope="module")
def said(service: Service, held_out: tuple[list[Any], list[str]]) -> Said:
    """Labels come shuffled, some twice, some first wrong and then corrected, while recorder and loop are killed."""
    rows, truth = held_out
    rng = random.Random(7)
    labels = sorted(set(truth))
    answers = [service.post("fashion", rows[start : start + 20]).json() for start in range(0, len(rows), 20)]
    ids = [one for answer in answers for one in answer["prediction_ids"]]
    predicted = [one["label"] for answer in answers for one in answer["predictions"]]
    items = [
        {"prediction_id": one, "label": label, "idempotency_key": one} for one, label in zip(ids, truth, strict=True)
    ]
    wrong = rng.sample(range(len(items)), len(items) // 20)
    mistakes = [
        {
            **items[index],
            "label": rng.choice(labels),
            "idempotency_key": f"wrong {index}",
            "labelled_at": "2026-01-31T08:00:00Z",
        }
        for index in wrong
    ]
    posted = [*items, *rng.sample(items, len(items) // 10), *mistakes]
    rng.shuffle(posted)
    for number, start in enumerate(range(0, len(posted), 30)):
        results = give(service, posted[start : start + 30])
        assert {result["status"] for result in results} <= {"joined", "pending", "duplicate"}
        if number in (2, 5):
            service.kill_child("recorder")
        if number == 4:
            service.kill_child("loop")
    until(lambda: all_joined(service, len(items) + len(mistakes)), "all feedback found its prediction")
    return Said(ids, predicted, truth)


def test_what_is_measured_is_what_was_said_whatever_happened_meanwhile(service: Service, said: Said) -> None:
    found = evaluated(service)
    count = len(said.ids)
    assert (found["n"], found["predictions"], found["coverage"]) == (count, count, 1.0)
    names = found["confusion_matrix"]["labels"]
    expected = confusion_matrix(
        np.array([names.index(one) for one in said.truth]),
        np.array([names.index(one) for one in said.predicted]),
        len(names),
    )
    assert found["confusion_matrix"]["counts"] == expected.tolist()
    assert found["metrics"]["accuracy"]["value"] == pytest.approx(np.trace(expected) / count)


def all_joined(service: Service, count: int) -> bool:
    cursor, joined = None, 0
    while True:
        page = service.client.get(
            "/v1/feedback", params={"limit": 1000} | ({"cursor": cursor} if cursor else {})
        ).json()
        joined += sum(event["status"] == "joined" for event in page["events"])
        cursor = page["next_cursor"]
        if cursor is None:
            return joined == count


@pytest.mark.usefixtures("said")
def test_how_a_model_stands_is_shown_to_prometheus(service: Service) -> None:
    labels = {"model": "fashion", "version": "1"}

    def shown() -> bool:
        return service.metric("servoloop_labelled_predictions", **labels) >= NUM_ROWS

    until(shown, "the loop process has shown it")
    value, low, high = (service.metric(f"servoloop_online_metric{bound}", **labels) for bound in ("", "_low", "_high"))
    assert 0.5 < low < value < high <= 1.0
    assert service.metric("servoloop_label_coverage_ratio", **labels) == 1.0
    assert service.metric("servoloop_feedback_events_total", outcome="joined") > 0


@pytest.mark.usefixtures("said")
def test_inputs_are_kept_and_everything_can_be_deleted(service: Service) -> None:
    answer = service.post("fashion", [[[7] * 28] * 28], tags={"user": "7"}).json()
    [prediction_id] = answer["prediction_ids"]
    give(service, [{"prediction_id": prediction_id, "label": "Bag"}])
    path = f"/v1/predictions/{prediction_id}"
    until(lambda: service.client.get(f"{path}/input").status_code == 200, "its input is kept")
    before = evaluated(service)["n"]
    assert service.client.delete("/v1/predictions", params={"tag": "user:7"}).json()["deleted"] == 1
    assert service.client.get(path).status_code == 404
    after = evaluated(service)
    assert (after["n"], after["predictions"]) == (before - 1, NUM_ROWS)
