"""Jobs over HTTP: asked for, looked at, followed and cancelled. What works on them is the store's owner here."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any

import httpx
import orjson
import pytest
from fastapi import FastAPI
from uuid_utils import uuid7

from service.api.app import create_app
from service.api.deps import Services
from service.api.job_events import Pace, told
from service.api.job_schemas import JobInfo, JobList
from service.api.routes.jobs import _pace
from service.errors import StoreUnavailable
from service.registry.catalog import Catalog
from service.store.jobs import Job, JobEvent, JobNote, Progress
from service.store.sql_jobs import SqlJobs
from tests.fakes import ManualClock
from tests.service.api.support import keeps_to, problem_of, served
from tests.stores import OpenStore, open_seen

RETRAIN = "/v1/models/clothes/retrain"
OWNER = "loop-a"
NOBODY = "0199a0c2-0000-7000-8000-000000000001"


@pytest.fixture
def store(tmp_path_factory: pytest.TempPathFactory, catalog: Catalog) -> OpenStore:
    """Of each test's own."""
    return open_seen(tmp_path_factory.mktemp("store"), catalog)


@pytest.fixture
def services(services: Services, store: OpenStore) -> Services:
    return replace(services, jobs=store.jobs)


@dataclass
class Waiting:
    """In the place of time: each sleep passes at once, once the next thing has happened."""

    clock: ManualClock = field(default_factory=ManualClock)
    happens: list[Any] = field(default_factory=list)
    slept: list[float] = field(default_factory=list)

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        assert len(self.slept) < 1000, "this never ends"
        self.clock.advance(seconds)
        if self.happens:
            self.happens.pop(0)()

    @property
    def pace(self) -> Pace:
        return Pace(look=1.0, heartbeat=15.0, clock=self.clock, sleep=self.sleep)


@pytest.fixture
def waiting() -> Waiting:
    return Waiting()


@pytest.fixture(scope="session")
def jobs_app() -> FastAPI:
    """With the routes of jobs."""
    return create_app(SimpleNamespace(jobs=True), does_jobs=True)  # type: ignore[arg-type,return-value]


@pytest.fixture
def app(jobs_app: Any, services: Services, waiting: Waiting) -> Any:
    jobs_app.state.services = services
    jobs_app._api.dependency_overrides[_pace] = lambda: waiting.pace
    return jobs_app


async def ask(client: httpx.AsyncClient, **body: Any) -> dict[str, Any]:
    response = await client.post(RETRAIN, json=body)
    assert response.status_code == 202, response.text
    job: dict[str, Any] = response.json()
    return job


def begin(jobs: SqlJobs) -> Job:
    job = jobs.lease(OWNER, seconds=600, kinds=["retrain"])
    assert job is not None
    return job


# Where there are such routes


@pytest.mark.parametrize(
    ("jobs", "does_jobs", "are_there"), [(object(), True, True), (object(), False, False), (None, True, False)]
)
def test_jobs_can_be_asked_for_where_somebody_does_them(jobs: Any, does_jobs: bool, are_there: bool) -> None:
    app = create_app(SimpleNamespace(jobs=jobs), does_jobs=does_jobs)  # type: ignore[arg-type]
    assert any("/jobs" in path for path in app._api.openapi()["paths"]) is are_there


async def test_the_document_shows_what_is_answered(client: httpx.AsyncClient) -> None:
    paths = (await client.get("/openapi.json")).json()["paths"]
    shown = {
        (method, path): operation["responses"].keys()
        for path, operations in paths.items()
        for method, operation in operations.items()
        if operation["tags"] == ["jobs"]
    }
    assert shown == {
        ("post", "/v1/models/{model}/retrain"): {"202", "400", "404", "408", "409", "413", "415", "422", "503"},
        ("get", "/v1/jobs"): {"200", "422", "503"},
        ("get", "/v1/jobs/{job}"): {"200", "404", "503"},
        ("post", "/v1/jobs/{job}/cancel"): {"200", "202", "404", "503"},
        ("get", "/v1/jobs/{job}/events"): {"200", "204", "400", "404", "503"},
    }
    responses = paths["/v1/jobs/{job}/events"]["get"]["responses"]
    assert list(responses["200"]["content"]) == ["text/event-stream"]
    told = paths["/v1/models/{model}/retrain"]["post"]["responses"]["409"]["content"]["application/problem+json"]
    assert "job" in told["schema"]["properties"]


# Asking


async def test_a_model_is_retrained_as_it_is_asked_for(client: httpx.AsyncClient, store: OpenStore) -> None:
    response = await client.post(RETRAIN, json={"epochs": 3, "replay": 0.25, "reason": "it drifts"})
    body = response.json()
    assert response.status_code == 202
    assert response.headers["location"] == f"/v1/jobs/{body['id']}"
    assert keeps_to(JobInfo, body)
    kept = store.jobs.get(body["id"])
    assert kept is not None
    spec = {"full": False, "epochs": 3, "learning_rate_factor": None, "replay": 0.25}
    assert (kept.model, kept.kind, kept.state, kept.spec) == ("clothes", "retrain", "queued", spec)
    assert (kept.reason, kept.actor, kept.principal) == ("it drifts", "anonymous", "anonymous")
    assert (body["state"], body["spec"], body["started"], body["progress"]) == ("queued", spec, None, None)


async def test_without_a_body_it_is_retrained_as_usual(client: httpx.AsyncClient) -> None:
    response = await client.post(RETRAIN)
    assert response.status_code == 202
    assert response.json()["spec"] == {"full": False, "epochs": None, "learning_rate_factor": None, "replay": 0.5}


async def test_a_second_time_the_one_under_way_is_named(client: httpx.AsyncClient, store: OpenStore) -> None:
    first = await ask(client)
    for _ in range(2):
        refused = await client.post(RETRAIN, json={})
        assert refused.status_code == 409
        problem = problem_of(refused)
        assert (problem["type"], problem["job"]) == ("urn:servoloop:problem:job-under-way", first["id"])
        store.jobs.lease(OWNER, seconds=600, kinds=["retrain"])
    store.jobs.finish(first["id"], OWNER, "failed")
    assert (await ask(client))["id"] != first["id"]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"epoch": 3}, "body.epoch"),
        ({"epochs": 0}, "body.epochs"),
        ({"epochs": 1.5}, "body.epochs"),
        ({"full": "yes"}, "body.full"),
        ({"learning_rate_factor": 0}, "body.learning_rate_factor"),
        ({"replay": 1.5}, "body.replay"),
        ({"replay": -0.1}, "body.replay"),
        ({"reason": "a\x00b"}, "body.reason"),
        ({"reason": "x" * 1001}, "body.reason"),
    ],
)
async def test_what_can_not_be_is_told_where_it_stands(
    client: httpx.AsyncClient, store: OpenStore, body: dict[str, Any], field: str
) -> None:
    response = await client.post(RETRAIN, json=body)
    assert response.status_code == 422
    assert problem_of(response)["field"] == field
    assert store.jobs.list(None, limit=1) == ([], None)


async def test_numbers_that_are_none_are_refused(client: httpx.AsyncClient) -> None:
    for number in ("NaN", "Infinity"):
        response = await client.post(RETRAIN, content=f'{{"replay": {number}}}')
        assert response.status_code in (400, 422)


async def test_an_unknown_model_is_not_retrained(client: httpx.AsyncClient) -> None:
    response = await client.post("/v1/models/nobody/retrain", json={})
    assert problem_of(response)["type"] == "urn:servoloop:problem:unknown-model"


# Looking


async def test_a_job_is_shown_as_it_stands(client: httpx.AsyncClient, store: OpenStore) -> None:
    asked = await ask(client)
    begin(store.jobs)
    store.jobs.renew(asked["id"], OWNER, seconds=600, progress=Progress("training", 1, 3, {"loss": float("nan")}))
    found = (await client.get(f"/v1/jobs/{asked['id'].upper()}")).json()
    assert keeps_to(JobInfo, found)
    progress = {"phase": "training", "done": 1, "total": 3, "figures": {"loss": None}}
    assert (found["state"], found["attempts"], found["progress"]) == ("running", 1, progress)
    store.jobs.finish(asked["id"], OWNER, "failed", {"epochs": 3}, "no labels")
    ended = (await client.get(f"/v1/jobs/{asked['id']}")).json()
    assert (ended["state"], ended["result"], ended["error"]) == ("failed", {"epochs": 3}, "no labels")
    assert ended["started"] <= ended["ended"]


async def test_jobs_are_listed_by_model_and_state_a_page_at_a_time(client: httpx.AsyncClient, store: OpenStore) -> None:
    first = await ask(client)
    store.jobs.ask_cancel(first["id"], "ann")
    second = await ask(client)
    other = (await client.post("/v1/models/mood/retrain")).json()

    async def ids(query: str = "") -> tuple[list[str], str | None]:
        response = await client.get(f"/v1/jobs{query}")
        assert keeps_to(JobList, response.json())
        return [job["id"] for job in response.json()["jobs"]], response.json()["next_cursor"]

    assert await ids() == ([other["id"], second["id"], first["id"]], None)
    assert await ids("?model=clothes&limit=1") == ([second["id"]], second["id"])
    assert await ids(f"?model=clothes&cursor={second['id']}") == ([first["id"]], None)
    assert await ids("?state=cancelled") == ([first["id"]], None)
    assert await ids("?state=cancelled&state=queued&model=clothes") == ([second["id"], first["id"]], None)
    for wrong in ("?state=lost", "?limit=0", "?cursor=x", "?what=x"):
        assert problem_of(await client.get(f"/v1/jobs{wrong}"))["status"] == 422


@pytest.mark.parametrize("job", [NOBODY, "nobody", "%00"])
async def test_what_is_no_job_is_not_found(client: httpx.AsyncClient, job: str) -> None:
    for method, path in [("GET", ""), ("GET", "/events"), ("POST", "/cancel")]:
        response = await client.request(method, f"/v1/jobs/{job}{path}")
        assert response.status_code == 404
        assert problem_of(response)["type"] == "urn:servoloop:problem:unknown-job"


# Cancelling


async def test_a_job_that_waits_is_cancelled_at_once(client: httpx.AsyncClient) -> None:
    asked = await ask(client)
    for _ in range(2):
        response = await client.post(f"/v1/jobs/{asked['id']}/cancel")
        assert (response.status_code, response.json()["state"]) == (200, "cancelled")


async def test_a_job_that_runs_is_to_be_cancelled(client: httpx.AsyncClient, store: OpenStore) -> None:
    asked = await ask(client)
    begin(store.jobs)
    response = await client.post(f"/v1/jobs/{asked['id']}/cancel")
    assert (response.status_code, response.json()["state"], response.json()["cancel_asked"]) == (202, "running", True)
    assert store.jobs.events(asked["id"])[-1].details == {"actor": "anonymous"}
    assert store.jobs.renew(asked["id"], OWNER, seconds=600).cancel_asked


# Following


def events_in(text: str) -> list[tuple[int, str, Any]]:
    """Id, kind and data of each event, as a client reads them; comments are left out."""
    found = []
    for block in text.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if not line.startswith(":"))
        if fields:
            found.append((int(fields["id"]), fields["event"], orjson.loads(fields["data"])))
    return found


def in_short(text: str) -> list[tuple[int, str]]:
    return [(number, data.get("what") or data["phase"]) for number, _, data in events_in(text)]


async def test_a_job_is_followed_to_its_end(client: httpx.AsyncClient, store: OpenStore, waiting: Waiting) -> None:
    asked = await ask(client)
    jobs, job = store.jobs, asked["id"]
    waiting.happens = [
        lambda: begin(jobs),
        lambda: None,
        lambda: jobs.renew(job, OWNER, seconds=600, progress=Progress("training", 1, 2, {"loss": 0.5})),
        lambda: None,
        lambda: jobs.note(job, OWNER, JobNote("epoch", {"said": "two\nlines"})),
        lambda: jobs.finish(job, OWNER, "succeeded", {"version": 2}),
    ]
    response = await client.get(f"/v1/jobs/{job}/events")
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/event-stream")
    assert response.headers["cache-control"] == "no-store"
    assert in_short(response.text) == [(1, "queued"), (2, "started"), (2, "training"), (3, "epoch"), (4, "succeeded")]
    number, kind, data = events_in(response.text)[3]
    assert (number, kind) == (3, "log")
    assert (data["number"], data["what"], data["details"]) == (3, "epoch", {"said": "two\nlines"})
    assert events_in(response.text)[2][1:] == (
        "progress",
        {"phase": "training", "done": 1, "total": 2, "figures": {"loss": 0.5}},
    )
    assert len(waiting.slept) == 6


async def test_it_goes_on_where_the_caller_was(client: httpx.AsyncClient, store: OpenStore) -> None:
    asked = await ask(client)
    begin(store.jobs)
    store.jobs.finish(asked["id"], OWNER, "cancelled")
    path = f"/v1/jobs/{asked['id']}/events"
    assert in_short((await client.get(path, headers={"Last-Event-ID": "1"})).text) == [(2, "started"), (3, "cancelled")]
    over = await client.get(path, headers={"Last-Event-ID": "3"})
    assert (over.status_code, over.content) == (204, b"")
    for wrong in ("-1", "x", "1" * 10):
        response = await client.get(path, headers={"Last-Event-ID": wrong})
        assert problem_of(response)["field"] == "Last-Event-ID"


async def collect(stream: AsyncIterator[bytes]) -> list[bytes]:
    return [part async for part in stream]


@dataclass
class Told:
    """Jobs that are read, of which one waits, and its log is as it is given."""

    job: Job
    log: list[JobEvent] = field(default_factory=list)
    fails: int = 0

    def get(self, job_id: str) -> Job | None:
        if self.fails:
            self.fails -= 1
            raise StoreUnavailable("it is away")
        return self.job

    def events(self, job_id: str, after: int = 0) -> list[JobEvent]:
        return [event for event in self.log if event.number > after]

    def list(self, *_: Any, **__: Any) -> Any:
        raise NotImplementedError

    def end(self) -> None:
        self.job = replace(self.job, state="failed")


@pytest.fixture
def reader() -> Told:
    return Told(Job(str(uuid7()), "clothes", "retrain", "queued", {}, "", "ann", "anonymous", created=0))


async def test_while_nothing_happens_it_says_every_15_s_that_it_lives(waiting: Waiting, reader: Told) -> None:
    waiting.happens = [lambda: None] * 30 + [reader.end]
    parts = await collect(told(reader, reader.job.id, 0, lambda: False, waiting.pace))
    assert len(waiting.slept) == 31
    assert parts[0].startswith(b": ")
    assert parts[1:] == [b": nothing new\n\n"] * 2


async def test_what_happens_is_a_sign_of_life_too(waiting: Waiting, reader: Told) -> None:
    reader.log = [JobEvent(reader.job.id, 1, 0, "queued", {})]
    waiting.happens = [lambda: None] * 13
    waiting.happens += [lambda: reader.log.append(JobEvent(reader.job.id, 2, 0, "started", {}))]
    waiting.happens += [lambda: None] * 14 + [reader.end]
    parts = await collect(told(reader, reader.job.id, 0, lambda: False, waiting.pace))
    assert [part.split(b"\n")[0] for part in parts[1:]] == [b"id: 1", b"id: 2"]


async def test_it_ends_when_the_service_stops(client: httpx.AsyncClient, services: Services, waiting: Waiting) -> None:
    asked = await ask(client)

    def stop() -> None:
        services.draining.begun = True

    waiting.happens = [stop]
    response = await client.get(f"/v1/jobs/{asked['id']}/events")
    assert in_short(response.text) == [(1, "queued")]
    assert len(waiting.slept) == 1


async def test_nobody_is_told_who_has_left(client: httpx.AsyncClient, app: Any) -> None:
    asked = await ask(client)
    app._api.dependency_overrides[_pace] = lambda: Pace(look=0.01)
    async with served(app) as (connected, server):
        async with connected.stream("GET", f"/v1/jobs/{asked['id']}/events") as response:
            await anext(response.aiter_raw())
        while server.server_state.tasks:  # or it never ends
            await asyncio.wait(server.server_state.tasks)


async def test_a_service_that_stops_ends_what_it_streams_as_a_whole_answer(
    client: httpx.AsyncClient, app: Any, services: Services
) -> None:
    asked = await ask(client)
    app._api.dependency_overrides[_pace] = lambda: Pace(look=0.01)
    async with (
        served(app, services.draining) as (connected, server),
        connected.stream("GET", f"/v1/jobs/{asked['id']}/events") as response,
    ):
        parts = response.aiter_text()
        received = await anext(parts)
        server._begin_drain()
        received += "".join([part async for part in parts])
    assert in_short(received) == [(1, "queued")]


async def test_a_store_that_is_away_for_a_while_is_waited_for(waiting: Waiting, reader: Told) -> None:
    reader.fails = 3
    reader.log = [JobEvent(reader.job.id, 1, 0, "queued", {})]
    waiting.happens = [lambda: None] * 3 + [reader.end]
    parts = await collect(told(reader, reader.job.id, 0, lambda: False, waiting.pace))
    assert [part.split(b"\n")[0] for part in parts[1:]] == [b"id: 1"]


async def test_a_job_that_has_made_room_is_followed_no_more(waiting: Waiting, reader: Told) -> None:
    waiting.happens = [lambda: setattr(reader, "job", None)]
    assert len(await collect(told(reader, NOBODY, 0, lambda: False, waiting.pace))) == 1
    assert len(waiting.slept) == 1


async def test_a_store_that_is_away_at_first_is_a_503(
    client: httpx.AsyncClient, app: FastAPI, services: Services, reader: Told
) -> None:
    reader.fails = 9
    app.state.services = replace(services, jobs=reader)
    for path in ("", "/events"):
        assert problem_of(await client.get(f"/v1/jobs/{reader.job.id}{path}"))["status"] == 503
