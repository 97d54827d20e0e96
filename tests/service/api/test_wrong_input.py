"""Wrong input is answered with what was wrong, where, and what was expected, before the engine hears of it."""

import json
from collections.abc import AsyncIterator

import httpx
import pytest

from tests.service.api.support import MAX_BODY_BYTES, CountingEngine, problem_of
from tests.service.api.wrong_input import CLOTHES, JSON_TYPE, MOOD, TABLE, Case

CASES = [pytest.param(case, id=f"{about}: {case.name}") for about, cases in TABLE.items() for case in cases]


@pytest.mark.parametrize("case", CASES)
async def test_wrong_input_is_explained_and_never_reaches_the_engine(
    client: httpx.AsyncClient, engine: CountingEngine, case: Case
) -> None:
    content = case.body if isinstance(case.body, bytes) else json.dumps(case.body).encode()
    content_type = {} if case.content_type is None else {"Content-Type": case.content_type}
    response = await client.post(case.path, content=content, headers={**content_type, **case.headers})

    problem = problem_of(response)
    assert case.is_told_by(problem["detail"]), (problem["detail"], case.detail)
    assert (response.status_code, problem.get("field")) == (case.status, case.field)
    assert problem.get("expected") == case.expected
    assert engine.calls == []


async def test_a_body_is_counted_while_it_streams_in_and_no_further(
    client: httpx.AsyncClient, engine: CountingEngine
) -> None:
    read = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal read
        while True:
            read += 10_000
            yield bytes(10_000)

    response = await client.post(MOOD, content=endless(), headers={"Content-Type": JSON_TYPE})
    assert problem_of(response)["detail"] == f"body: the body is too large; expected at most {MAX_BODY_BYTES} bytes"
    assert response.status_code == 413
    assert read <= MAX_BODY_BYTES + 20_000
    assert engine.calls == []


async def test_a_body_that_says_it_is_too_large_is_not_read(client: httpx.AsyncClient, engine: CountingEngine) -> None:
    async def forbidden() -> AsyncIterator[bytes]:
        raise AssertionError("the body was read")
        yield b""

    headers = {"Content-Type": JSON_TYPE, "Content-Length": str(MAX_BODY_BYTES + 1)}
    response = await client.post(MOOD, content=forbidden(), headers=headers)
    assert problem_of(response)["status"] == 413
    assert engine.calls == []


async def test_an_unknown_model_is_refused_before_the_body_is_read(client: httpx.AsyncClient) -> None:
    async def forbidden() -> AsyncIterator[bytes]:
        raise AssertionError("the body was read")
        yield b""

    response = await client.post("/v1/models/nobody/predict", content=forbidden())
    assert problem_of(response)["status"] == 404


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", CLOTHES, "POST"),
        ("DELETE", "/v1/models", "GET"),
        ("POST", "/readyz", "GET, HEAD"),
        ("PUT", "/v1/models/clothes", "DELETE, GET"),
        ("OPTIONS", "/v1/models/clothes/versions/1", "DELETE, GET"),
        ("POST", "/openapi.json", "GET, HEAD"),
    ],
)
async def test_another_method_is_refused_with_those_that_are_allowed(
    client: httpx.AsyncClient, method: str, path: str, allowed: str
) -> None:
    response = await client.request(method, path)
    assert problem_of(response)["status"] == 405
    assert ", ".join(sorted(response.headers["allow"].split(", "))) == allowed


@pytest.mark.parametrize("path", ["/", "/v1", "/v1/models/clothes/versions", "/v1/models/../../etc/passwd"])
async def test_a_path_that_leads_nowhere_is_a_problem_too(client: httpx.AsyncClient, path: str) -> None:
    assert problem_of(await client.get(path))["status"] == 404
