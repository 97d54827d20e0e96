"""Jobs: what the client asks, how it reads the answer, and how it follows one to its end."""

from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest

import servoloop
from servoloop import Job, JobEvent, JobProgress, Jobs
from tests.servoloop.support import Service, problem

ID = "0199a0c2-0000-7000-8000-000000000001"
JOB: dict[str, Any] = {
    "id": ID,
    "model": "mood",
    "kind": "retrain",
    "state": "running",
    "spec": {"full": False},
    "reason": "it drifts",
    "actor": "anonymous",
    "principal": "anonymous",
    "created": "2026-01-31T08:00:00Z",
    "started": "2026-01-31T08:00:01Z",
    "ended": None,
    "attempts": 1,
    "cancel_asked": False,
    "progress": {"phase": "training", "done": 1, "total": None, "figures": {"loss": 0.5}, "added_later": True},
    "result": None,
    "error": None,
    "added_later": True,
}
QUEUED, STARTED, DONE = (
    JobEvent(number, "2026-01-31T08:00:00Z", what, {"owner": "loop"})
    for number, what in enumerate(("queued", "started", "succeeded"), start=1)
)
PROGRESS = JobProgress("training", 1, 2, {"loss": 0.5})


def sent(*news: JobEvent | JobProgress | None, last: int = 0) -> bytes:
    """A stream of these; None is a sign of life."""
    parts = [b": what happened follows\n\n"]
    for one in news:
        match one:
            case JobEvent(number=last, time=time, what=what):
                data = f'{{"number": {last}, "time": "{time}", "what": "{what}", "details": {{"owner": "loop"}}}}'
                parts.append(f"id: {last}\nevent: log\ndata: {data}\n\n".encode())
            case JobProgress():
                data = '{"phase": "training", "done": 1, "total": 2, "figures": {"loss": 0.5}, "added_later": 1}'
                parts.append(f"id: {last}\nevent: progress\ndata: {data}\n\n".encode())
            case None:
                parts.append(b": nothing new\n\n")
    return b"".join(parts)


def stream(*news: JobEvent | JobProgress | None) -> httpx.Response:
    return httpx.Response(200, content=sent(*news))


def broken(*news: JobEvent | JobProgress | None) -> httpx.Response:
    """One that breaks off within an event."""

    def parts() -> Iterator[bytes]:
        yield sent(*news)
        yield b"id: 99\nevent: log\ndata: {}\n"
        raise httpx.ReadError("the connection broke")

    return httpx.Response(200, content=parts())


def asked_after(service: Service) -> list[str | None]:
    return [request.headers.get("Last-Event-ID") for request in service.requests]


def test_a_model_is_retrained() -> None:
    service = Service(httpx.Response(202, json={**JOB, "progress": None}))
    with service.client() as client:
        job = client.retrain("mood", epochs=3, reason="it drifts")
    assert isinstance(job, Job)
    assert (job.id, job.model, job.spec, job.progress, job.has_ended) == (ID, "mood", {"full": False}, None, False)
    [request] = service.requests
    assert (request.method, request.url.path) == ("POST", "/v1/models/mood/retrain")
    assert service.body == {"epochs": 3, "reason": "it drifts"}


def test_one_that_is_under_way_is_a_conflict_and_it_is_asked_once() -> None:
    service = Service(problem(409, "job-under-way", detail=f"under way: {ID}"))
    with service.client() as client, pytest.raises(servoloop.Conflict, match=ID):
        client.retrain("mood")
    service = Service(problem(503, "store-unavailable", detail="look before asking again"))
    with service.client() as client, pytest.raises(servoloop.Unavailable):
        client.retrain("mood")
    assert len(service.requests) == 1


def test_jobs_are_read() -> None:
    service = Service(httpx.Response(200, json=JOB))
    with service.client() as client:
        assert client.job(ID).progress == JobProgress("training", 1, None, {"loss": 0.5})
        service.outcomes = [httpx.Response(200, json={"jobs": [{**JOB, "state": "failed"}], "next_cursor": ID})]
        found = client.jobs(model="mood", states=["failed", "cancelled"], limit=1, cursor=ID)
        assert isinstance(found, Jobs)
        assert ([job.has_ended for job in found.jobs], found.next_cursor) == ([True], ID)
        client.jobs()
    paths = [request.url.raw_path.decode() for request in service.requests]
    assert paths[0] == f"/v1/jobs/{ID}"
    assert paths[1] == f"/v1/jobs?model=mood&state=failed&state=cancelled&limit=1&cursor={ID}"
    assert paths[2] == "/v1/jobs?limit=20"


@pytest.mark.parametrize("status", [200, 202])
def test_a_job_is_cancelled(status: int) -> None:
    service = Service(httpx.Response(status, json={**JOB, "cancel_asked": True}))
    with service.client() as client:
        assert client.cancel_job(ID).cancel_asked
    [request] = service.requests
    assert (request.method, request.url.path) == ("POST", f"/v1/jobs/{ID}/cancel")


def test_a_job_is_followed_to_its_end() -> None:
    service = Service(stream(QUEUED, None, STARTED, PROGRESS, DONE), httpx.Response(500))
    with service.client() as client:
        assert list(client.follow_job(ID)) == [QUEUED, STARTED, PROGRESS, DONE]
    [request] = service.requests
    assert request.url.path == f"/v1/jobs/{ID}/events"
    assert (asked_after(service), service.paused) == ([None], [])


def test_a_stream_that_breaks_off_is_taken_up_where_it_was() -> None:
    unavailable = problem(503, "store-unavailable", {"Retry-After": "7"}, detail="away")
    refused = httpx.ConnectError("refused")
    service = Service(broken(QUEUED), stream(STARTED), unavailable, refused, stream(DONE), httpx.Response(500))
    with service.client() as client:
        assert list(client.follow_job(ID)) == [QUEUED, STARTED, DONE]
    assert asked_after(service) == [None, "1", "2", "2", "2"]
    assert service.paused == [1.0, 1.0, 7.0, 1.0]


def test_a_service_that_lives_is_asked_as_long_as_it_takes() -> None:
    service = Service(*[stream()] * 5, stream(DONE), httpx.Response(500))
    with service.client(retries=1) as client:
        assert list(client.follow_job(ID)) == [DONE]


def test_one_that_lives_no_more_is_not() -> None:
    service = Service(stream(QUEUED), httpx.ConnectError("refused"))
    with service.client(retries=2) as client, pytest.raises(servoloop.ConnectionFailed):
        list(client.follow_job(ID))
    assert len(service.requests) == 4


def test_what_was_seen_to_its_end_is_over() -> None:
    service = Service(httpx.Response(204))
    with service.client() as client:
        assert list(client.follow_job(ID, after=3)) == []
    assert asked_after(service) == ["3"]


@pytest.mark.parametrize(
    ("outcome", "error", "requests"),
    [
        (httpx.ConnectError("refused"), servoloop.ConnectionFailed, 3),
        (problem(503, "store-unavailable", detail="away"), servoloop.Unavailable, 3),
        (problem(404, "unknown-job", detail="there is no job"), servoloop.NotFound, 1),
        (httpx.Response(200, content=b"id: 1\nevent: log\ndata: what\n\n"), servoloop.ApiError, 1),
        (httpx.Response(200, content=b"id: 1\nevent: log\ndata: {}\n\n"), servoloop.ApiError, 1),
        (httpx.Response(200, content=b"<html>\n"), servoloop.ConnectionFailed, 3),
    ],
)
def test_what_does_not_pass_is_said(outcome: httpx.Response | Exception, error: type[Exception], requests: int) -> None:
    service = Service(outcome)
    with service.client(retries=2) as client, pytest.raises(error):
        list(client.follow_job(ID))
    assert len(service.requests) == requests


async def test_why_it_is_not_told_is_read_as_it_comes() -> None:
    body = b'{"detail": "there is no job"}'

    async def later() -> AsyncIterator[bytes]:
        yield body

    with (
        Service(httpx.Response(404, content=iter([body]))).client() as client,
        pytest.raises(servoloop.NotFound, match="there is no job"),
    ):
        list(client.follow_job(ID))
    async with Service(httpx.Response(404, content=later())).async_client() as asynchronous:
        with pytest.raises(servoloop.NotFound, match="there is no job"):
            await anext(asynchronous.follow_job(ID))


async def test_the_asynchronous_client_has_the_same() -> None:
    service = Service(httpx.Response(202, json=JOB))
    async with service.async_client() as client:
        assert (await client.retrain("mood", full=True)).id == ID
        assert service.body == {"full": True}
        assert (await client.cancel_job(ID)).id == ID
        service.outcomes = [httpx.Response(200, json=JOB)]
        assert (await client.job(ID)).id == ID
        service.outcomes = [httpx.Response(200, json={"jobs": [JOB], "next_cursor": None})]
        assert len((await client.jobs(model="mood")).jobs) == 1
        away = problem(503, "store-unavailable", detail="away")
        service.outcomes = [stream(QUEUED), away, httpx.ConnectError("refused"), stream(STARTED, PROGRESS, DONE), away]
        assert [news async for news in client.follow_job(ID)] == [QUEUED, STARTED, PROGRESS, DONE]
    assert service.paused == [1.0, 1.0, 1.0]
