from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from service.domain import Address, Caller, PredictParameters, Principal
from service.registry.scanner import scan
from service.serving.answer import Computed
from service.serving.postprocess import Prediction, Probabilities
from service.serving.recording import records_of, scores_in
from service.serving.router import Router, Target
from service.store.base import Record
from service.wire.inference import Outputs

PLAIN = PredictParameters()
CALLER = Caller("request-1", Principal("anna"), arrived=0.0, timeout=None, key="from-the-header")


@pytest.fixture
def target(root: Path) -> Target:
    return Router(scan([root], {"rent": {"champion": 1}})).choose(Address("rent"))


def recorded(
    target: Target,
    *predictions: Prediction,
    wanted: PredictParameters = PLAIN,
    probabilities: Probabilities | None = None,
) -> list[Record]:
    ids = [f"id-{number}" for number in range(1, len(predictions) + 1)]
    outputs = Outputs(np.zeros((len(ids), 1), np.float32), {}, 0.0, 0.0)
    return list(records_of(Computed(outputs, predictions, probabilities, ids), target, wanted, CALLER, 0.25))


def described(target: Target, task: str, num_labels: int) -> Target:
    changed = {"task": task, "labels": [str(number) for number in range(num_labels)]}
    return replace(target, manifest=target.manifest.model_copy(update=changed))


def test_a_record_says_what_was_answered_by_which_weights_to_whom(target: Target) -> None:
    (record,) = recorded(target, {"value": 600.0}, wanted=PredictParameters(tags={"country": "DE"}))
    assert (record.id, record.model, record.version) == ("id-1", "rent", 1)
    assert record.digest == target.manifest.digest
    assert record.outputs == {"value": 600.0}
    assert (record.latency, record.principal, record.request_id) == (0.25, "anna", "request-1")
    assert record.tags == {"country": "DE"}


def test_each_prediction_has_a_record_with_the_callers_own_id(target: Target) -> None:
    wanted = PredictParameters(external_ids=("order-1", "order-2"))
    records = recorded(target, {"value": 1.0}, {"value": 2.0}, wanted=wanted)
    assert [(record.id, record.external_id) for record in records] == [("id-1", "order-1"), ("id-2", "order-2")]
    assert [record.outputs for record in records] == [{"value": 1.0}, {"value": 2.0}]


def test_without_ids_of_the_callers_own_there_is_none(target: Target) -> None:
    (record,) = recorded(target, {"value": 1.0})
    assert record.external_id is None


@pytest.mark.parametrize(("in_body", "kept"), [("from-the-body", "from-the-body"), (None, "from-the-header")])
def test_the_bodys_key_counts_before_the_headers(target: Target, in_body: str | None, kept: str) -> None:
    (record,) = recorded(target, {"value": 1.0}, wanted=PredictParameters(key=in_body))
    assert record.key == kept


def test_what_a_caller_asked_for_besides_is_not_kept_nor_are_vectors(target: Target) -> None:
    everything = {"label": "bag", "index": 1, "probability": 0.5, "top": [], "probabilities": {}, "embedding": [1.0]}
    (record,) = recorded(target, everything)
    assert record.outputs == {"label": "bag", "index": 1, "probability": 0.5}


@pytest.mark.parametrize(("task", "row"), [("multiclass", [0.2, 0.5, 0.3]), ("multilabel", [0.9, 0.8, 0.0])])
def test_the_probabilities_of_all_labels_are_kept(target: Target, task: str, row: list[float]) -> None:
    model = described(target, task, 3)
    failed = {"error": {"type": "prediction_failed", "detail": "not finite"}}
    good, bad = recorded(model, {"label": "1"}, failed, probabilities=[row, []])
    assert good.scores is not None
    assert scores_in(good.scores) == tuple(np.array(row, np.float32).tolist())
    assert bad.scores is None


def test_where_one_probability_says_it_all_no_others_are_kept(target: Target) -> None:
    (record,) = recorded(described(target, "binary", 2), {"label": "1"}, probabilities=[[0.2, 0.8]])
    assert record.scores is None


def test_the_probabilities_of_very_many_labels_are_not_kept(target: Target) -> None:
    (few,) = recorded(described(target, "multiclass", 1024), {"label": "1"}, probabilities=[[0.0] * 1024])
    (many,) = recorded(described(target, "multiclass", 1025), {"label": "1"}, probabilities=[[0.0] * 1025])
    assert few.scores is not None
    assert many.scores is None
