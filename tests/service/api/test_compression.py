import gzip
import zlib
from collections.abc import Callable
from typing import Any

import httpx
import numpy as np
import orjson
import pytest

from service.api.compression import accepted, decompressed
from service.api.deps import Services
from service.errors import MalformedBody
from tests.service.api.inference.support import LENGTH, binary, error_of, infer, infer_path, outputs_of, tensor
from tests.service.api.support import MAX_BODY_BYTES, CountingEngine

PACKED: dict[str, Callable[[bytes], bytes]] = {"gzip": gzip.compress, "deflate": zlib.compress}
TEXT = tensor("text", "BYTES", [1], ["a good film"])


async def unpacked(data: bytes, encoding: str) -> bytes:
    return b"".join([piece async for piece in decompressed(data, encoding)])


@pytest.mark.parametrize("encoding", PACKED)
@pytest.mark.parametrize("size", [0, 1, 1_000, 100_000, 3_000_000])
async def test_a_body_comes_out_as_it_went_in(encoding: str, size: int) -> None:
    noise = np.random.default_rng(size).integers(0, 256, size, np.uint8).tobytes()
    for data in (bytes(size), noise):
        assert await unpacked(PACKED[encoding](data), encoding) == data


@pytest.mark.parametrize("encoding", PACKED)
async def test_it_comes_in_pieces_however_little_it_was(encoding: str) -> None:
    sizes = [len(piece) async for piece in decompressed(PACKED[encoding](bytes(3_000_000)), encoding)]
    assert sum(sizes) == 3_000_000
    assert max(sizes) <= 1 << 18


@pytest.mark.parametrize("encoding", PACKED)
async def test_bytes_far_behind_the_end_are_found(encoding: str) -> None:
    """Behind the slice in which it ends."""
    noise = np.random.default_rng(0).integers(0, 256, 100_000, np.uint8).tobytes()
    for size in range(16_300, 16_390):
        packed = PACKED[encoding](noise[:size])
        if len(packed) == 16_384:
            with pytest.raises(MalformedBody, match="bytes follow behind its end"):
                await unpacked(packed + b"x", encoding)
            return
    raise AssertionError("no size makes a whole slice")


@pytest.mark.parametrize("encoding", PACKED)
@pytest.mark.parametrize(
    ("spoil", "what"),
    [
        (lambda data: data[:-1], "it ends too soon"),
        (lambda data: data[:5], "it ends too soon"),
        (lambda _: b"", "it ends too soon"),
        (lambda data: data + b"x", "bytes follow behind its end"),
        (lambda data: data + bytes(100_000), "bytes follow behind its end"),
        (lambda _: b"plain text", "it is no "),
        (lambda data: data[:-4] + b"abcd", "it is no "),
    ],
)
async def test_what_is_damaged_is_refused(encoding: str, spoil: Callable[[bytes], bytes], what: str) -> None:
    with pytest.raises(MalformedBody) as raised:
        await unpacked(spoil(PACKED[encoding](b"a good film" * 1000)), encoding)
    assert raised.value.problem.startswith(what)
    assert raised.value.expected == f"a body that is compressed as {encoding}"


@pytest.mark.parametrize(
    ("header", "encoding"),
    [
        (None, None),
        ("", None),
        ("identity", None),
        ("br", None),
        ("gzip", "gzip"),
        ("GZIP", "gzip"),
        ("deflate, gzip", "deflate"),
        ("deflate;q=0.5, gzip;q=0.9", "gzip"),
        ("br, gzip ; q=0.1", "gzip"),
        ("gzip;q=0", None),
        ("gzip;q=much", None),
        ("gzip;level=9", "gzip"),
    ],
)
def test_the_encoding_that_is_preferred_is_found(header: str | None, encoding: str | None) -> None:
    assert accepted(header) == encoding


@pytest.mark.parametrize("encoding", PACKED)
async def test_a_compressed_request_is_read(client: httpx.AsyncClient, engine: CountingEngine, encoding: str) -> None:
    rows = np.full((2, 4), 7, np.float32)
    body, headers = binary([("input", "FP32", [2, 4], rows.tobytes())])
    response = await client.post(
        infer_path("sensors"), content=PACKED[encoding](body), headers={**headers, "Content-Encoding": encoding}
    )
    outputs_of(response)
    assert np.array_equal(engine.calls[0].tensors.values, rows)


@pytest.mark.parametrize("encoding", PACKED)
async def test_a_long_answer_is_compressed_where_that_is_wanted(client: httpx.AsyncClient, encoding: str) -> None:
    inputs = [tensor("input", "FP32", [8, 1, 28, 28], [0.5] * 8 * 784)]
    plain = await infer(client, "clothes", inputs)
    packed = await client.post(
        infer_path("clothes"), content=orjson.dumps({"inputs": inputs}), headers={"Accept-Encoding": encoding}
    )
    assert packed.headers["content-encoding"] == encoding
    assert int(packed.headers["content-length"]) < len(plain.content)
    for name, values in outputs_of(plain).items():
        assert np.array_equal(outputs_of(packed)[name], values)


async def test_a_short_answer_is_left_as_it_is(client: httpx.AsyncClient) -> None:
    response = await client.post(
        infer_path("mood"), content=orjson.dumps({"inputs": [TEXT]}), headers={"Accept-Encoding": "gzip"}
    )
    assert "content-encoding" not in response.headers
    outputs_of(response)


async def test_binary_outputs_are_compressed_with_their_description(client: httpx.AsyncClient) -> None:
    body: Any = orjson.dumps(
        {
            "inputs": [tensor("input", "FP32", [8, 1, 28, 28], [0.5] * 8 * 784)],
            "parameters": {"binary_data_output": True},
        }
    )
    response = await client.post(infer_path("clothes"), content=body, headers={"Accept-Encoding": "gzip"})
    assert response.headers["content-encoding"] == "gzip"
    assert LENGTH in response.headers
    assert outputs_of(response)["logits"].shape == (8, 10)


async def test_what_unfolds_past_the_limit_is_refused_without_unfolding_it(
    client: httpx.AsyncClient, services: Services, engine: CountingEngine
) -> None:
    bomb = gzip.compress(bytes(50 * MAX_BODY_BYTES))
    assert len(bomb) < MAX_BODY_BYTES
    response = await client.post(infer_path("mood"), content=bomb, headers={"Content-Encoding": "gzip"})
    assert response.status_code == 413
    assert error_of(response) == f"body: the body is too large; expected at most {MAX_BODY_BYTES} bytes"
    assert services.bodies.held == 0
    assert not engine.calls


@pytest.mark.parametrize("encoding", ["br", "zstd", "gzip, gzip"])
async def test_another_encoding_is_refused(client: httpx.AsyncClient, encoding: str) -> None:
    response = await client.post(infer_path("mood"), content=b"x", headers={"Content-Encoding": encoding})
    assert response.status_code == 400
    assert error_of(response) == (
        f"Content-Encoding: '{encoding}' is not read; expected a body that is not compressed, or gzip, or deflate"
    )


async def test_damage_is_the_callers_to_mend(client: httpx.AsyncClient) -> None:
    response = await client.post(infer_path("mood"), content=b"plain text", headers={"Content-Encoding": "gzip"})
    assert response.status_code == 400
    assert error_of(response) == "body: it is no gzip; expected a body that is compressed as gzip"
