from typing import Any

import pytest

from service.domain import PredictParameters
from service.errors import UnprocessableInput
from service.serving.parameters import from_json, from_query, refuse_query


def fault(read: Any, value: Any) -> UnprocessableInput:
    with pytest.raises(UnprocessableInput) as raised:
        read(value)
    return raised.value


@pytest.mark.parametrize("value", [None, {}])
def test_nothing_is_asked_for_unless_said(value: Any) -> None:
    assert from_json(value) == PredictParameters()
    assert from_query([]) == PredictParameters()


EVERYTHING = PredictParameters(
    top_k=3,
    priority=2,
    return_probabilities=True,
    timeout=1.5,
    key="user-7",
    tags={"country": "DE"},
    external_ids=("order-1",),
)


def test_all_are_read_from_json() -> None:
    value = {
        "top_k": 3,
        "priority": 2,
        "return_probabilities": True,
        "timeout_ms": 1500,
        "key": "user-7",
        "tags": {"country": "DE"},
        "external_ids": ["order-1"],
    }
    assert from_json(value) == EVERYTHING


def test_all_are_read_from_a_query() -> None:
    query = {
        "top_k": "3",
        "priority": "2",
        "return_probabilities": "true",
        "timeout_ms": "1500",
        "key": "user-7",
        "tags.country": "DE",
        "external_id": "order-1",
    }
    assert from_query(list(query.items())) == EVERYTHING


@pytest.mark.parametrize(
    ("text", "value"), [("true", True), ("True", True), ("1", True), ("false", False), ("0", False)]
)
def test_a_query_spells_booleans_in_words_or_digits(text: str, value: bool) -> None:
    assert from_query([("return_probabilities", text)]).return_probabilities is value


@pytest.mark.parametrize(
    ("value", "field"),
    [
        ({"top_k": 0}, "parameters.top_k"),
        ({"top_k": 1001}, "parameters.top_k"),
        ({"top_k": "3"}, "parameters.top_k"),
        ({"top_k": 3.0}, "parameters.top_k"),
        ({"top_k": True}, "parameters.top_k"),
        ({"return_probabilities": 1}, "parameters.return_probabilities"),
        ({"return_probabilities": "yes"}, "parameters.return_probabilities"),
        ({"timeout_ms": 0}, "parameters.timeout_ms"),
        ({"timeout_ms": -5}, "parameters.timeout_ms"),
        ({"timeout_ms": "100"}, "parameters.timeout_ms"),
        ({"priority": -1}, "parameters.priority"),
        ({"priority": 10}, "parameters.priority"),
        ({"priority": 1.5}, "parameters.priority"),
        ({"priority": None}, "parameters.priority"),
        ({"key": ""}, "parameters.key"),
        ({"key": "a\nb"}, "parameters.key"),
        ({"key": "nul\0"}, "parameters.key"),
        ({"key": "x\n"}, "parameters.key"),
        ({"key": "x" * 257}, "parameters.key"),
        ({"key": 7}, "parameters.key"),
        ({"tags": {"a": 1}}, "parameters.tags.a"),
        ({"tags": {"": "x"}}, "parameters.tags."),
        ({"tags": {f"t{i}": "x" for i in range(33)}}, "parameters.tags"),
        ({"tags": ["a"]}, "parameters.tags"),
        ({"external_ids": "order-1"}, "parameters.external_ids"),
        ({"external_ids": ["a", ""]}, "parameters.external_ids.1"),
        ({"external_ids": ["a", None]}, "parameters.external_ids.1"),
    ],
)
def test_a_wrong_value_is_named(value: Any, field: str) -> None:
    error = fault(from_json, value)
    assert error.field == field
    assert error.problem
    assert error.expected


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({"top_k": "three"}, "query.top_k"),
        ({"top_k": "9" * 5000}, "query.top_k"),
        ({"priority": "1.5"}, "query.priority"),
        ({"priority": "high"}, "query.priority"),
        ({"top_k": "1_0"}, "query.top_k"),
        ({"top_k": "\N{ARABIC-INDIC DIGIT THREE}"}, "query.top_k"),
        ({"timeout_ms": "1_0.5"}, "query.timeout_ms"),
        ({"timeout_ms": "nan"}, "query.timeout_ms"),
        ({"timeout_ms": "inf"}, "query.timeout_ms"),
        ({"timeout_ms": "1e999"}, "query.timeout_ms"),
        ({"return_probabilities": "yes"}, "query.return_probabilities"),
        ({"tags.a": ""}, "query.tags.a"),
        ({"external_id": "\0"}, "query.external_ids.0"),
    ],
)
def test_a_wrong_value_in_a_query_is_named(query: dict[str, str], field: str) -> None:
    error = fault(from_query, list(query.items()))
    assert error.field == field
    assert error.expected


def test_a_query_names_an_id_for_each_row() -> None:
    assert from_query([("external_id", "a"), ("external_id", "b")]).external_ids == ("a", "b")


def test_a_parameter_that_comes_twice_is_refused() -> None:
    assert fault(from_query, [("top_k", "1"), ("top_k", "2")]).field == "query.top_k"


def test_beside_a_json_body_no_query_is_read() -> None:
    refuse_query([])
    error = fault(refuse_query, [("top_k", "abc"), ("foo", "1")])
    assert (error.field, error.expected) == ("query.top_k", 'it in "parameters" of the body')


@pytest.mark.parametrize(
    ("read", "field", "names"),
    [(from_json, "parameters.topk", "tags, external_ids"), (from_query, "query.topk", "tags.<name>, external_id")],
)
def test_a_parameter_that_does_not_exist_is_refused_with_those_that_do(read: Any, field: str, names: str) -> None:
    error = fault(read, {"topk": "3"} if read is from_json else [("topk", "3")])
    assert (error.field, error.problem) == (field, "there is no such parameter")
    assert error.expected == f"one of top_k, return_probabilities, timeout_ms, priority, key, {names}"


@pytest.mark.parametrize("value", [[], "top_k", 3, True, [["top_k", 3]]])
def test_parameters_are_an_object(value: Any) -> None:
    error = fault(from_json, value)
    assert (error.field, error.problem) == ("parameters", "this is no object")
    assert "Parameters" not in str(error)
