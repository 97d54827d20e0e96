"""Jobs: what to send, how to read what comes back, and how one is followed to its end."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypedDict
from urllib.parse import quote, urlencode

import httpx

from servoloop.errors import ApiError, ConnectionFailed, api_error, retry_after
from servoloop.instances import to_json
from servoloop.policy import Call, Outcome, Policy
from servoloop.results import pick

_ENDINGS = ("succeeded", "failed", "cancelled")
_PAUSE = 1.0
# The service says something every 15 seconds.
_SILENCE = 45.0


@dataclass(frozen=True, slots=True)
class JobProgress:
    """How far a job is: `done` steps of a phase, of `total` where that is known, and what was measured last."""

    phase: str
    done: int
    total: int | None
    figures: Mapping[str, float | None]


@dataclass(frozen=True, slots=True)
class Job:
    """A job as it stands; `state` is queued, running, succeeded, failed or cancelled. Times are ISO 8601 texts."""

    id: str
    model: str
    kind: str
    state: str
    spec: Mapping[str, Any]
    reason: str
    actor: str
    principal: str
    created: str
    started: str | None
    ended: str | None
    attempts: int
    cancel_asked: bool
    progress: JobProgress | None
    result: Mapping[str, Any] | None
    error: str | None

    @property
    def has_ended(self) -> bool:
        return self.state in _ENDINGS


@dataclass(frozen=True, slots=True)
class Jobs:
    """Some jobs, the newest first; `next_cursor` asks for those after them, None where there are no more."""

    jobs: tuple[Job, ...]
    next_cursor: str | None


@dataclass(frozen=True, slots=True)
class JobEvent:
    """A line of a job's log. `number` counts from 1; `time` is an ISO 8601 text."""

    number: int
    time: str
    what: str
    details: Mapping[str, Any]


class RetrainOptions(TypedDict, total=False):
    """How a model shall be retrained: from the start (`full`), for so many `epochs`, with the recipe's learning rate
    times `learning_rate_factor`, on a share of older data (`replay`), and why."""

    full: bool
    epochs: int | None
    learning_rate_factor: float | None
    replay: float
    reason: str


def retrain(model: str, options: RetrainOptions) -> Call[Job]:
    headers = {"Content-Type": "application/json"}
    # What came of a request that was not answered is unknown, and asked again it may find its own job under way.
    path = f"/v1/models/{quote(model, safe='')}/retrain"
    return Call("POST", path, read_job, to_json(options), headers, answers=(202,), retried=False)


def job(job_id: str) -> Call[Job]:
    return Call("GET", _path(job_id), read_job)


def jobs(model: str | None, states: Sequence[str], limit: int, cursor: str | None) -> Call[Jobs]:
    wanted = [("model", model), *(("state", state) for state in states), ("limit", limit), ("cursor", cursor)]
    query = urlencode([(name, value) for name, value in wanted if value is not None])
    return Call("GET", f"/v1/jobs?{query}", read_jobs)


def cancel(job_id: str) -> Call[Job]:
    return Call("POST", f"{_path(job_id)}/cancel", read_job, answers=(200, 202))


def read_job(response: httpx.Response) -> Job:
    """Raises ValueError, KeyError, TypeError or AttributeError for what is no job."""
    return _job(response.json())


def read_jobs(response: httpx.Response) -> Jobs:
    """Of GET /v1/jobs."""
    document = response.json()
    return Jobs(tuple(map(_job, document["jobs"])), document["next_cursor"])


class Following:
    """A job that is followed. It decides and reads; whoever drives it connects, waits and hands it each line.

    A stream that breaks off is taken up where it was.
    """

    def __init__(self, job_id: str, after: int, policy: Policy) -> None:
        self._job_id = job_id
        self._after = after
        self._policy = policy
        self._retries = policy.retries
        self._fields: dict[str, str] = {}
        self._is_answered = False
        self._has_ended = False

    def request(self) -> dict[str, Any]:
        """Arguments of httpx's `stream`."""
        headers = {"Accept": "text/event-stream"}
        if self._after:
            headers["Last-Event-ID"] = str(self._after)
        timeout = httpx.Timeout(self._policy.timeout, read=_SILENCE)
        return {"method": "GET", "url": f"{_path(self._job_id)}/events", "headers": headers, "timeout": timeout}

    def take(self, line: str) -> JobEvent | JobProgress | None:
        """What a line of the stream completes. Raises ApiError for what no service of ours sends."""
        if line:
            name, _, value = line.partition(": ")
            self._fields[name] = value
            return None
        fields, self._fields = self._fields, {}
        self._is_answered = self._is_answered or "" in fields or "data" in fields
        if "data" not in fields:
            return None  # a comment says that the service lives
        try:
            data = json.loads(fields["data"])
            if fields["event"] == "progress":
                return pick(JobProgress, data)
            event = pick(JobEvent, data)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            what = f"{self._policy.url} did not answer as a Servoloop service does"
            raise ApiError(200, None, what) from error
        self._after = event.number
        self._has_ended = event.what in _ENDINGS
        return event

    def pause(self, outcome: Outcome) -> float | None:
        """Seconds until it is asked again, its stream being over; None where the job has ended.

        Raises ConnectionFailed or ApiError.
        """
        if self._is_answered:
            self._retries = self._policy.retries + 1  # that it broke off then is no attempt that failed
        self._fields, self._is_answered = {}, False
        if self._has_ended or (isinstance(outcome, httpx.Response) and outcome.status_code == 204):
            return None
        wait = _PAUSE
        if isinstance(outcome, httpx.Response) and outcome.status_code != 200:
            if outcome.status_code != 503 or not self._retries:
                raise api_error(outcome)
            wait = max(retry_after(outcome) or 0.0, wait)
        elif not self._retries:
            raise ConnectionFailed(f"{self._policy.url} tells no more of the job")
        self._retries -= 1
        return wait


def _path(job_id: str) -> str:
    return f"/v1/jobs/{quote(job_id, safe='')}"


def _job(document: Mapping[str, Any]) -> Job:
    progress = document["progress"]
    return pick(Job, {**document, "progress": None if progress is None else pick(JobProgress, progress)})
