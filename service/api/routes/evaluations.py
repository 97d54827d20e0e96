"""Offline evaluation: how good versions are on labelled rows, and what was found before."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable
from typing import Annotated, Any
from uuid import UUID

import orjson
from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import ValidationError
from uuid_utils import uuid7

from service.api.accepting import VARY, preferred
from service.api.bodies import RESPONSES
from service.api.deps import Services, UseServices
from service.api.evaluation_schemas import (
    EvaluationReport,
    EvaluationReports,
    EvaluationRequest,
    EvaluationWanted,
    ReportFilters,
)
from service.api.exchange import Exchange
from service.api.incoming import IncomingRequest, body_in_chunks
from service.api.schemas import inlined, says_problem
from service.domain import Address
from service.errors import (
    BodyTooSlow,
    MalformedBody,
    ServoloopError,
    UnknownReport,
    UnprocessableInput,
    UnsupportedMediaType,
)
from service.learning.instants import written
from service.learning.judging import Judge
from service.learning.labelled import Chunk, Labels, held_out, in_lines, sent
from service.store.base import StoredReport, milliseconds_of

router = APIRouter(tags=["evaluation"])

_PATH = "/v1/models/{model}/evaluations"
_JSON, _LINES = "application/json", "application/x-ndjson"
_EXAMPLE = '{"instances": [...], "labels": [...]} or {"dataset": "held-out"}'
_SECONDS = 30.0
_CHUNK_ROWS = 64
_SAYS: dict[int | str, dict[str, Any]] = {
    **RESPONSES,
    201: {
        "description": "The report; with `Accept: application/x-ndjson` lines that say how far it is, the last with it",
        "model": EvaluationReport,
    },
    404: says_problem("There is no such model or version"),
    501: says_problem("The checkpoint keeps no held-out rows, or the task has no labels"),
    503: says_problem("A version, the store, or the process that measures does not answer just now"),
}
_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            _JSON: {"schema": inlined(EvaluationRequest)},
            _LINES: {"schema": {"type": "string", "description": '{"instance": ..., "label": ...} on each line'}},
        },
    }
}


@router.post(_PATH, openapi_extra=_BODY, responses=_SAYS, status_code=201, response_model=EvaluationReport)
async def evaluate(
    model: str, wanted: Annotated[EvaluationWanted, Query()], request: Request, services: UseServices
) -> Response:
    """Have a version predict labelled rows, behind all other requests, and measure it; two, compare them on these.

    Rows are sent as one document, or one a line, as many as one likes; or they are those that the version's checkpoint
    keeps of its held-out set. What is found is kept with the version.
    """
    exchange = Exchange.of(request.scope)
    media_type = (exchange.header(b"content-type") or "").partition(";")[0].strip().lower()
    if media_type == _LINES:
        run = _Run(model, wanted, services, exchange)
        chunks = body_in_chunks(exchange, None, patience=_SECONDS)
        async with contextlib.aclosing(in_lines(chunks, run.labels, run.most_rows)) as lines:
            async for part in lines:
                await run.judge(part)
        return _created(await run.report())
    if media_type != _JSON:
        expected = f"{_JSON}, or {_LINES} for one row a line"
        raise UnsupportedMediaType("this is not read", field="Content-Type", expected=expected)
    for name in request.query_params:
        what, expected = "beside a JSON body no query is read", f'"{name[:100]}" in the body'
        raise UnprocessableInput(what, field=f"query.{name[:100]}", expected=expected)
    with IncomingRequest(exchange, services.max_body_bytes, services.bodies) as incoming:
        document, rows = await _read(incoming)
        run = _Run(model, document, services, exchange)
        parts = await asyncio.to_thread(run.chunks, document, rows)
        if preferred(request.headers.getlist("accept"), (_JSON, _LINES)) == _LINES:
            return StreamingResponse(_told(run, parts), status_code=201, media_type=_LINES, headers=VARY)
        for part in parts:
            await run.judge(part)
        return _created(await run.report())


@router.get(
    _PATH,
    responses={404: says_problem("There is no such model"), 422: says_problem("A filter is malformed")},
    response_model=EvaluationReports,
)
async def reports(model: str, wanted: Annotated[ReportFilters, Query()], services: UseServices) -> Response:
    """What was found of a model before, the newest first."""
    name = services.catalog().model(model).name
    cursor = str(wanted.cursor) if wanted.cursor else None
    listed = services.feedback.reports.list
    found, after = await asyncio.to_thread(listed, name, wanted.version, limit=wanted.limit, cursor=cursor)
    page = {"evaluations": [_shown(one) for one in found], "next_cursor": after}
    return Response(orjson.dumps(page), media_type=_JSON)


@router.get(
    _PATH + "/{report}",
    responses={404: says_problem("There is no such model, or report")},
    response_model=EvaluationReport,
)
async def get_report(model: str, report: str, services: UseServices) -> Response:
    """What was found once."""
    name = services.catalog().model(model).name
    try:
        report_id = str(UUID(report))
    except ValueError:
        raise UnknownReport(name, report) from None
    found = await asyncio.to_thread(services.feedback.reports.get, report_id)
    if found is None or found.model != name:
        raise UnknownReport(name, report)
    return Response(orjson.dumps(_shown(found)), media_type=_JSON)


class _Run:
    """One evaluation."""

    def __init__(self, model: str, wanted: EvaluationWanted, services: Services, exchange: Exchange) -> None:
        """Raises Unknown, NotReady, NotSupported or UnprocessableInput."""
        names = [wanted.version] if wanted.against is None else [wanted.against, wanted.version]
        self._targets = [services.choose(Address(model, version=name)) for name in names]
        self._versions = [services.catalog().find(Address(model, version=name)) for name in names]
        if len({target.ref for target in self._targets}) < len(names):
            raise UnprocessableInput("a version is compared with itself", field="against", expected="another version")
        self._services = services
        self._name = wanted.name
        caller = exchange.caller()
        self._principal = caller.principal.name
        self._judge = Judge(self._targets, services.pipeline, caller)
        self.labels = Labels(self._targets[0].manifest)
        self.num_rows = 0
        self.most_rows = min(_CHUNK_ROWS, services.terms.max_rows)

    def chunks(self, document: EvaluationRequest, rows: dict[str, Any]) -> list[Chunk]:
        """The rows of a document, or those that it names. Raises UnprocessableInput or NotSupported. Takes its time."""
        if document.dataset is None:
            parts = sent(rows["instances"], rows["labels"], self.labels, self.most_rows)
        else:
            parts = held_out(self._versions[-1], self.most_rows)
            self._name = f"{document.dataset} of version {self._versions[-1].ref.version}"
        self.num_rows = sum(len(part.truth) for part in parts)
        return parts

    async def judge(self, part: Chunk) -> int:
        """Have these rows predicted; how many were so far."""
        await self._judge.take(part)
        return self._judge.rows

    async def report(self) -> dict[str, Any]:
        """What was found, which is kept."""
        figures = await self._judge.finish(self._services.feedback.evaluation)
        refs = [target.ref for target in self._targets]
        report = StoredReport(
            str(uuid7()),
            refs[-1].model,
            refs[-1].version,
            refs[0].version if len(refs) > 1 else None,
            self._name,
            self._judge.digest,
            self._judge.rows,
            self._principal,
            {**figures, "failed_rows": self._judge.failed},
        )
        await self._services.changes.keep_report(report)
        return _shown(report)


async def _read(incoming: IncomingRequest) -> tuple[EvaluationRequest, dict[str, Any]]:
    """What is wanted, and the rows with their labels."""
    try:
        async with asyncio.timeout(_SECONDS):
            body = await incoming.read(expected=_EXAMPLE)
    except TimeoutError:
        raise BodyTooSlow from None
    return await asyncio.to_thread(_document, body)


def _document(body: bytes) -> tuple[EvaluationRequest, dict[str, Any]]:
    try:
        content = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        what = f"this is no JSON: {error.msg} (character {error.pos})"
        raise MalformedBody(what, field="body", expected=_EXAMPLE) from None
    if not isinstance(content, dict):
        raise UnprocessableInput("this is no object", field="body", expected=_EXAMPLE)
    rows = {name: content.pop(name) for name in ("instances", "labels") if name in content}
    try:
        document = EvaluationRequest.model_validate({**content, **{name: [] for name in rows}})
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        field = ".".join(["body", *map(str, first["loc"])])
        raise UnprocessableInput(first["msg"].removeprefix("Value error, "), field=field, expected=_EXAMPLE) from None
    for name, values in rows.items():
        if not isinstance(values, list):
            raise UnprocessableInput("this is no array", field=name, expected=_EXAMPLE)
    return document, rows


async def _told(run: _Run, parts: Iterable[Chunk]) -> AsyncIterator[bytes]:
    """How far it is after each part, and at the end the report, or what went wrong."""
    try:
        for part in parts:
            done = await run.judge(part)
            yield orjson.dumps({"done": done, "rows": run.num_rows}) + b"\n"
        report = await run.report()
        yield orjson.dumps({"report": report}) + b"\n"
    except ServoloopError as error:
        yield orjson.dumps({"error": {"type": error.kind, "detail": str(error)}}) + b"\n"


def _created(report: dict[str, Any]) -> Response:
    location = _PATH.format(model=report["model"]) + f"/{report['id']}"
    headers = {**VARY, "Location": location}
    return Response(orjson.dumps(report), status_code=201, media_type=_JSON, headers=headers)


def _shown(report: StoredReport) -> dict[str, Any]:
    """An EvaluationReport. Not through its shape: a figure without a value says that it has none, and why."""
    return {
        "id": report.id,
        "model": report.model,
        "time": written(milliseconds_of(report.id) / 1000),
        "dataset": report.dataset,
        "digest": report.digest,
        "rows": report.rows,
        **report.report,
    }
