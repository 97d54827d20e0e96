"""Whatever is sent, the service has an answer of its own: right or wrong, but never that it failed."""

import io
import struct
from typing import Any

import httpx
import numpy as np
import orjson
from fastapi import FastAPI
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays, scalar_dtypes
from PIL import Image

from tests.service.api.support import CountingEngine, send
from tests.service.api.wrong_input import CLOTHES, CODES, MOOD, MOTION, RENT, SENSORS, THUMBNAILS

PATHS = st.sampled_from([CLOTHES, CODES, MOOD, MOTION, RENT, SENSORS, THUMBNAILS])
MANY = settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])

NOISE = np.random.default_rng(0).integers(0, 256, (24, 24, 3), np.uint8)
KEYS = st.sampled_from(
    ["values", "image", "text", "columns", "area", "rooms", "instances", "parameters", "top_k", "tags", "key"]
)
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=12)
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(KEYS | st.text(max_size=3), inner, max_size=3),
    max_leaves=30,
)
PARAMETERS = st.dictionaries(
    st.sampled_from(["top_k", "return_probabilities", "timeout_ms", "key", "tags", "external_ids"]),
    LEAVES | VALUES,
    max_size=3,
)
DOCUMENTS = (
    st.fixed_dictionaries({"instances": st.lists(VALUES, max_size=10)}, optional={"parameters": PARAMETERS}) | VALUES
)


@st.composite
def npy_files(draw: st.DrawFn) -> bytes:
    """Files of arrays, and files whose header says what it likes."""
    if draw(st.booleans()):
        file = io.BytesIO()
        np.save(
            file, draw(arrays(scalar_dtypes(), array_shapes(min_dims=0, max_dims=4, max_side=5))), allow_pickle=False
        )
        return file.getvalue()
    descr = draw(
        st.sampled_from(
            ["'<f4'", "'|O'", "'<U3'", "()", "[]", "[('a', '<f4')]", "('<f4', 3)", "'M8[s]'", "None", "7", "'f99'"]
        )
    )
    shape = draw(
        st.lists(st.integers(-2, 2**70) | st.integers(0, 4), max_size=5).map(tuple)
        | st.sampled_from(["4", "None", "(True,)", "(1.5,)", "'x'"])
    )
    text = draw(
        st.just(f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}}}") | st.text(max_size=40)
    ).encode("latin-1", "replace")
    version = draw(st.sampled_from([1, 2, 3, 9]))
    length = struct.pack("<H" if version == 1 else "<I", draw(st.just(len(text)) | st.integers(0, 65535)))
    return b"\x93NUMPY" + bytes([version, 0]) + length + text + draw(st.binary(max_size=64))


@st.composite
def damaged_pictures(draw: st.DrawFn) -> tuple[str, bytes]:
    form = draw(st.sampled_from(["PNG", "JPEG", "WEBP"]))
    file = io.BytesIO()
    Image.fromarray(NOISE).convert(draw(st.sampled_from(["L", "RGB"]))).save(file, form)
    data = bytearray(file.getvalue())
    for _ in range(draw(st.integers(0, 6))):
        data[draw(st.integers(0, len(data) - 1))] = draw(st.integers(0, 255))
    return f"image/{form.lower()}", bytes(data[: draw(st.integers(1, len(data)))])


def check(response: httpx.Response, engine: CountingEngine) -> None:
    asked = len(engine.calls)
    engine.calls.clear()
    if response.status_code == 200:
        assert asked == 1
        return
    problem: dict[str, Any] = response.json()
    if response.status_code == 504:  # it asked for less time than it takes to be read
        assert problem["type"] == "urn:servoloop:problem:deadline-exceeded"
        return
    assert response.status_code in (400, 415, 422)
    assert response.headers["content-type"] == "application/problem+json"
    assert problem["detail"]
    assert problem["field"]
    assert asked == 0


@MANY
@given(PATHS, DOCUMENTS)
def test_any_json(app: FastAPI, engine: CountingEngine, path: str, document: Any) -> None:
    check(send(app, path, orjson.dumps(document), {"Content-Type": "application/json"}), engine)


@MANY
@given(
    PATHS, st.binary(max_size=60), st.sampled_from(["application/json", "text/plain", "application/x-npy", "image/png"])
)
def test_any_bytes(app: FastAPI, engine: CountingEngine, path: str, content: bytes, content_type: str) -> None:
    check(send(app, path, content, {"Content-Type": content_type}), engine)


@MANY
@given(PATHS.filter(lambda path: path != MOOD), npy_files())
def test_any_array(app: FastAPI, engine: CountingEngine, path: str, content: bytes) -> None:
    check(send(app, path, content, {"Content-Type": "application/x-npy"}), engine)


@MANY
@given(st.sampled_from([CLOTHES, THUMBNAILS]), damaged_pictures())
def test_any_picture(app: FastAPI, engine: CountingEngine, path: str, picture: tuple[str, bytes]) -> None:
    content_type, content = picture
    check(send(app, path, content, {"Content-Type": content_type}), engine)


@MANY
@given(
    st.text(max_size=30),
    st.dictionaries(st.sampled_from(["top_k", "timeout_ms", "key", "tags.a", "external_id"]), st.text(max_size=12)),
)
def test_any_query(app: FastAPI, engine: CountingEngine, text: str, query: dict[str, str]) -> None:
    path = str(httpx.URL(MOOD, params=query))
    check(send(app, path, text.encode("utf-8", "replace"), {"Content-Type": "text/plain"}), engine)
