"""What is answered where a prediction, or the whole request, came to nothing."""

import math

import httpx
import pytest
from fastapi import FastAPI
from starlette.types import Message

from service.api.deps import Services
from service.domain import Ref
from service.errors import BrokenContract, DeadlineExceeded, EngineLost, NotReady, PredictionFailed, QueueFull
from tests.service.api.support import MAX_BUFFERED_BYTES, CountingEngine, answer, problem_of
from tests.service.api.wrong_input import MOOD

REF = Ref("mood", 1)


async def test_a_row_that_failed_says_so_in_its_place(client: httpx.AsyncClient, engine: CountingEngine) -> None:
    engine.failures = {1: "the network's answer for this row is not finite"}
    body = await answer(client, MOOD, ["good", "bad", "film"])
    assert body["predictions"][1] == {
        "error": {"type": "prediction_failed", "detail": "the network's answer for this row is not finite"}
    }
    # Neighbours have the answers of their own rows.
    assert [body["predictions"][row]["probability"] for row in (0, 2)] == [0.5, pytest.approx(1 / (1 + math.exp(-2)))]


async def test_when_all_rows_failed_the_request_did(client: httpx.AsyncClient, engine: CountingEngine) -> None:
    engine.failures = {0: "the network failed on this row", 1: "the network failed on this row"}
    problem = problem_of(await client.post(MOOD, json={"instances": ["good", "bad"]}))
    assert problem["status"] == 500
    assert problem["type"] == "urn:servoloop:problem:prediction-failed"
    assert problem["detail"] == "mood/1 could not compute this: the network failed on this row"


@pytest.mark.parametrize(
    ("error", "kind", "detail"),
    [
        (QueueFull(REF, queued=512, limit=512), "queue-full", "mood/1 has 512 rows waiting, the limit is 512"),
        (NotReady(REF, "its engine is starting"), "not-ready", "mood/1 is not ready: its engine is starting"),
        (
            EngineLost(REF),
            "engine-lost",
            "the engine that was computing mood/1 stopped, and the request could not be sent again",
        ),
    ],
)
async def test_what_may_work_later_says_when(
    client: httpx.AsyncClient, engine: CountingEngine, error: Exception, kind: str, detail: str
) -> None:
    engine.error = error
    response = await client.post(MOOD, json={"instances": ["good"]})
    problem = problem_of(response)
    assert (problem["status"], problem["detail"]) == (503, detail)
    assert problem["type"] == f"urn:servoloop:problem:{kind}"
    assert response.headers["retry-after"] == "1"


async def test_an_answer_that_is_too_late_is_504(client: httpx.AsyncClient, engine: CountingEngine) -> None:
    engine.error = DeadlineExceeded(REF, "the queue")
    problem = problem_of(await client.post(MOOD, json={"instances": ["good"]}))
    assert problem["status"] == 504
    assert problem["type"] == "urn:servoloop:problem:deadline-exceeded"
    assert problem["detail"] == "mood/1 did not answer within the request's time, which ran out in the queue"


@pytest.mark.parametrize(
    "error", [RuntimeError("a secret in /etc/passwd"), PredictionFailed(REF, "the engine failed")], ids=type
)
async def test_failures_of_ours_name_no_insides(
    client: httpx.AsyncClient, engine: CountingEngine, error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    engine.error = error
    response = await client.post(MOOD, json={"instances": ["good"]}, headers={"X-Request-Id": "abc"})
    problem = problem_of(response)
    assert problem["status"] == 500
    assert problem["request_id"] == "abc"
    assert "secret" not in response.text
    assert "Traceback" not in response.text
    assert any(record.levelname == "ERROR" for record in caplog.records)


async def test_a_broken_contract_between_our_processes_is_our_failure(
    client: httpx.AsyncClient, engine: CountingEngine
) -> None:
    engine.error = BrokenContract("rows of an answer", expected=1, got=2)
    problem = problem_of(await client.post(MOOD, json={"instances": ["good"]}))
    assert problem["status"] == 500


async def test_a_client_that_leaves_before_its_body_is_whole_is_no_crash(
    app: FastAPI, engine: CountingEngine, caplog: pytest.LogCaptureFixture
) -> None:
    messages: list[Message] = [
        {"type": "http.request", "body": b'{"instances": [', "more_body": True},
        {"type": "http.disconnect"},
    ]

    async def receive() -> Message:
        return messages.pop(0)

    async def send(message: Message) -> None:
        pass

    headers = [(b"content-type", b"application/json")]
    scope = {"type": "http", "method": "POST", "path": MOOD, "headers": headers, "query_string": b""}
    with caplog.at_level("INFO"):
        await app(scope, receive, send)
    assert engine.calls == []
    assert [record.levelname for record in caplog.records if record.name.startswith("servoloop")] == ["INFO"]


async def test_bodies_that_fill_the_memory_for_bodies_are_refused_until_others_are_answered(
    client: httpx.AsyncClient, services: Services
) -> None:
    services.bodies.take(MAX_BUFFERED_BYTES - 10)
    response = await client.post(MOOD, json={"instances": ["good"]})
    problem = problem_of(response)
    assert (problem["status"], problem["type"]) == (503, "urn:servoloop:problem:buffers-full")
    assert response.headers["retry-after"] == "1"
    services.bodies.give_back(MAX_BUFFERED_BYTES - 10)
    assert (await client.post(MOOD, json={"instances": ["good"]})).status_code == 200
    assert services.bodies.held == 0
