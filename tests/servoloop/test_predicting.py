"""Predictions, and where the options of a call go."""

from typing import Any

import pytest

import servoloop
from tests.servoloop.support import IDS, Service, answer


def test_an_answer_becomes_a_prediction() -> None:
    row = {
        "label": "Ankle boot",
        "index": 9,
        "probability": 0.98,
        "top": [{"label": "Ankle boot", "index": 9, "probability": 0.98}],
        "probabilities": {"Bag": 0.02, "Ankle boot": 0.98},
        "added_later": 1,
    }
    service = Service(answer(row))
    with service.client() as client:
        prediction = client.predict("fashion", "x")
    assert prediction == servoloop.Prediction(
        prediction_id=IDS[0],
        model="fashion",
        version="3",
        label="Ankle boot",
        index=9,
        probability=0.98,
        top=(servoloop.Scored("Ankle boot", 0.98, 9),),
        probabilities={"Bag": 0.02, "Ankle boot": 0.98},
    )


@pytest.mark.parametrize(
    ("row", "attribute", "value"),
    [
        ({"value": 66000.0}, "value", 66000.0),
        ({"embedding": [1.0, 2.0]}, "embedding", (1.0, 2.0)),
        ({"labels": [{"label": "a", "probability": 0.7}]}, "labels", (servoloop.Scored("a", 0.7),)),
        ({"error": {"type": "t", "detail": "d"}}, "error", servoloop.RowError("t", "d")),
    ],
)
def test_each_task_has_its_attribute(row: dict[str, Any], attribute: str, value: Any) -> None:
    with Service(answer(row)).client() as client:
        assert getattr(client.predict("m", "x"), attribute) == value


def test_several_rows_come_back_in_their_order() -> None:
    service = Service(answer({"value": 1.0}, {"value": 2.0}))
    with service.client() as client:
        predictions = client.predict_many("m", [[1], [2]], external_ids=["a", "b"])
    assert [row.value for row in predictions] == [1.0, 2.0]
    assert [row.prediction_id for row in predictions] == IDS
    assert (len(predictions), predictions[1].value, predictions.version) == (2, 2.0, "3")
    assert service.body["parameters"] == {"external_ids": ["a", "b"]}


def test_every_option_has_its_place() -> None:
    service = Service(answer({"value": 1.0}))
    with service.client() as client:
        client.predict(
            "m",
            "x",
            version=3,
            top_k=2,
            return_probabilities=True,
            timeout_ms=50,
            key="user-7",
            tags={"country": "DE"},
            external_id="order-1",
            request_id="r-7",
        )
    [request] = service.requests
    assert (request.method, request.url.path) == ("POST", "/v1/models/m/versions/3/predict")
    assert request.headers["X-Request-Id"] == "r-7"
    assert service.body["parameters"] == {
        "top_k": 2,
        "return_probabilities": True,
        "timeout_ms": 50,
        "key": "user-7",
        "tags": {"country": "DE"},
        "external_ids": ["order-1"],
    }


def test_a_model_or_alias_is_one_part_of_the_path_whatever_it_holds() -> None:
    service = Service(answer({"value": 1.0}))
    with service.client() as client:
        client.predict("a/b", "x", alias="../c")
    assert service.requests[0].url.raw_path == b"/v1/models/a%2Fb/aliases/..%2Fc/predict"


def test_a_version_and_an_alias_exclude_each_other() -> None:
    with Service(answer()).client() as client, pytest.raises(ValueError, match="not both"):
        client.predict("m", "x", version=1, alias="champion")
