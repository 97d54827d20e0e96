"""Predictions and feedback as files: lines of JSON, CSV and Parquet."""

import asyncio
import csv
import io
import json
import sys
import threading
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import httpx
import pyarrow
import pyarrow.parquet
import pytest
from fastapi import FastAPI

from service.api.connection import Connection
from service.api.deps import FeedbackParts, Services
from service.api.draining import Draining, DrainPolicy
from service.api.schemas import FeedbackEventInfo, PredictionRecord
from service.api.server import HttpServer
from service.errors import StoreUnavailable
from service.registry.catalog import Catalog
from service.store import row_files
from service.store.base import Filters, Page
from service.store.feedback import FeedbackFilters, FeedbackPage, StoredEvent
from tests.patience import PATIENCE
from tests.service.api.support import Wire, problem_of, served
from tests.stores import OpenStore, a_record, an_event, open_seen

PREDICTIONS, FEEDBACK = "/v1/predictions", "/v1/feedback"
NDJSON, CSV, PARQUET = "application/x-ndjson", "text/csv", "application/vnd.apache.parquet"
FORMS = [NDJSON, CSV, PARQUET]
ENTRIES = {PREDICTIONS: "predictions", FEEDBACK: "events"}

PARTS = pytest.mark.parametrize("path", [PREDICTIONS, FEEDBACK])
EVERY = pytest.mark.parametrize("form", FORMS)


@pytest.fixture
def store(tmp_path_factory: pytest.TempPathFactory, catalog: Catalog) -> OpenStore:
    """Of each test's own, with every version seen."""
    return open_seen(tmp_path_factory.mktemp("store"), catalog)


@pytest.fixture
def many(store: OpenStore) -> None:
    """More predictions than three reads find, of two models, and feedback of each."""
    records = [
        a_record(
            made=1_700_000_000.0 + number,
            model="rent" if number % 5 == 0 else "mood",
            external_id=f'"order"; {number},\né',
            tags={"país": "España"} if number % 2 else {},
            outputs={"value": number / 7} if number % 5 == 0 else {"label": "positive", "probability": 0.75},
            scores="zczMPQAAgD8=" if number % 3 else None,  # 0.1 and 1
        )
        for number in range(350)
    ]
    store.predictions.append(records)
    events = [
        an_event(
            prediction_id=record.id,
            kind="rating" if number % 4 == 0 else "retraction" if number % 4 == 1 else "label",
            value=[number / 8, None, "positive", "negative"][number % 4],
            actor=f"ann,\r\n{number}",
            labelled_at=1_700_000_000_123 + number,
        )
        for number, record in enumerate(records)
        if record.model == "mood"
    ]
    events.append(an_event(model="tags", external_id="x", value=["a", '[b"']))
    store.feedback.add(events, {})


async def paged(client: httpx.AsyncClient, path: str, **filters: Any) -> list[dict[str, Any]]:
    """What the pages hold, one after the other."""
    entries: list[dict[str, Any]] = []
    cursor = None
    while cursor is not None or not entries:
        wanted = {**filters, "limit": 97} | ({} if cursor is None else {"cursor": cursor})
        found = (await client.get(path, params=wanted)).json()
        entries += found[ENTRIES[path]]
        cursor = found["next_cursor"]
        if cursor is None:
            break
    return entries


async def exported(client: httpx.AsyncClient, path: str, form: str, **filters: Any) -> list[dict[str, Any]]:
    """The rows of a file, with what is nested in the form that JSON gives it."""
    response = await client.get(path, params=filters, headers={"Accept": form})
    assert response.status_code == 200, response.text
    assert response.headers["Content-Type"] == ("text/csv; charset=utf-8" if form == CSV else form)
    return rows_in(response.content, form)


def rows_in(content: bytes, form: str) -> list[dict[str, Any]]:
    match form:
        case "application/x-ndjson":
            return [json.loads(line) for line in content.decode().split("\n")[:-1]]
        case "text/csv":
            rows = list(csv.DictReader(io.StringIO(content.decode(), newline="")))
            return [{name: _read(name, text) for name, text in row.items()} for row in rows]
        case _:
            table = pyarrow.parquet.read_table(io.BytesIO(content))
            return [{name: _read(name, value) for name, value in row.items()} for row in table.to_pylist()]


def _read(name: str, value: Any) -> Any:
    if value in (None, ""):
        return None
    if name in ("time", "labelled_at", "received_at") and not isinstance(value, str):
        return value.isoformat().replace("+00:00", "Z")
    if name in ("tags", "prediction", "probabilities") and isinstance(value, str):
        return json.loads(value)
    if name in ("propensity", "latency_ms", "value", "rating"):
        return float(value)
    if name == "trust":
        return int(value)
    return row_files.label_in(value) if name == "label" else value


# All of it


@PARTS
@EVERY
@pytest.mark.usefixtures("many")
async def test_a_file_has_what_all_pages_have_in_their_order(client: httpx.AsyncClient, path: str, form: str) -> None:
    entries = await paged(client, path)
    assert len(entries) > 250
    assert await exported(client, path, form) == entries


@PARTS
@EVERY
@pytest.mark.usefixtures("many")
async def test_filters_count_for_files_too(client: httpx.AsyncClient, path: str, form: str) -> None:
    entries = await paged(client, path, model="mood")
    assert await exported(client, path, form, model="mood") == entries
    middle = entries[150]["prediction_id" if path == PREDICTIONS else "event_id"]
    assert await exported(client, path, form, model="mood", cursor=middle) == entries[151:]
    assert await exported(client, path, form, until="2020-01-31T08:00:00Z") == []
    wrong = await client.get(path, params={"colour": "a"}, headers={"Accept": form})
    assert problem_of(wrong)["status"] == 422


@PARTS
@EVERY
@pytest.mark.parametrize("limit", [1, 99, 100, 101, 230, 100_000])
@pytest.mark.usefixtures("many")
async def test_a_limit_is_that_of_the_whole_file(client: httpx.AsyncClient, path: str, form: str, limit: int) -> None:
    entries = await paged(client, path)
    assert await exported(client, path, form, limit=limit) == entries[:limit]


@PARTS
async def test_a_page_keeps_its_limit(client: httpx.AsyncClient, path: str) -> None:
    problem = problem_of(await client.get(path, params={"limit": 1001}))
    assert (problem["status"], problem["field"]) == (422, "query.limit")
    assert "at most 1000" in problem["expected"]


@PARTS
@EVERY
async def test_a_file_of_nothing_is_whole(client: httpx.AsyncClient, path: str, form: str) -> None:
    content = (await client.get(path, headers={"Accept": form})).content
    columns = row_files.PREDICTIONS if path == PREDICTIONS else row_files.FEEDBACK
    if form == CSV:
        assert content == ",".join(columns).encode() + b"\r\n"
    if form == PARQUET:
        assert pyarrow.parquet.read_schema(io.BytesIO(content)).names == list(columns)
    assert rows_in(content, form) == []


def test_a_file_has_the_columns_that_entries_have() -> None:
    assert list(row_files.PREDICTIONS) == list(PredictionRecord.model_fields)
    assert sorted(row_files.FEEDBACK) == sorted(FeedbackEventInfo.model_fields)


# What was asked for


@PARTS
@pytest.mark.parametrize(
    ("accept", "media_type"),
    [
        (None, "application/json"),
        ("*/*", "application/json"),
        ("text/html, application/xhtml+xml, */*;q=0.8", "application/json"),
        ("application/json, text/csv", "application/json"),
        ("text/csv;q=0, */*", "application/json"),
        ("text/csv;q=0.5, application/json;q=0.4", "text/csv; charset=utf-8"),
        ("application/x-ndjson;q=0.1, Application/Vnd.Apache.Parquet;q=0.2", PARQUET),
    ],
)
async def test_accept_says_what_is_answered(
    client: httpx.AsyncClient, path: str, accept: str | None, media_type: str
) -> None:
    response = await client.get(path, headers=httpx.Headers({} if accept is None else {"Accept": accept}))
    assert (response.status_code, response.headers["Content-Type"]) == (200, media_type)
    assert response.headers["Vary"] == "Accept"
    assert ("Content-Disposition" in response.headers) == (media_type != "application/json")


@pytest.mark.parametrize(
    ("address", "form", "name"),
    [
        ("/v1/predictions", NDJSON, "predictions.ndjson"),
        ("/v1/predictions?model=mood", CSV, "predictions-mood.csv"),
        ("/v1/feedback?model=mood", PARQUET, "feedback-mood.parquet"),
    ],
)
async def test_a_file_has_a_name(client: httpx.AsyncClient, address: str, form: str, name: str) -> None:
    response = await client.get(address, headers={"Accept": form})
    assert response.headers["Content-Disposition"] == f'attachment; filename="{name}"'


@PARTS
async def test_openapi_shows_every_form(client: httpx.AsyncClient, path: str) -> None:
    responses = (await client.get("/openapi.json")).json()["paths"][path]["get"]["responses"]
    assert set(responses["200"]["content"]) == {"application/json", *FORMS}
    assert {"200", "422", "501", "503"} == responses.keys()


# Parquet


@pytest.mark.usefixtures("many")
async def test_parquet_has_types_and_groups_of_many_rows(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(row_files, "_GROUP_ROWS", 150)
    content = (await client.get(PREDICTIONS, headers={"Accept": PARQUET})).content
    file = pyarrow.parquet.ParquetFile(io.BytesIO(content))
    assert [file.metadata.row_group(index).num_rows for index in range(file.num_row_groups)] == [200, 150]
    schema = file.schema_arrow
    assert schema.field("time").type == pyarrow.timestamp("ms", "UTC")
    assert schema.field("probabilities").type.value_type == pyarrow.float32()
    assert schema.field("latency_ms").type == pyarrow.float64()
    said = pyarrow.parquet.read_schema(io.BytesIO((await client.get(FEEDBACK, headers={"Accept": PARQUET})).content))
    assert {said.field(name).type for name in ("labelled_at", "received_at")} == {pyarrow.timestamp("ms", "UTC")}
    assert (said.field("rating").type, said.field("trust").type) == (pyarrow.float64(), pyarrow.int64())


@PARTS
async def test_without_pyarrow_parquet_is_a_501(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    problem = problem_of(await client.get(path, headers={"Accept": PARQUET}))
    assert (problem["status"], problem["type"]) == (501, "urn:servoloop:problem:not-supported")
    assert "servoloop[parquet]" in problem["detail"]
    assert (await client.get(path, headers={"Accept": CSV})).status_code == 200


# While it is sent


class Endless:
    """A store of predictions and feedback without end; or one that can't be read any more after so many reads."""

    def __init__(self, fails_after: int | None = None) -> None:
        self.fails_after = fails_after
        self.reads = 0
        self.threads: set[int] = set()

    def list(self, filters: Filters | FeedbackFilters, *, limit: int, cursor: str | None = None) -> Page | FeedbackPage:
        self.threads.add(threading.get_ident())
        if self.reads == self.fails_after:
            raise StoreUnavailable("it is away")
        self.reads += 1
        if isinstance(filters, Filters):
            records = [a_record() for _ in range(limit)]
            return Page(records, records[-1].id)
        events = [StoredEvent(an_event(), "pending") for _ in range(limit)]
        return FeedbackPage(events, events[-1].event.id)


def put(app: FastAPI, services: Services, endless: Any) -> None:
    feedback = FeedbackParts(services.feedback.intake, endless, services.feedback.evaluation, services.feedback.reports)
    app.state.services = replace(services, predictions=endless, feedback=feedback)


@PARTS
@EVERY
async def test_a_file_whose_store_fails_within_is_cut_off(
    app: FastAPI, services: Services, caplog: pytest.LogCaptureFixture, path: str, form: str
) -> None:
    put(app, services, Endless(fails_after=2))
    received = bytearray()

    async def receive(client: httpx.AsyncClient) -> None:
        async with client.stream("GET", path, headers={"Accept": form}) as response:
            assert response.status_code == 200
            async for part in response.aiter_raw():
                received.extend(part)

    async with served(app) as (client, _):
        with pytest.raises(httpx.RemoteProtocolError, match="without sending complete message body"):
            await receive(client)
    if form == PARQUET:
        with pytest.raises(pyarrow.ArrowInvalid):
            rows_in(bytes(received), form)
    else:
        assert len(rows_in(bytes(received), form)) == 200
    [told] = [record for record in caplog.records if record.getMessage() == "a file broke off within"]
    assert told.reason == "the store does not answer: it is away"  # type: ignore[attr-defined]


@PARTS
@EVERY
async def test_a_store_that_can_not_be_read_at_first_is_a_503(
    client: httpx.AsyncClient, app: FastAPI, services: Services, path: str, form: str
) -> None:
    put(app, services, Endless(fails_after=0))
    response = await client.get(path, headers={"Accept": form})
    assert problem_of(response)["type"] == "urn:servoloop:problem:store-unavailable"
    assert response.headers["Retry-After"]


@PARTS
@EVERY
async def test_nothing_is_read_for_a_client_that_left(app: FastAPI, services: Services, path: str, form: str) -> None:
    endless = Endless()
    put(app, services, endless)
    async with served(app) as (client, server):
        async with client.stream("GET", path, headers={"Accept": form}) as response:
            await anext(response.aiter_raw())
        while server.server_state.tasks:  # or it never ends
            await asyncio.wait(server.server_state.tasks)
        reads = endless.reads
    assert endless.reads == reads
    assert threading.get_ident() not in endless.threads


class Slow(Wire):
    """A connection that takes one write, and no more until it is told."""

    def __init__(self, connection: Connection) -> None:
        super().__init__()
        self.connection = connection
        self.took = asyncio.Event()

    def write(self, data: Any) -> None:
        super().write(data)
        self.connection.pause_writing()
        self.took.set()


@pytest.fixture
async def slow(app: Any) -> AsyncIterator[Slow]:
    server = HttpServer(app, Draining(), DrainPolicy(unready=0.0, finish=0.0))
    server.config.load()
    wire = Slow(Connection(config=server.config, server_state=server.server_state, app_state={}))
    wire.connection.connection_made(wire)
    yield wire
    wire.connection.connection_lost(None)
    if tasks := server.server_state.tasks:
        await asyncio.wait(tasks)


async def test_no_more_is_read_than_a_slow_client_takes(app: FastAPI, services: Services, slow: Slow) -> None:
    endless = Endless()
    put(app, services, endless)
    slow.connection.data_received(f"GET {PREDICTIONS} HTTP/1.1\r\nHost: x\r\nAccept: {CSV}\r\n\r\n".encode())
    async with asyncio.timeout(PATIENCE):
        for taken in range(1, 6):
            await slow.took.wait()
            slow.took.clear()
            assert len(slow.writes) == taken
            assert endless.reads <= taken + 1
            slow.connection.resume_writing()
