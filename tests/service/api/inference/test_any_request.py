"""Whatever is sent, the service has an answer of its own: right or wrong, but never that it failed."""

import json
from typing import Any

import httpx
from fastapi import FastAPI
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.service.api.inference.support import DTYPES, LENGTH, error_of, infer_path
from tests.service.api.support import CountingEngine, send

MODELS = st.sampled_from(["clothes", "codes", "mood", "motion", "rent", "sensors", "thumbnails"])
MANY = settings(max_examples=120, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
NAMES = st.sampled_from(["input", "text", "image", "columns", "logits", "label", "value"]) | st.text(max_size=3)
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8)
)
VALUES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
)
PARAMETERS = st.dictionaries(
    st.sampled_from(
        [
            "binary_data",
            "binary_data_output",
            "binary_data_size",
            "classification",
            "priority",
            "sequence_id",
            "shared_memory_region",
            "timeout",
            "x",
        ]
    ),
    LEAVES | VALUES | st.integers(0, 40),
    max_size=2,
)
TENSORS = st.fixed_dictionaries(
    {"name": NAMES},
    optional={
        "datatype": st.sampled_from([*DTYPES, "BF16", "BYTES"]) | LEAVES,
        "shape": st.lists(st.integers(-1, 4) | st.integers(-(2**70), 2**62) | LEAVES, max_size=4) | VALUES,
        "data": st.lists(st.integers(0, 9) | LEAVES, max_size=12) | VALUES,
        "parameters": PARAMETERS | VALUES,
    },
)
DOCUMENTS = (
    st.fixed_dictionaries(
        {"inputs": st.lists(TENSORS | VALUES, max_size=2)},
        optional={"parameters": PARAMETERS, "id": LEAVES, "outputs": st.lists(TENSORS | VALUES, max_size=2)},
    )
    | VALUES
)


def check(response: httpx.Response, engine: CountingEngine) -> None:
    asked = len(engine.calls)
    engine.calls.clear()
    if response.status_code == 200:
        assert asked == 1
        return
    assert error_of(response)
    if response.status_code == 504:  # it asked for less time than it takes to be read
        return
    assert response.status_code in (400, 501)
    assert asked == 0


@MANY
@given(MODELS, DOCUMENTS)
def test_any_json(app: FastAPI, engine: CountingEngine, model: str, document: Any) -> None:
    check(send(app, infer_path(model), json.dumps(document).encode(), {}), engine)


@MANY
@given(MODELS, DOCUMENTS, st.binary(max_size=60), st.none() | st.integers(-2, 200))
def test_any_bytes_behind_it(
    app: FastAPI, engine: CountingEngine, model: str, document: Any, rest: bytes, length: int | None
) -> None:
    text = json.dumps(document).encode()
    check(send(app, infer_path(model), text + rest, {LENGTH: str(len(text) if length is None else length)}), engine)


@MANY
@given(MODELS, st.binary(max_size=80), st.sampled_from(["0", "5", "", "x"]), st.sampled_from(["gzip", "deflate", ""]))
def test_any_bytes(app: FastAPI, engine: CountingEngine, model: str, content: bytes, length: str, packed: str) -> None:
    headers = {LENGTH: length} | ({"Content-Encoding": packed} if packed else {})
    check(send(app, infer_path(model), content, headers), engine)
