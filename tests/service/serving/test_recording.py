from pathlib import Path

import pytest

from service.domain import Address, Caller, PredictParameters, Principal
from service.registry.scanner import scan
from service.serving.recording import records_of
from service.serving.router import Router, Target

CALLER = Caller("request-1", Principal("anna"), arrived=0.0, timeout=None, key="from-the-header")


@pytest.fixture
def target(root: Path) -> Target:
    return Router(scan([root], {"rent": {"champion": 1}})).choose(Address("rent"))


def test_a_record_says_what_was_answered_by_which_weights_to_whom(target: Target) -> None:
    (record,) = records_of(
        ["id-1"], [{"value": 600.0}], target, PredictParameters(tags={"country": "DE"}), CALLER, 0.25
    )
    assert (record.id, record.model, record.version) == ("id-1", "rent", 1)
    assert record.digest == target.manifest.digest
    assert record.outputs == {"value": 600.0}
    assert (record.latency, record.principal, record.request_id) == (0.25, "anna", "request-1")
    assert record.tags == {"country": "DE"}


def test_each_prediction_has_a_record_with_the_callers_own_id(target: Target) -> None:
    wanted = PredictParameters(external_ids=("order-1", "order-2"))
    records = list(records_of(["id-1", "id-2"], [{"value": 1.0}, {"value": 2.0}], target, wanted, CALLER, 0.25))
    assert [(record.id, record.external_id) for record in records] == [("id-1", "order-1"), ("id-2", "order-2")]
    assert [record.outputs for record in records] == [{"value": 1.0}, {"value": 2.0}]


def test_without_ids_of_the_callers_own_there_is_none(target: Target) -> None:
    (record,) = records_of(["id-1"], [{"value": 1.0}], target, PredictParameters(), CALLER, 0.25)
    assert record.external_id is None


@pytest.mark.parametrize(("in_body", "kept"), [("from-the-body", "from-the-body"), (None, "from-the-header")])
def test_the_bodys_key_counts_before_the_headers(target: Target, in_body: str | None, kept: str) -> None:
    (record,) = records_of(["id-1"], [{"value": 1.0}], target, PredictParameters(key=in_body), CALLER, 0.25)
    assert record.key == kept


def test_what_a_caller_asked_for_besides_is_not_kept_nor_are_vectors(target: Target) -> None:
    everything = {"label": "bag", "index": 1, "probability": 0.5, "top": [], "probabilities": {}, "embedding": [1.0]}
    (record,) = records_of(["id-1"], [everything], target, PredictParameters(), CALLER, 0.25)
    assert record.outputs == {"label": "bag", "index": 1, "probability": 0.5}
