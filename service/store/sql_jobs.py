"""Jobs in SQL, the same for SQLite and PostgreSQL; what becomes of a job is decided in service.store.jobs."""

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Engine,
    Select,
    and_,
    delete,
    func,
    insert,
    or_,
    select,
    update,
)

from service.errors import JobUnderWay, UnknownJob
from service.store.databases import portions, transaction
from service.store.jobs import (
    UNDER_WAY,
    Change,
    Ending,
    Job,
    JobEvent,
    JobKind,
    JobNote,
    JobState,
    NewJob,
    Progress,
    Renewal,
    finished,
    given_back,
    is_held,
    job_of,
    new,
    renewed,
    taken,
    to_be_cancelled,
)
from service.store.tables import job_events, jobs, revision

# Of a model, those that have ended, and lines of a job's log; the oldest make room.
_MOST_JOBS = 500
_MOST_EVENTS = 500

_COLUMNS = [jobs.c[name] for name in Job.__dataclass_fields__]
_EVENT_COLUMNS = [job_events.c[name] for name in JobEvent._fields]
_IS_UNDER_WAY = jobs.c.state.in_(UNDER_WAY)


class SqlJobs:
    """Over an engine that may only read, the verbs that change something fail.

    `clock` in seconds since 1970.
    """

    def __init__(self, engine: Engine, clock: Callable[[], float] = time.time) -> None:
        self._engine = engine
        self._clock = clock

    def get(self, job_id: str) -> Job | None:
        with transaction(self._engine) as connection:
            return _job(connection, jobs.c.id == job_id)

    def list(
        self, model: str | None, states: Collection[JobState] = (), *, limit: int, cursor: str | None = None
    ) -> tuple[Sequence[Job], str | None]:
        conditions: list[Any] = []
        if model is not None:
            conditions.append(jobs.c.model == model)
        if states:
            conditions.append(jobs.c.state.in_(states))
        if cursor is not None:
            conditions.append(jobs.c.id < cursor)
        # One more than asked for, to know whether there are more.
        query = select(*_COLUMNS).where(*conditions).order_by(jobs.c.id.desc()).limit(limit + 1)
        with transaction(self._engine) as connection:
            found = [job_of(row._asdict()) for row in connection.execute(query)]
        page = found[:limit]
        return page, page[-1].id if len(found) > limit else None

    def events(self, job_id: str, after: int = 0) -> Sequence[JobEvent]:
        columns = job_events.c
        query = select(*_EVENT_COLUMNS).where(columns.job == job_id, columns.number > after).order_by(columns.number)
        with transaction(self._engine) as connection:
            return [JobEvent(*row) for row in connection.execute(query)]

    def enqueue(self, job: NewJob, *, single_flight: bool = True) -> Job:
        with transaction(self._engine) as connection:
            # Of several recorders one at a time: what another one enqueues just now can't be seen yet.
            connection.execute(select(revision.c.value).with_for_update())
            if (there := _job(connection, jobs.c.id == job.id)) is not None:
                return there
            is_like_it = and_(jobs.c.model == job.model, jobs.c.kind == job.kind, _IS_UNDER_WAY)
            if single_flight and (other := _job(connection, is_like_it)) is not None:
                raise JobUnderWay(other.model, other.kind, other.id)
            queued, note = new(job, now := self._now())
            connection.execute(insert(jobs).values(single_flight=single_flight, **asdict(queued)))
            _write(connection, queued.id, note, now)
            _make_room(connection, job.model)
            return queued

    def lease(self, owner: str, *, seconds: float, kinds: Collection[JobKind]) -> Job | None:
        now = self._now()
        with transaction(self._engine) as connection:
            while (job := _free(connection, kinds, now)) is not None:
                change = taken(job, owner, now + _milliseconds(seconds), now)
                _put(connection, change, now)
                if not change.job.has_ended:
                    return change.job
            return None

    def renew(self, job_id: str, owner: str, *, seconds: float, progress: Progress | None = None) -> Renewal:
        with transaction(self._engine) as connection:
            job = _held(connection, job_id, owner)
            if job is None:
                return Renewal(is_held=False)
            _store(connection, renewed(job, self._now() + _milliseconds(seconds), progress))
            return Renewal(is_held=True, cancel_asked=job.cancel_asked)

    def note(self, job_id: str, owner: str, note: JobNote) -> bool:
        with transaction(self._engine) as connection:
            if _held(connection, job_id, owner) is None:
                return False
            _write(connection, job_id, note, self._now())
            return True

    def give_back(self, job_id: str, owner: str) -> bool:
        with transaction(self._engine) as connection:
            job = _held(connection, job_id, owner)
            if job is None:
                return False
            _put(connection, given_back(job, now := self._now()), now)
            return True

    def finish(
        self,
        job_id: str,
        owner: str,
        state: Ending,
        result: Mapping[str, Any] | None = None,
        error: str | None = None,
    ) -> bool:
        with transaction(self._engine) as connection:
            job = _locked(connection, job_id)
            if job is None or not is_held(job, owner):
                return job is not None and (job.owner, job.state) == (owner, state)
            now = self._now()
            _put(connection, finished(job, state, now, result, error), now)
            return True

    def ask_cancel(self, job_id: str, actor: str) -> Job:
        with transaction(self._engine) as connection:
            job = _locked(connection, job_id)
            if job is None:
                raise UnknownJob(job_id)
            change = to_be_cancelled(job, actor, now := self._now())
            if change is None:
                return job
            _put(connection, change, now)
            return change.job

    def _now(self) -> int:
        return _milliseconds(self._clock())


def _milliseconds(seconds: float) -> int:
    return round(seconds * 1000)


def _free(connection: Connection, kinds: Collection[JobKind], now: int) -> Job | None:
    """The oldest job that nobody works on, locked; one that another recorder gives out just now is none."""
    has_lapsed = and_(jobs.c.state == "running", jobs.c.leased_until <= now)
    query = select(*_COLUMNS).where(jobs.c.kind.in_(kinds), or_(jobs.c.state == "queued", has_lapsed))
    # Nobody waits for a row that is locked: whoever holds it gives it out, or goes on with it.
    return _one(connection, query.order_by(jobs.c.id).limit(1).with_for_update(skip_locked=True))


def _held(connection: Connection, job_id: str, owner: str) -> Job | None:
    """The job, locked, where it is this owner's to change."""
    job = _locked(connection, job_id)
    return job if job is not None and is_held(job, owner) else None


def _locked(connection: Connection, job_id: str) -> Job | None:
    """The job, which nobody else changes until the transaction's end."""
    return _one(connection, select(*_COLUMNS).where(jobs.c.id == job_id).with_for_update())


def _job(connection: Connection, condition: ColumnElement[bool]) -> Job | None:
    return _one(connection, select(*_COLUMNS).where(condition).limit(1))


def _one(connection: Connection, query: Select[Any]) -> Job | None:
    row = connection.execute(query).one_or_none()
    return None if row is None else job_of(row._asdict())


def _put(connection: Connection, change: Change, now: int) -> None:
    _store(connection, change.job)
    _write(connection, change.job.id, change.note, now)


def _store(connection: Connection, job: Job) -> None:
    connection.execute(update(jobs).where(jobs.c.id == job.id).values(asdict(job)))


def _write(connection: Connection, job_id: str, note: JobNote, now: int) -> None:
    """Add to the log of a job that is locked, so that its numbers have no gaps and grow in the order of commits."""
    is_its = job_events.c.job == job_id
    last = connection.execute(select(func.max(job_events.c.number)).where(is_its)).scalar_one()
    event = JobEvent(job_id, (last or 0) + 1, now, note.what, note.details)
    connection.execute(insert(job_events).values(event._asdict()))
    connection.execute(delete(job_events).where(is_its, job_events.c.number <= event.number - _MOST_EVENTS))


def _make_room(connection: Connection, model: str) -> None:
    ended = select(jobs.c.id).where(jobs.c.model == model, ~_IS_UNDER_WAY).order_by(jobs.c.id.desc())
    for portion in portions(connection.scalars(ended.offset(_MOST_JOBS)).all()):
        connection.execute(delete(job_events).where(job_events.c.job.in_(portion)))
        connection.execute(delete(jobs).where(jobs.c.id.in_(portion)))
