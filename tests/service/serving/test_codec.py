from typing import Any

import numpy as np
import orjson
import pytest

from service.domain import PredictParameters, Ref
from service.errors import MalformedBody, UnprocessableInput, UnsupportedMediaType
from service.serving.allowance import Allowance
from service.serving.answer import Computed
from service.serving.codec import Body, encode, media_types, parse_rows
from service.wire.inference import Outputs
from tests.service.serving.bodies import COLUMNS, GREY, PAIR, STEPS, TEXT, body, fault, npy, read

EXPECTED = '{"instances": [...]}'


# Content types


@pytest.mark.parametrize(
    ("contract", "taken"),
    [
        (GREY, ["application/json", "image/png", "image/jpeg", "image/webp", "application/x-npy"]),
        (TEXT, ["application/json", "text/plain"]),
        (COLUMNS, ["application/json", "application/x-npy"]),
        (STEPS, ["application/json", "application/x-npy"]),
    ],
)
def test_a_contract_says_in_which_types_its_rows_come(contract: Any, taken: list[str]) -> None:
    assert list(media_types(contract)) == taken
    error = fault(UnsupportedMediaType, body(b"", "application/pdf"), contract)
    assert (error.field, error.expected) == ("Content-Type", f"one of {', '.join(taken)}")
    assert error.problem == "this model does not take 'application/pdf'"


def test_a_missing_content_type_is_said_to_be_missing() -> None:
    error = fault(UnsupportedMediaType, body(b"{}", None))
    assert (error.problem, error.field) == ("there is no Content-Type", "Content-Type")
    assert error.expected == "one of application/json, text/plain"


@pytest.mark.parametrize(
    "content_type",
    [
        "application/json;",
        "Application/JSON",
        " application/json ; charset=utf-8",
        "application/json; charset=UTF-8",
        'application/json; charset="utf-8"',
        "application/json;profile=x;charset=utf8",
        "application/json; odata=verbose; charset=us-ascii",
        "application/json; profile=x",
    ],
)
def test_options_of_a_content_type_do_no_harm(content_type: str) -> None:
    assert read(body({"instances": ["a"]}, content_type)).rows == ["a"]


@pytest.mark.parametrize(
    ("options", "charset"),
    [
        ("charset=latin-1", "latin-1"),
        ("charset=UTF-16", "utf-16"),
        ('charset="X-SJIS"', "x-sjis"),
        ("profile=x;charset=utf-7", "utf-7"),
        ("charset=utf-8=x", "utf-8=x"),
        (f"charset={'y' * 1000}", "y" * 100),
    ],
)
def test_another_charset_is_refused(options: str, charset: str) -> None:
    error = fault(UnsupportedMediaType, body(b"{}", f"application/json; {options}"))
    assert (error.problem, error.field) == (f"'{charset}' is not read", "Content-Type")
    assert error.expected == "charset=utf-8"


def test_a_long_content_type_is_not_repeated_whole() -> None:
    error = fault(UnsupportedMediaType, body(b"", "x" * 100_000))
    assert error.problem == f"this model does not take '{'x' * 100}'"


# JSON


def test_instances_and_parameters_are_read() -> None:
    decoded = read(body({"instances": ["a", "b"], "parameters": {"top_k": 2}}))
    assert decoded.rows == ["a", "b"]
    assert decoded.parameters.top_k == 2


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b'{"instances": ["a"],}',
        b"{'instances': ['a']}",
        b'{"instances": [NaN]}',
        b'{"instances": [Infinity]}',
        b'{"instances": [-Infinity]}',
        b'{"instances": [1e999]}',
        b'{"instances": [' + b"9" * 400 + b"]}",
        b'{"instances": ["\xff"]}',
        b'{"instances": ["\\ud800"]}',
        b'{"instances": ["a\0b"]}',
        b'{"instances": ["a"]} {}',
        b"[" * 100_000,
        b'{"a":' * 5_000,
    ],
    ids=lambda data: data[:24].hex(),
)
def test_what_is_no_json_is_malformed(data: bytes) -> None:
    error = fault(MalformedBody, body(data))
    assert (error.field, error.expected) == ("body", EXPECTED)
    assert error.problem.startswith("this is no JSON: ")


def test_the_place_of_a_syntax_error_is_told() -> None:
    assert "character 15" in fault(MalformedBody, body(b'{"instances": [NaN]}')).problem


@pytest.mark.parametrize("document", [[], "text", 5, None, [{"instances": ["a"]}]])
def test_the_body_is_an_object(document: Any) -> None:
    error = fault(UnprocessableInput, body(document))
    assert (error.problem, error.field, error.expected) == ("this is no object", "body", EXPECTED)


@pytest.mark.parametrize(
    "document", [{}, {"instances": []}, {"instances": "a"}, {"instances": {"0": "a"}}, {"instances": None}]
)
def test_instances_are_a_filled_array(document: Any) -> None:
    error = fault(UnprocessableInput, body(document))
    assert (error.problem, error.field) == ("there are no instances", "instances")
    assert error.expected == "an array of at least one row"


def test_a_field_that_does_not_exist_is_refused() -> None:
    error = fault(UnprocessableInput, body({"instances": ["a"], "instance": ["b"]}))
    assert (error.problem, error.field) == ("there is no field 'instance'", "body")
    assert error.expected == '{"instances": [...], "parameters": {...}}'


@pytest.mark.parametrize(
    ("row", "contract"), [("a", TEXT), ([1, 2], COLUMNS), ([1, 2], PAIR), ([[1, 2], [3, 4]], GREY)]
)
def test_as_many_rows_as_are_allowed_and_no_more_are_taken(row: Any, contract: Any) -> None:
    assert len(read(body({"instances": [row] * 3}), contract).rows) == 3
    error = fault(UnprocessableInput, body({"instances": [row] * 4}), contract)
    assert (error.problem, error.field, error.expected) == ("there are 4 rows", "instances", "at most 3")


@pytest.mark.parametrize(
    ("instances", "contract"), [([[1, 2.5], [-3, 4e6], [0, 1]], PAIR), ([[[0, 255], [7, 8]]], GREY)]
)
def test_plain_numbers_are_read_at_once_and_are_the_same_as_read_one_by_one(instances: Any, contract: Any) -> None:
    said = {"top_k": 2, "external_ids": [str(index) for index in range(len(instances))]}
    at_once = parse_rows(body({"instances": instances, "parameters": said}), contract, max_rows=3)
    one_by_one = parse_rows(body({"parameters": said, "instances": instances}), contract, max_rows=3)
    assert (at_once.are_read, one_by_one.are_read) == (True, False)
    assert at_once.parameters == one_by_one.parameters
    assert at_once.parameters.top_k == 2
    first, second = (parsed.rows(Allowance(lambda: None)) for parsed in (at_once, one_by_one))
    assert isinstance(first, np.ndarray)
    assert isinstance(second, np.ndarray)
    assert first.dtype == second.dtype == np.float32
    assert first.tolist() == second.tolist()


def test_numbers_without_parameters_are_read_at_once_too() -> None:
    parsed = parse_rows(body({"instances": [[1, 2]]}), PAIR, max_rows=1)
    assert (parsed.are_read, parsed.parameters) == (True, PredictParameters())


def test_a_number_out_of_range_is_located_among_plain_ones() -> None:
    error = fault(UnprocessableInput, body({"instances": [[[0, 255], [7, 256]]]}), GREY)
    assert (error.field, error.problem) == ("instances[0][1][1]", "the value is 256")


def test_nul_in_a_text_is_a_character_like_others() -> None:
    assert read(body(b'{"instances": ["a\\u0000b"]}')).rows == ["a\0b"]


@pytest.mark.parametrize(("digits", "value"), [(30, 10**30 - 1), (38, 10**38 - 1)])
def test_long_whole_numbers_are_numbers(digits: int, value: float) -> None:
    data = b'{"instances": [[' + b"9" * digits + b", 1]]}"
    (row,) = read(body(data), COLUMNS).rows
    assert isinstance(row, np.ndarray)
    assert row[0] == pytest.approx(value, rel=1e-6)


def test_a_whole_number_of_100_digits_is_out_of_range() -> None:
    error = fault(UnprocessableInput, body(b'{"instances": [[' + b"9" * 100 + b", 1]]}"), COLUMNS)
    assert (error.field, error.problem) == ("instances[0].area", "the value is 1e+100")


@pytest.mark.parametrize("depth", [3, 64, 65, 500, 1000])
def test_deep_arrays_are_refused(depth: int) -> None:
    data = b'{"instances": ' + b"[" * depth + b"1" + b"]" * depth + b"}"
    assert fault(UnprocessableInput, body(data), COLUMNS).field.startswith("instances[0]")  # type: ignore[union-attr]


@pytest.mark.parametrize("written", [b"true", b"false"])
def test_booleans_among_numbers_are_found(written: bytes) -> None:
    error = fault(UnprocessableInput, body(b'{"instances": [[1, 2], [1, ' + written + b"]]}"), COLUMNS)
    assert (error.field, error.problem) == ("instances[1][1]", "this is a boolean")


def test_a_boolean_parameter_makes_no_number_suspect() -> None:
    sent = body({"instances": [[1, 0]], "parameters": {"return_probabilities": True}})
    assert read(sent, COLUMNS).rows.tolist() == [[1, 0]]  # type: ignore[union-attr]


# One id a row


@pytest.mark.parametrize(
    ("sent", "contract", "field"),
    [
        (body({"instances": ["a"], "parameters": {"external_ids": ["1", "2"]}}), TEXT, "parameters.external_ids"),
        (body({"instances": [[1, 2]], "parameters": {"external_ids": ["1", "2"]}}), PAIR, "parameters.external_ids"),
        (Body(b"fine", "text/plain", [("external_id", "1"), ("external_id", "2")]), TEXT, "query.external_ids"),
        (
            Body(npy(np.ones((1, 2))), "application/x-npy", [("external_id", "1"), ("external_id", "2")]),
            COLUMNS,
            "query.external_ids",
        ),
    ],
)
def test_as_many_ids_as_rows_are_needed(sent: Body, contract: Any, field: str) -> None:
    error = fault(UnprocessableInput, sent, contract)
    assert (error.field, error.problem) == (field, "there are 2 ids for 1 rows")
    assert error.expected == "one for each row"


# Which work is heavy


@pytest.mark.parametrize(
    ("sent", "contract", "heavy"),
    [
        (body(b"", "image/png"), GREY, True),
        (body(b"", " IMAGE/PNG"), GREY, True),
        (body({"instances": [{"image": "..."}]}), GREY, True),
        (body(b'{"instances": [{"\\u0069mage": "..."}]}'), GREY, True),
        (body({"instances": [{"values": [[1, 2], [3, 4]]}]}), GREY, False),
        (body(npy([[1, 2], [3, 4]]), "application/x-npy"), GREY, False),
        (body({"instances": ['an "image"']}), TEXT, False),
    ],
)
def test_pictures_are_noticed_before_they_are_decoded(sent: Body, contract: Any, heavy: bool) -> None:
    assert parse_rows(sent, contract, max_rows=3).hold_picture is heavy


# Answers


def test_an_answer_names_model_version_and_each_prediction() -> None:
    computed = Computed(Outputs(np.zeros((1, 1), np.float32), {}, 0.0, 0.0), [{"value": 1.5}], None, ["id-1"])
    answer = encode(Ref("fashion", 12), computed)
    assert (answer.media_type, answer.headers) == (b"application/json", ())
    assert orjson.loads(answer.body) == {
        "model": "fashion",
        "version": "12",
        "prediction_ids": ["id-1"],
        "predictions": [{"value": 1.5}],
    }
