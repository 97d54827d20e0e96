"""What is answered of live models, over a real store: always what reading it anew would say."""

from typing import Any

import pytest

from service.errors import UnknownModel
from service.learning.evaluator import Evaluator
from service.learning.questions import Question
from service.store.feedback import ModelContract
from tests.fakes import ManualClock
from tests.service.learning.support import CONTRACTS, HOUR, NOW, over, predict
from tests.stores import OpenStore, a_record, an_event


def test_a_model_without_feedback_has_predictions_and_no_figures(store: OpenStore, evaluator: Evaluator) -> None:
    assert evaluator.evaluate(Question("fashion"))["coverage"] is None
    predict(store, NOW - HOUR)
    answer = evaluator.evaluate(Question("fashion"))
    assert (answer["n"], answer["predictions"], answer["coverage"]) == (0, 1, 0.0)
    assert answer["metrics"]["accuracy"] == {"value": None, "n": 0, "reason": "no rows"}
    assert (answer["label_delay_seconds"], answer["matured_until"]) == ({}, None)


def test_what_is_said_counts_at_once(store: OpenStore, evaluator: Evaluator) -> None:
    for label in ("Bag", "Bag", "Coat", None):
        predict(store, NOW - HOUR, label)
    answer = evaluator.evaluate(Question("fashion"))
    assert (answer["n"], answer["predictions"], answer["coverage"]) == (3, 4, 0.75)
    assert answer["metrics"]["accuracy"]["value"] == pytest.approx(2 / 3)
    assert answer["confusion_matrix"] == {"labels": ["Bag", "Coat"], "counts": [[2, 0], [1, 0]]}
    assert answer["per_label"]["Bag"]["recall"]["value"] == 1.0
    assert answer["label_delay_seconds"]["p50"] == pytest.approx(10.0)
    predict(store, NOW - HOUR, "Bag")
    assert evaluator.evaluate(Question("fashion"))["n"] == 4


def test_windows_are_of_whole_minutes_so_that_both_counts_are_of_the_same(
    store: OpenStore, evaluator: Evaluator
) -> None:
    for seconds in (90, 61, 59, 31, 1):
        predict(store, NOW - seconds, "Bag")
    answer = evaluator.evaluate(Question("fashion", since=NOW - 45))
    assert (answer["n"], answer["predictions"]) == (3, 3)
    assert answer["window"] == {"from": "1970-02-11T15:59:00.000+00:00", "to": "1970-02-11T16:00:00.000+00:00"}
    answer = evaluator.evaluate(Question("fashion", since=NOW - 110, until=NOW - 65))
    assert (answer["n"], answer["predictions"]) == (2, 2)
    assert answer["window"] == {"from": "1970-02-11T15:58:00.000+00:00", "to": "1970-02-11T15:59:00.000+00:00"}
    answer = evaluator.evaluate(Question("fashion", since=NOW - 120, until=NOW - 60))
    assert (answer["n"], answer["predictions"]) == (2, 2)


def test_a_window_within_a_minute_is_that_minute(store: OpenStore, evaluator: Evaluator) -> None:
    for seconds in (59, 31, 1):
        predict(store, NOW - seconds, "Bag")
    answer = evaluator.evaluate(Question("fashion", since=NOW - 55, until=NOW - 10))
    assert (answer["n"], answer["predictions"]) == (3, 3)


def test_a_window_ends_now_at_the_latest(store: OpenStore, clock: ManualClock, evaluator: Evaluator) -> None:
    clock.now = NOW + 30
    predict(store, NOW + 10, "Bag")
    for until in (NOW + 20, NOW + HOUR):
        answer = evaluator.evaluate(Question("fashion", since=NOW - HOUR, until=until, buckets=1))
        assert (answer["n"], answer["predictions"]) == (1, 1)
        assert answer["window"]["to"] == "1970-02-11T16:00:30.000+00:00"
        assert [one["n"] for one in answer["over_time"]["points"]] == [1]


def test_of_what_is_too_young_altogether_nothing_is_looked_at(store: OpenStore, evaluator: Evaluator) -> None:
    predict(store, NOW - HOUR, "Bag")
    predict(store, NOW - 4)
    answer = evaluator.evaluate(Question("fashion", since=NOW - 5, matured=True, buckets=1))
    assert (answer["n"], answer["predictions"]) == (0, 0)
    assert answer["window"]["from"] == answer["window"]["to"]


def test_versions_roles_and_slices_have_figures_of_their_own(store: OpenStore, evaluator: Evaluator) -> None:
    first = predict(store, NOW - HOUR, "Bag", tags={"tier": "a"})
    predict(store, NOW - HOUR, "Coat", version=2)
    predict(store, NOW - HOUR, role="shadow", paired_with=first, version=2)

    def seen(**of: Any) -> tuple[int, int, float | None]:
        answer = evaluator.evaluate(Question("fashion", **of))
        return answer["n"], answer["predictions"], answer["metrics"]["accuracy"]["value"]

    assert seen() == (2, 2, 0.5)
    assert seen(version=1) == (1, 1, 1.0)
    assert seen(version=2) == (1, 1, 0.0)
    assert seen(role="shadow") == (1, 1, 1.0)
    assert seen(role=None) == (3, 3, pytest.approx(2 / 3))
    assert seen(slice="tier:a") == (1, 1, 1.0)
    assert seen(slice="tier:b") == (0, 0, None)


def test_what_is_too_young_to_have_its_labels_can_be_left_out(store: OpenStore, evaluator: Evaluator) -> None:
    for seconds in (600, 300, 65, 5):
        predict(store, NOW - seconds, "Bag" if seconds > 60 else None)
    answer = evaluator.evaluate(Question("fashion"))
    assert (answer["n"], answer["predictions"]) == (3, 4)
    assert answer["matured_until"] == "1970-02-11T15:59:50.000+00:00"
    answer = evaluator.evaluate(Question("fashion", matured=True))
    assert (answer["n"], answer["predictions"], answer["coverage"]) == (3, 3, 1.0)


def test_a_regression_has_residuals_and_no_confusion(store: OpenStore, evaluator: Evaluator) -> None:
    record = a_record(model="rent", outputs={"value": 3.0})
    store.predictions.append([record])
    store.feedback.add([an_event(prediction_id=record.id, value=4.0)], CONTRACTS)
    answer = evaluator.evaluate(Question("rent"))
    assert answer["metrics"]["mae"]["value"] == 1.0
    assert sum(answer["residuals"]["counts"]) == 1
    assert answer.keys().isdisjoint({"confusion_matrix", "per_label", "reliability"})


def test_accuracy_is_told_over_time(store: OpenStore, evaluator: Evaluator) -> None:
    for hours, label in ((2.5, "Bag"), (2.5, "Coat"), (0.5, "Bag")):
        predict(store, NOW - hours * HOUR, label)
    answer = evaluator.evaluate(Question("fashion", since=NOW - 3 * HOUR, buckets=3))["over_time"]
    assert answer["metric"] == "accuracy"
    assert [(one["n"], one["value"]) for one in answer["points"]] == [(2, 0.5), (0, None), (1, 1.0)]
    first, second, third = answer["points"]
    assert first["to"] == second["from"] == "1970-02-11T14:00:00.000+00:00"
    assert third["to"] == "1970-02-11T16:00:00.000+00:00"
    assert second["reason"] == "no rows"
    assert first["low"] < 0.5 < first["high"]
    assert "over_time" not in evaluator.evaluate(Question("fashion", since=NOW - 3 * HOUR))


def test_the_error_of_a_regression_is_told_over_time(store: OpenStore, evaluator: Evaluator) -> None:
    record = a_record(model="rent", outputs={"value": 3.0}, made=NOW - 60)
    store.predictions.append([record])
    store.feedback.add([an_event(prediction_id=record.id, value=5.0)], CONTRACTS)
    answer = evaluator.evaluate(Question("rent", since=NOW - HOUR, buckets=1))["over_time"]
    assert (answer["metric"], answer["points"][0]["value"]) == ("mae", 2.0)


def test_versions_stand_by_the_last_day(store: OpenStore, evaluator: Evaluator) -> None:
    assert evaluator.standings() == []
    for made, label, version in (
        (NOW - HOUR, "Bag", 1),
        (NOW - HOUR, "Coat", 1),
        (NOW - HOUR, None, 1),
        (NOW - 2 * HOUR, "Bag", 2),
        (NOW - 30 * HOUR, "Bag", 3),
    ):
        predict(store, made, label, version=version)
    evaluator.catch_up()
    found = {standing.ref.version: standing for standing in evaluator.standings()}
    assert found.keys() == {1, 2}
    assert (found[1].ref.model, found[1].metric, found[1].predictions) == ("fashion", "accuracy", 3)
    assert (found[1].value, found[1].labelled, found[2].value) == (0.5, 2, 1.0)


def test_a_model_that_nobody_knows_is_none(store: OpenStore, evaluator: Evaluator) -> None:
    with pytest.raises(UnknownModel, match="there is: fashion, rent"):
        evaluator.evaluate(Question("nothing"))
    store.control.crown_new_models({"new": {1: "a"}}, {"new": ModelContract("binary", ("a", "b"))})
    assert evaluator.evaluate(Question("new"))["n"] == 0


def test_feedback_on_a_model_that_nobody_knows_holds_up_no_other(
    store: OpenStore, evaluator: Evaluator, caplog: pytest.LogCaptureFixture
) -> None:
    predict(store, NOW - HOUR, "Bag", model="gone")
    predict(store, NOW - HOUR, "Bag")
    assert evaluator.evaluate(Question("fashion"))["n"] == 1
    assert "a model that nobody knows" in caplog.text


def test_what_was_followed_equals_what_is_read_anew(store: OpenStore, clock: ManualClock) -> None:
    following = over(store, clock)
    ids = []
    for number in range(40):
        ids.append(predict(store, NOW - HOUR - number, "Bag" if number % 3 else "Coat", version=1 + number % 2))
        following.catch_up()
    store.feedback.add([an_event(prediction_id=one, value="Coat") for one in ids[::5]], CONTRACTS)
    following.catch_up()
    store.feedback.add([an_event(prediction_id=one, kind="retraction", value=None) for one in ids[::7]], CONTRACTS)
    store.erasure.erase(ids[::11])
    for version in (None, 1, 2):
        question = Question("fashion", version=version)
        assert following.evaluate(question) == over(store, clock).evaluate(question)


def test_what_is_older_than_is_kept_is_let_go(store: OpenStore, clock: ManualClock, evaluator: Evaluator) -> None:
    predict(store, NOW - 99 * HOUR, "Bag")
    assert evaluator.evaluate(Question("fashion"))["n"] == 1
    clock.now += 2 * HOUR
    assert evaluator.evaluate(Question("fashion"))["n"] == 0
