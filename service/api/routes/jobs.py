"""Work that is done for a model: asked for, looked at, followed, and cancelled."""

import asyncio
import re
from datetime import UTC, datetime
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import StreamingResponse
from uuid_utils import uuid7

from service.api.bodies import RESPONSES, read_as, shows_body, small_body
from service.api.deps import UseServices
from service.api.exchange import Exchange
from service.api.job_events import Pace, told
from service.api.job_schemas import JobFilters, JobInfo, JobList, JobProgress, RetrainRequest, UnderWay
from service.api.schemas import says_problem
from service.errors import MalformedHeader, UnknownJob
from service.store.jobs import Job, JobReader, NewJob

router = APIRouter(tags=["jobs"])

_JOB = "/v1/jobs/{job}"
_EVENTS = "text/event-stream"
_EXAMPLE = '{"full": false, "replay": 0.5, "reason": "the labels of last week"}'
# As many digits as the store's numbers have.
_NUMBER = re.compile(r"[0-9]{1,9}\Z")
_UNREADABLE = says_problem("The store can't be read just now: try again after Retry-After seconds")
_UNKNOWN: dict[int | str, dict[str, Any]] = {404: says_problem("There is no such job"), 503: _UNREADABLE}
_SAYS: dict[int | str, dict[str, Any]] = {
    **RESPONSES,
    404: says_problem("There is no such model"),
    409: says_problem("The model is being retrained already; `job` is the id of that", UnderWay),
    503: says_problem("It can't be kept just now, or whether it was is unknown: look before asking again"),
}
_CANCEL_SAYS: dict[int | str, dict[str, Any]] = {
    202: {"description": "Who works on it will be told, and ends it", "model": JobInfo},
    404: says_problem("There is no such job"),
    503: says_problem("It can't be kept just now, or whether it was is unknown: ask again"),
}
_EVENTS_SAYS: dict[int | str, dict[str, Any]] = {
    200: {"content": {_EVENTS: {"schema": {"type": "string", "description": "log lines, and how far it is"}}}},
    204: {"description": "The job has ended, and all of its log was sent"},
    400: says_problem("Last-Event-ID is none of ours"),
    **_UNKNOWN,
}


async def _jobs(services: UseServices) -> JobReader:
    assert services.jobs is not None  # or these routes are not there
    return services.jobs


async def _pace() -> Pace:
    return Pace()


UseJobs = Annotated[JobReader, Depends(_jobs)]


@router.post(
    "/v1/models/{model}/retrain",
    status_code=202,
    openapi_extra=shows_body(RetrainRequest, optional=True),
    responses=_SAYS,
)
async def retrain(model: str, request: Request, response: Response, services: UseServices) -> JobInfo:
    """Have a model trained on what became known of its predictions. One such job of a model is under way at a time."""
    caller = Exchange.of(request.scope).caller()
    with small_body(request, services) as incoming:
        wanted = await read_as(RetrainRequest, incoming, example=_EXAMPLE, optional=True)
        name = services.catalog().model(model).name
        who, spec = caller.principal.name, wanted.model_dump(exclude={"reason"})
        job = await services.changes.enqueue_job(
            NewJob(str(uuid7()), name, "retrain", spec, wanted.reason, actor=who, principal=who)
        )
    response.headers["Location"] = _JOB.format(job=job.id)
    return _shown(job)


@router.get("/v1/jobs", responses={422: says_problem("A filter is malformed"), 503: _UNREADABLE})
async def list_jobs(wanted: Annotated[JobFilters, Query()], jobs: UseJobs) -> JobList:
    """Jobs, the newest first. Where there are more, `next_cursor` asks for them as `cursor`."""
    cursor = str(wanted.cursor) if wanted.cursor else None
    found, after = await asyncio.to_thread(jobs.list, wanted.model, wanted.state, limit=wanted.limit, cursor=cursor)
    return JobList(jobs=[_shown(job) for job in found], next_cursor=after)


@router.get(_JOB, responses=_UNKNOWN)
async def get_job(job: str, jobs: UseJobs) -> JobInfo:
    """One job: how it stands, and what came of it."""
    return _shown(await _find(jobs, job))


@router.post(_JOB + "/cancel", responses=_CANCEL_SAYS)
async def cancel_job(job: str, request: Request, response: Response, services: UseServices) -> JobInfo:
    """Have a job end: at once where nobody works on it yet. One that has ended stays as it is, with its log."""
    actor = Exchange.of(request.scope).caller().principal.name
    cancelled = await services.changes.cancel_job(_id(job), actor)
    response.status_code = 200 if cancelled.has_ended else 202
    return _shown(cancelled)


@router.get(_JOB + "/events", responses=_EVENTS_SAYS, response_class=StreamingResponse)
async def follow_job(
    job: str, request: Request, services: UseServices, jobs: UseJobs, pace: Annotated[Pace, Depends(_pace)]
) -> Response:
    """A job's log, line by line as it is written, and how far the job is; ends when the job has ended.

    Server-sent events: `log`, whose data is a line with its number, time, what and details, and `progress`. Each has
    the number of the last line as its id; with `Last-Event-ID` only what follows is sent. A stream that ends before
    one of the lines succeeded, failed or cancelled was broken off: ask again.
    """
    after = _last_event_id(request)
    found = await _find(jobs, job)
    if found.has_ended and not await asyncio.to_thread(jobs.events, found.id, after):
        return Response(status_code=204)  # who asks again by itself, as browsers do, stops at this
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    stream = told(jobs, found.id, after, lambda: services.draining.begun, pace)
    return StreamingResponse(stream, media_type=_EVENTS, headers=headers)


def _last_event_id(request: Request) -> int:
    """The line that the caller has had. Raises MalformedHeader."""
    sent = Exchange.of(request.scope).header(b"last-event-id")
    if not sent:
        return 0
    if not _NUMBER.match(sent):
        raise MalformedHeader("Last-Event-ID", "this is no id of an event", "the id of one that came before")
    return int(sent)


async def _find(jobs: JobReader, job: str) -> Job:
    """Raises UnknownJob."""
    found = await asyncio.to_thread(jobs.get, _id(job))
    if found is None:
        raise UnknownJob(job)
    return found


def _id(job: str) -> str:
    """As the store writes it. Raises UnknownJob for what is no id at all."""
    try:
        return str(UUID(job))
    except ValueError:
        raise UnknownJob(job) from None


def _shown(job: Job) -> JobInfo:
    progress = job.progress
    return JobInfo(
        id=job.id,
        model=job.model,
        kind=job.kind,
        state=job.state,
        spec=dict(job.spec),
        reason=job.reason,
        actor=job.actor,
        principal=job.principal,
        created=_time(job.created),
        started=None if job.started is None else _time(job.started),
        ended=None if job.ended is None else _time(job.ended),
        attempts=job.attempts,
        cancel_asked=job.cancel_asked,
        progress=None if progress is None else JobProgress.model_validate(progress, from_attributes=True),
        result=None if job.result is None else dict(job.result),
        error=job.error,
    )


def _time(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(milliseconds / 1000, UTC)
