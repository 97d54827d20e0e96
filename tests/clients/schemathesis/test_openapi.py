"""Every operation answers as the service's own /openapi.json says, whatever it is sent."""

import os
import struct
import zlib
from typing import Any

import pytest
import schemathesis
from hypothesis import settings
from hypothesis import strategies as st
from schemathesis.config import SchemathesisConfig
from schemathesis.core import NOT_SET

from tests.clients.support import image, picture

THERE = {
    "model": ["clothes", "mood", "sensors", "codes", "motion", "rent", "fashion", "sentiment"],
    "version": ["1", "champion"],
    "alias": ["champion", "trial"],
}
_MOST_OF_A_PAGE = 1000
# What is deleted is asked for nothing else; the shipped one can't be.
DELETED = {"model": ["thumbnails", "fashion"], "version": ["1", "2"]}
CONFIG = SchemathesisConfig.from_dict(
    {
        "seed": 1,
        # The same requests each time, whatever was answered before: ids and times are new in every run.
        "generation": {"deterministic": True},
        "phases": {"fuzzing": {"extra-data-sources": {"responses": False}, "error-feedback": {"enabled": False}}},
        "checks": {"not_a_server_error": {"expected-statuses": ["2xx", "3xx", "4xx", 501, 503, 504]}},
        # Texts of any kind name nothing that is there.
        "dictionaries": {
            **{name: {"values": values} for name, values in THERE.items()},
            **{f"deleted {name}": {"values": values} for name, values in DELETED.items()},
        },
        "parameters": {f"path.{name}": {"dictionary": name, "probability": 0.7} for name in THERE},
        "operations": [
            {
                "include-name": "DELETE /v1/models/{model}",
                "parameters": {"path.model": {"dictionary": "deleted model", "probability": 0.7}},
            },
            {
                "include-name": "DELETE /v1/models/{model}/versions/{version}",
                "parameters": {"path.version": {"dictionary": "deleted version", "probability": 0.7}},
            },
            {
                "include-path-regex": "/(predict|infer)$",
                # What a row has to be is the model's affair, which OpenAPI can't tell.
                "checks": {"positive_data_acceptance": {"enabled": False}},
            },
            {
                "include-name": "POST /v1/models/{model}/evaluations",
                # Nor what its labels are.
                "checks": {"positive_data_acceptance": {"enabled": False}},
            },
            {
                "include-name": "POST /v1/feedback",
                # Some fields need one another, others keep one another out, and an id says by itself which kind it is.
                "checks": {
                    "positive_data_acceptance": {"expected-statuses": ["2xx", 409, 422]},
                    # Of several items each has a status of its own.
                    "negative_data_rejection": {"expected-statuses": [200, 400, 409, 415, 422]},
                },
            },
            {
                "include-name": "GET /v1/models/{model}/evaluation",
                # A window has to end after it begins.
                "checks": {"positive_data_acceptance": {"expected-statuses": ["2xx", 404, 422]}},
            },
            {
                "include-path-regex": "/load$",
                # float16 needs a GPU; and of `replicas` JSON Schema says that 2.0 is a whole number.
                "checks": {"positive_data_acceptance": {"expected-statuses": ["2xx", 404, 409, 422, 501, 503]}},
            },
        ],
    }
)


def npy(*numbers: float) -> bytes:
    """A file of numpy: one row of float32."""
    head = f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({len(numbers)},), }}".ljust(117) + "\n"
    return (
        b"\x93NUMPY\x01\x00" + struct.pack("<H", len(head)) + head.encode() + struct.pack(f"<{len(numbers)}f", *numbers)
    )


schemathesis.openapi.media_type("application/x-npy", st.sampled_from([npy(1, 2, 3, 4), npy(1)]) | st.binary())
schemathesis.openapi.media_type("application/x-ndjson", st.just(b'{"label": "a"}\n') | st.binary())
schema = schemathesis.openapi.from_url(os.environ["E2E_URL"] + "/openapi.json", config=CONFIG)


@schema.hook
def map_case(_: Any, case: schemathesis.Case) -> schemathesis.Case:
    """Name what is there in the cases of single mutations, too, which know no dictionaries.

    What is asked for is a page, which has fewer rows than a file may have: OpenAPI has one limit for both.
    """
    limit = (case.query or {}).get("limit")
    if isinstance(limit, int) and limit > _MOST_OF_A_PAGE:
        case.query["limit"] = _MOST_OF_A_PAGE
    for name, values in (THERE | DELETED if case.method == "DELETE" else THERE).items():
        if case.path_parameters.get(name) == "0":
            sent = repr((case.method, case.query, None if case.body is NOT_SET else case.body))
            case.path_parameters[name] = values[zlib.crc32(sent.encode()) % len(values)]
    return case


def tensor(name: str, datatype: str, shape: list[int], data: list[Any]) -> dict[str, Any]:
    """A request of the Open Inference Protocol."""
    return {"inputs": [{"name": name, "datatype": datatype, "shape": shape, "data": data}]}


PREDICT, INFER = "/v1/models/{model}/predict", "/v2/models/{model}/infer"
VERSION, LOAD = "/v1/models/{model}/versions/{version}", "/v2/repository/models/{model}/load"
TEXT = tensor("text", "BYTES", [1, 1], ["a good film"])
OCTETS = {"parameters": {"binary_data_output": True}}
ALL = {"parameters": {"top_k": 2, "return_probabilities": True}}
RIGHT = [
    ("POST", PREDICT, {"model": "clothes"}, {"instances": [image(picture())], **ALL}, 200),
    ("POST", PREDICT, {"model": "mood"}, {"instances": ["a good film"], **ALL}, 200),
    ("POST", PREDICT, {"model": "sensors"}, {"instances": [[1, 2, 3, 4]], **ALL}, 200),
    ("POST", PREDICT, {"model": "codes"}, {"instances": [[1, 2, 3, 4]], **ALL}, 200),
    ("POST", PREDICT, {"model": "motion"}, {"instances": [[[1, 2, 3]]]}, 200),
    ("POST", PREDICT, {"model": "rent"}, {"instances": [{"columns": {"area": 90, "rooms": 4}}]}, 200),
    ("POST", PREDICT, {"model": "sentiment"}, {"instances": ["a"], "parameters": {"timeout_ms": 0.001}}, 504),
    ("POST", INFER, {"model": "mood"}, TEXT, 200),
    ("POST", INFER, {"model": "mood"}, TEXT | OCTETS, 200),
    ("POST", INFER, {"model": "sensors"}, tensor("input", "FP32", [1, 4], [1, 2, 3, 4]), 200),
    ("POST", INFER, {"model": "codes"}, tensor("input", "INT64", [1, 4], [1, 2, 3, 4]), 200),
    ("POST", INFER, {"model": "motion"}, tensor("input", "FP32", [1, 1, 3], [1, 2, 3]), 200),
    ("POST", INFER, {"model": "rent"}, tensor("columns", "FP64", [1, 2], [90, 4]), 200),
    ("POST", INFER, {"model": "mood"}, {**TEXT, "parameters": {"timeout": 1}}, 504),
    ("POST", INFER, {"model": "mood"}, {**TEXT, "parameters": {"sequence_id": 1}}, 501),
    ("POST", "/v2/models/{model}/versions/{version}/infer", {"model": "mood", "version": "1"}, TEXT, 200),
    ("POST", LOAD, {"model": "mood"}, {"parameters": {"config": "{}"}}, 501),
    ("POST", f"{VERSION}/unload", {"model": "clothes", "version": "2"}, {}, 200),
    ("GET", "/v2/models/{model}/versions/{version}/ready", {"model": "clothes", "version": "2"}, None, 503),
    ("POST", f"{VERSION}/load", {"model": "clothes", "version": "2"}, {"pinned": True}, 200),
    ("DELETE", VERSION, {"model": "clothes", "version": "2"}, None, 200),
]


@pytest.mark.parametrize(("method", "path", "names", "body", "status"), RIGHT)
def test_what_is_asked_rightly_is_answered_as_documented(
    method: str, path: str, names: dict[str, str], body: dict[str, Any] | None, status: int
) -> None:
    sent = {} if body is None else {"body": body, "media_type": "application/json"}
    case = schema[path][method].Case(path_parameters=names, **sent)
    response = case.call()
    assert response.status_code == status, response.text
    case.validate_response(response)


@schema.parametrize()
@settings(max_examples=60, deadline=None)
def test_it_answers_as_documented(case: schemathesis.Case) -> None:
    case.call_and_validate(timeout=70)
