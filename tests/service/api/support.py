"""An engine that counts, who measures and never answers, one end of a connection, and what every answer must be."""

import asyncio
import socket
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import httpx
import numpy as np
from fastapi import FastAPI
from pydantic import BaseModel
from uvicorn.lifespan.off import LifespanOff

from models.preprocess import Tensors
from models.samples import sample_rows
from service.api.draining import Draining, DrainPolicy
from service.api.schemas import PredictAnswer
from service.api.server import HttpServer
from service.domain import Deadline, Execution, Loading, Precision, Ref, Rollout, Wish
from service.errors import LoopUnavailable
from service.learning.picture import Form
from service.learning.questions import DriftQuestion, Question
from service.registry.catalog import Catalog
from service.registry.fleet import Standing, VersionState
from service.store.base import AliasMove, Gone, StoredReport, Tag, WishChange
from service.store.jobs import Job, NewJob
from service.store.rollouts import Decision
from service.wire.inference import Outputs
from service.wire.statistics import Statistics
from tests.fakes import FakeFleet
from tests.patience import PATIENCE
from tests.stores import OpenStore

MAX_BODY_BYTES = 200_000
MAX_BUFFERED_BYTES = 300_000
MAX_ROWS = 8


@dataclass(frozen=True)
class Call:
    """What an engine was asked."""

    ref: Ref
    tensors: Tensors
    deadline: Deadline
    priority: int = 0


@dataclass
class CountingEngine:
    """Ready for everything; answers row i with the numbers i, i + 1, ... unless told to fail."""

    catalog: Catalog
    ready: frozenset[Ref] = frozenset()
    failed: dict[Ref, str] = field(default_factory=dict)
    calls: list[Call] = field(default_factory=list)
    error: BaseException | None = None
    failures: dict[int, str] = field(default_factory=dict)
    on_demand: set[Ref] = field(default_factory=set)
    counted: dict[Ref, Statistics] = field(default_factory=dict)

    def is_ready(self, ref: Ref) -> bool:
        return self.why_unready(ref) is None

    def why_unready(self, ref: Ref) -> str | None:
        return None if ref in self.ready else self.failed.get(ref, "its engine has not loaded it yet")

    def is_on_demand(self, ref: Ref) -> bool:
        return ref in self.on_demand

    async def statistics(self) -> dict[Ref, Statistics]:
        return self.counted

    async def infer(self, ref: Ref, tensors: Tensors, deadline: Deadline, priority: int = 0) -> Outputs:
        self.calls.append(Call(ref, tensors, deadline, priority))
        if self.error is not None:
            raise self.error
        width = self.catalog.models[ref.model].versions[ref.version].manifest.num_outputs or 5
        values = np.arange(len(tensors), dtype=np.float32)[:, None] + np.arange(width, dtype=np.float32)
        return Outputs(values, self.failures, queue_seconds=0.001, compute_seconds=0.002)


@dataclass
class Supervised:
    """The changes of a store, and a supervisor that has done at once what is wanted; or nothing, if it is `slow`."""

    store: OpenStore
    fleet: FakeFleet
    slow: bool = False
    engine: CountingEngine | None = None
    """Where it is given, what is deleted leaves it at once."""

    async def move_alias(
        self, model: str, alias: str, version: int, *, actor: str, reason: str, expected: int | None = None
    ) -> AliasMove:
        return await self.store.move_alias(model, alias, version, actor=actor, reason=reason, expected=expected)

    async def begin_rollout(self, *facts: Any, **named: Any) -> Rollout:
        return await self.store.begin_rollout(*facts, **named)

    async def change_rollout(self, *facts: Any, **named: Any) -> Rollout:
        return await self.store.change_rollout(*facts, **named)

    async def promote(self, *facts: Any, **named: Any) -> Decision:
        return await self.store.promote(*facts, **named)

    async def roll_back(self, *facts: Any, **named: Any) -> Decision:
        return await self.store.roll_back(*facts, **named)

    async def change_wish(self, ref: Ref, change: WishChange) -> Wish:
        wish = await self.store.change_wish(ref, change)
        is_unloaded = wish.loading is Loading.UNLOADED
        self._show(ref, unloaded(wish) if is_unloaded else loaded(wish))
        return wish

    async def delete_version(self, ref: Ref) -> None:
        await self.store.delete_version(ref)
        self._show(ref, None)

    async def delete_model(self, model: str, versions: Collection[int]) -> None:
        await self.store.delete_model(model, versions)
        for ref in [ref for ref in self.fleet.view.versions if ref.model == model]:
            self._show(ref, None)

    async def keep_report(self, report: StoredReport) -> None:
        await self.store.keep_report(report)

    async def erase(self, ids: Sequence[str]) -> Gone:
        return await self.store.erase(ids)

    async def erase_tagged(
        self, tag: Tag, model: str | None, *, after: str = "", limit: int
    ) -> tuple[Gone, str | None]:
        return await self.store.erase_tagged(tag, model, after=after, limit=limit)

    async def enqueue_job(self, job: NewJob) -> Job:
        return await self.store.enqueue_job(job)

    async def cancel_job(self, job_id: str, actor: str) -> Job:
        return await self.store.cancel_job(job_id, actor)

    def _show(self, ref: Ref, standing: Standing | None) -> None:
        if self.slow:
            return
        self.fleet.show(ref, standing)
        if standing is None and self.engine is not None:
            self.engine.ready -= {ref}


class Asked:
    """Remembers what was asked of models, and never answers but with pictures."""

    def __init__(self) -> None:
        self.questions: list[Question | DriftQuestion] = []

    async def evaluate(self, question: Question | DriftQuestion) -> Mapping[str, Any]:
        self.questions.append(question)
        raise LoopUnavailable

    async def draw(self, question: Question | DriftQuestion, form: Form) -> bytes:
        self.questions.append(question)
        return form.encode()


def send(app: FastAPI, path: str, content: bytes, headers: dict[str, str]) -> httpx.Response:
    """A POST, in an event loop of its own: what generates bodies is no coroutine."""

    async def post() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://service") as client:
            return await client.post(path, content=content, headers=headers)

    return asyncio.run(post())


@asynccontextmanager
async def served(app: Any, draining: Draining | None = None) -> AsyncIterator[tuple[httpx.AsyncClient, HttpServer]]:
    """A client of a service that listens."""
    server = HttpServer(app, draining or Draining(), DrainPolicy(unready=0.0, finish=PATIENCE))
    server.config.load()
    server.lifespan = LifespanOff(server.config)  # type: ignore[assignment]
    with socket.create_server(("127.0.0.1", 0)) as listener:
        await server.startup(sockets=[listener])
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        try:
            async with asyncio.timeout(PATIENCE), httpx.AsyncClient(base_url=url) as client:
                yield client, server
        finally:
            await server.shutdown()


class Wire(asyncio.Transport):
    """What a connection writes to its client, each write by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.writes: list[bytes] = []
        self.closed = self.paused = False

    def write(self, data: Any) -> None:
        self.writes.append(bytes(data))

    def close(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False


async def turn() -> None:
    """Let tasks that were started reach where they wait."""
    for _ in range(5):
        await asyncio.sleep(0)


def loaded(wish: Wish | None = None) -> Standing:
    """On the only engine."""
    wish = wish or Wish()
    how = Execution("openvino", Precision.BFLOAT16, 2, "it was measured")
    return Standing(VersionState.LOADED, "", None, ("engine-0",), 4096, wish.generation, wish.generation, how)


def unloaded(wish: Wish | None = None) -> Standing:
    wish = wish or Wish()
    return Standing(VersionState.UNLOADED, "", None, (), 4096, wish.generation, wish.generation)


def problem_of(response: httpx.Response) -> dict[str, Any]:
    """The members of a problem answer, once its form is checked."""
    assert response.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = response.json()
    assert body["type"].startswith("urn:servoloop:problem:")
    assert body["title"]
    assert body["status"] == response.status_code
    assert body["request_id"]
    assert body["request_id"] == response.headers["x-request-id"]
    return body


async def answer(client: httpx.AsyncClient, path: str, instances: list[Any], **parameters: Any) -> dict[str, Any]:
    response = await client.post(path, json={"instances": instances, "parameters": parameters})
    return checked(response, len(instances))


def checked(response: httpx.Response, num_rows: int) -> dict[str, Any]:
    """The answer's members, once its shape is as clients rely on it, and as OpenAPI shows it."""
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "application/json"
    body: dict[str, Any] = response.json()
    PredictAnswer.model_validate(body)
    assert body.keys() == {"model", "version", "prediction_ids", "predictions"}
    assert len(body["predictions"]) == len(body["prediction_ids"]) == num_rows
    ids = [UUID(text) for text in body["prediction_ids"]]
    assert {one.version for one in ids} == {7}
    assert len(set(ids)) == num_rows
    return body


def keeps_to(kind: type[BaseModel], body: Any) -> bool:
    """Whether every member of an answer is in its schema, and all are there that have to be; those within it too."""
    return shape_of(kind.model_validate(body).model_dump(by_alias=True, exclude_unset=True)) == shape_of(body)


def shape_of(value: Any) -> Any:
    """The names in a document, without its values."""
    match value:
        case dict():
            return {name: shape_of(one) for name, one in value.items()}
        case list():
            return [shape_of(one) for one in value]
    return None


def rows_for(catalog: Catalog, model: str, count: int) -> list[Any]:
    """Instances that a model takes."""
    contract = next(iter(catalog.models[model].versions.values())).manifest.input
    return [row if isinstance(row, str) else row.tolist() for row in sample_rows(contract, count)]
