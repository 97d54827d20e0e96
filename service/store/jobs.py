"""Work that the loop process does for a model: what a job is, how it goes from state to state, and its verbs.

    queued ──lease──> running ──finish──> succeeded | failed | cancelled
       │ └──give_back────┘
       └──ask_cancel──> cancelled

Who works on a job holds a lease of it, which runs out unless it is renewed. A job whose lease ran out is given to
whoever asks next, and after `MOST_ATTEMPTS` to nobody any more. From then on whoever held it before changes nothing:
each change is checked against the lease's owner and not against a time, so that clocks that differ, or a process that
was only thought dead, can make work be done twice, but never end a job twice.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NamedTuple, Protocol

JobKind = Literal["retrain"]
JobState = Literal["queued", "running", "succeeded", "failed", "cancelled"]
Ending = Literal["succeeded", "failed", "cancelled"]

UNDER_WAY: tuple[JobState, ...] = ("queued", "running")
MOST_ATTEMPTS = 3

# Of a message: one that an exception made may be of any length.
_MOST_CHARACTERS = 10_000


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a job is: `done` of `total` steps of a phase, where the total is known, and what was measured last."""

    phase: str
    done: int = 0
    total: int | None = None
    figures: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class NewJob:
    """What is asked for. `id` is a UUIDv7 of whoever asks: asking again under the same id asks for the same job.

    `spec` says what shall be done, `reason` why; `actor` is the person or the trigger that wants it.
    """

    id: str
    model: str
    kind: JobKind
    spec: Mapping[str, Any]
    reason: str
    actor: str
    principal: str


@dataclass(frozen=True, slots=True)
class Job:
    """A job as it stands. Times in whole milliseconds since 1970.

    `owner` works on it, or ended it, and holds it at least until `leased_until`; it is the `attempts`-th to do so.
    """

    id: str
    model: str
    kind: JobKind
    state: JobState
    spec: Mapping[str, Any]
    reason: str
    actor: str
    principal: str
    created: int
    started: int | None = None
    ended: int | None = None
    owner: str | None = None
    leased_until: int | None = None
    attempts: int = 0
    cancel_asked: bool = False
    progress: Progress | None = None
    result: Mapping[str, Any] | None = None
    error: str | None = None

    @property
    def has_ended(self) -> bool:
        return self.state not in UNDER_WAY

    def is_free(self, now: int) -> bool:
        """Whether nobody works on it, as far as can be known, and somebody should."""
        return self.state == "queued" or (self.state == "running" and (self.leased_until or 0) <= now)


def job_of(facts: Mapping[str, Any]) -> Job:
    """A job of its fields by name, as `asdict` gives them. Raises TypeError where they are others."""
    progress = facts["progress"]
    return Job(**{**facts, "progress": None if progress is None else Progress(**progress)})


class JobNote(NamedTuple):
    """Something that happened to a job, for its log: `what` is a word, at most 64 characters, and no state."""

    what: str
    details: Mapping[str, Any]


class JobEvent(NamedTuple):
    """A line of a job's log. `number` counts from 1 within the job; `time` in whole milliseconds since 1970."""

    job: str
    number: int
    time: int
    what: str
    details: Mapping[str, Any]


class Renewal(NamedTuple):
    """Whether a job is still its owner's, and whether somebody wants it cancelled."""

    is_held: bool
    cancel_asked: bool = False


class Change(NamedTuple):
    """A job after a transition, and what its log says of it."""

    job: Job
    note: JobNote


def new(wanted: NewJob, now: int) -> Change:
    """A job that waits for somebody to do it."""
    job = Job(
        wanted.id,
        wanted.model,
        wanted.kind,
        "queued",
        wanted.spec,
        _clean(wanted.reason),
        wanted.actor,
        wanted.principal,
        created=now,
    )
    return Change(job, JobNote("queued", {"actor": wanted.actor, "reason": job.reason}))


def taken(job: Job, owner: str, until: int, now: int) -> Change:
    """A free job, given to an owner; or ended, where it was to be cancelled, or was given out too often."""
    if job.cancel_asked:
        return _ended(replace(job, owner=None), "cancelled", now, None, None)
    if job.attempts >= MOST_ATTEMPTS:
        error = f"given up after {job.attempts} attempts: each time whoever worked on it was heard of no more"
        return _ended(replace(job, owner=None), "failed", now, None, error)
    attempt = job.attempts + 1
    running = replace(
        job,
        state="running",
        started=now if job.started is None else job.started,
        owner=owner,
        leased_until=until,
        attempts=attempt,
    )
    what = "started" if job.started is None else "resumed"
    return Change(running, JobNote(what, {"owner": owner, "attempt": attempt}))


def is_held(job: Job, owner: str) -> bool:
    """Whether a job is this owner's to change. A lease that ran out is, until somebody else takes the job."""
    return job.state == "running" and job.owner == owner


def renewed(job: Job, until: int, progress: Progress | None) -> Job:
    """A job that its owner goes on with."""
    return replace(job, leased_until=until, progress=progress or job.progress)


def given_back(job: Job, now: int) -> Change:
    """A job that its owner does not go on with, though nothing is wrong with it: the attempt does not count."""
    if job.cancel_asked:
        return _ended(job, "cancelled", now, None, None)
    waiting = replace(job, state="queued", owner=None, leased_until=None, attempts=job.attempts - 1)
    return Change(waiting, JobNote("given_back", {"owner": job.owner}))


def finished(
    job: Job, state: Ending, now: int, result: Mapping[str, Any] | None = None, error: str | None = None
) -> Change:
    """A job that its owner ends."""
    return _ended(job, state, now, result, error)


def to_be_cancelled(job: Job, actor: str, now: int) -> Change | None:
    """A job that somebody wants no more: ended where nobody works on it; None where there is nothing to change."""
    if job.is_free(now):
        change = _ended(replace(job, owner=None, cancel_asked=True), "cancelled", now, None, None)
        return change._replace(note=JobNote("cancelled", {"actor": actor}))
    if job.has_ended or job.cancel_asked:
        return None
    return Change(replace(job, cancel_asked=True), JobNote("cancel_asked", {"actor": actor}))


def _ended(job: Job, state: Ending, now: int, result: Mapping[str, Any] | None, error: str | None) -> Change:
    said = None if error is None else _clean(error)
    job = replace(job, state=state, ended=now, leased_until=None, result=result, error=said)
    return Change(job, JobNote(state, {} if said is None else {"error": said}))


def _clean(text: str) -> str:
    """As PostgreSQL takes it, which has no NUL, and no longer than anybody reads."""
    return text.replace("\x00", "")[:_MOST_CHARACTERS]


class JobReader(Protocol):
    """Each verb raises StoreUnavailable while the store can't be read."""

    def get(self, job_id: str) -> Job | None: ...

    def list(
        self, model: str | None, states: Collection[JobState] = (), *, limit: int, cursor: str | None = None
    ) -> tuple[Sequence[Job], str | None]:
        """Jobs of a model or of all, in these states or in any, the newest first, and the cursor of the next ones."""
        ...

    def events(self, job_id: str, after: int = 0) -> Sequence[JobEvent]:
        """What is left of a job's log behind this number, in its order."""
        ...


class Jobs(JobReader, Protocol):
    """What the recorder alone may do. Each verb is one transaction, and raises StoreUnavailable.

    None raises the control state's revision: nobody routes or loads by jobs. Leases go by the recorder's clock, so
    that those of several machines need not agree with it.
    """

    def enqueue(self, job: NewJob, *, single_flight: bool = True) -> Job:
        """Have a job done; one that is there already under this id is returned as it is.

        Raises JobUnderWay where a job of its model and kind waits or runs, unless not `single_flight`.
        """
        ...

    def lease(self, owner: str, *, seconds: float, kinds: Collection[JobKind]) -> Job | None:
        """Give the oldest job that nobody works on to this owner for so long; None where there is none.

        `owner` names a process for as long as it lives, and no other one, on whatever machine. Jobs that were given out
        too often, or that shall be cancelled, end here.
        """
        ...

    def renew(self, job_id: str, owner: str, *, seconds: float, progress: Progress | None = None) -> Renewal:
        """Hold a job for so long from now on, and say how far it is. Nothing changes where it is not the owner's."""
        ...

    def note(self, job_id: str, owner: str, note: JobNote) -> bool:
        """Write to a job's log, in which the oldest make room; False, and nothing, where it is not the owner's."""
        ...

    def give_back(self, job_id: str, owner: str) -> bool:
        """Let somebody else go on with a job, as a process does that is told to stop; False where it is not the
        owner's. The attempt does not count. Where the job shall be cancelled, it ends."""
        ...

    def finish(
        self,
        job_id: str,
        owner: str,
        state: Ending,
        result: Mapping[str, Any] | None = None,
        error: str | None = None,
    ) -> bool:
        """End a job; False, and nothing is changed, where it is not the owner's any more.

        True too where this owner has ended it so before: who lost the answer may ask again.
        """
        ...

    def ask_cancel(self, job_id: str, actor: str) -> Job:
        """Have a job end: at once where nobody works on it, else when its owner hears of it as it renews its lease.

        One that has ended stays as it is. Raises UnknownJob.
        """
        ...
