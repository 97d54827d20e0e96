"""Whatever is wrong with an inference request is said before anything is queued, and takes no memory."""

import tracemalloc

import httpx
import pytest

from tests.service.api.inference.support import error_of, infer, infer_path, tensor
from tests.service.api.inference.wrong_requests import LIES, WRONG, Wrong
from tests.service.api.support import MAX_BODY_BYTES, CountingEngine


async def send(client: httpx.AsyncClient, wrong: Wrong) -> httpx.Response:
    path = infer_path(wrong.model)
    if isinstance(wrong.body, bytes):
        return await client.post(path, content=wrong.body, headers=wrong.headers)
    return await client.post(path, json=wrong.body, headers=wrong.headers)


@pytest.mark.parametrize("wrong", WRONG, ids=[wrong.name for wrong in WRONG])
async def test_what_is_wrong_is_said(client: httpx.AsyncClient, engine: CountingEngine, wrong: Wrong) -> None:
    response = await send(client, wrong)
    assert error_of(response)[: len(wrong.says)] == wrong.says
    assert response.status_code == wrong.status
    assert not engine.calls


async def test_lies_about_sizes_take_no_memory(client: httpx.AsyncClient) -> None:
    for wrong in LIES:
        await send(client, wrong)
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for wrong in LIES:
            await send(client, wrong)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak - before < 4 << 20


@pytest.mark.parametrize("version", ["7", "nobody", "01"])
async def test_a_version_that_isnt_there(client: httpx.AsyncClient, version: str) -> None:
    response = await infer(client, "clothes", [tensor("image", "BYTES", [1], ["x"])], version=version)
    assert response.status_code == 404
    assert repr(version) in error_of(response)


async def test_a_body_that_is_too_large(client: httpx.AsyncClient) -> None:
    response = await client.post(infer_path("mood"), content=bytes(MAX_BODY_BYTES + 1))
    assert response.status_code == 413
    assert error_of(response) == f"body: the body is too large; expected at most {MAX_BODY_BYTES} bytes"


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
async def test_another_method(client: httpx.AsyncClient, method: str) -> None:
    response = await client.request(method, infer_path("mood"))
    assert response.status_code == 405
    assert error_of(response) == "Method Not Allowed"


@pytest.mark.parametrize("path", ["/v2/nothing", "/v2/models/mood/nothing", "/v2/health"])
async def test_a_path_that_isnt_there(client: httpx.AsyncClient, path: str) -> None:
    response = await client.get(path)
    assert response.status_code == 404
    assert error_of(response) == "there is nothing at this path; /docs shows what there is"


async def test_a_malformed_request_id(client: httpx.AsyncClient) -> None:
    response = await client.post(infer_path("mood"), content=b"{}", headers={"X-Request-Id": "a b"})
    assert response.status_code == 400
    assert error_of(response).startswith("X-Request-Id: the id is malformed")


async def test_a_failure_of_ours_is_told_in_the_same_form(client: httpx.AsyncClient, engine: CountingEngine) -> None:
    engine.error = RuntimeError("our fault")
    response = await infer(client, "mood", [tensor("text", "BYTES", [1], ["good"])])
    assert response.status_code == 500
    assert error_of(response) == "the service failed on this request; its log has the reason"
