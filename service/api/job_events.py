"""A job's log as server-sent events, from any line on and until the job has ended.

    id: 3
    event: log
    data: {"number": 3, "time": "2026-01-31T08:00:00.000+00:00", "what": "epoch", "details": {...}}

    id: 3
    event: progress
    data: {"phase": "training", "done": 3, "total": 10, "figures": {"loss": 0.25}}

An id is the number of the last line that was sent, which is where Last-Event-ID goes on.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import orjson

from service.errors import StoreUnavailable
from service.learning.instants import written
from service.store.jobs import Job, JobEvent, JobReader, Progress

# The head waits for the first bytes of the body, and there may be no line for long.
_OPENING = b": what happened follows\n\n"
_HEARTBEAT = b": nothing new\n\n"


@dataclass(frozen=True, slots=True)
class Pace:
    """In seconds: how often a job is looked at, and after how long a silence it is said that the connection lives."""

    look: float = 1.0
    heartbeat: float = 15.0
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], Awaitable[object]] = asyncio.sleep


async def told(
    jobs: JobReader, job_id: str, after: int, is_over: Callable[[], bool], pace: Pace
) -> AsyncIterator[bytes]:
    """What happens to a job behind a line of its log, until it has ended, or until `is_over`.

    While it waits it holds nothing but its connection: the store is asked again and again, because jobs are rare and
    long. While the store can't be read, nothing happens.
    """
    yield _OPENING
    spoke = pace.clock()
    shown: Progress | None = None
    while not is_over():
        news: list[bytes] = []
        has_ended = False
        if (looked := await _look(jobs, job_id, after)) is not None:
            job, events = looked
            has_ended = job is None or job.has_ended  # one that is gone has made room, long after its end
            for event in events:
                after = event.number
                news.append(_event(after, "log", line(event)))
            if job is not None and job.progress is not None and job.progress != shown:
                shown = job.progress
                news.append(_event(after, "progress", asdict(shown)))
        if not news and not has_ended and pace.clock() - spoke >= pace.heartbeat:
            news.append(_HEARTBEAT)
        if news:
            spoke = pace.clock()
            yield b"".join(news)
        if has_ended:
            return
        await pace.sleep(pace.look)


def line(event: JobEvent) -> dict[str, Any]:
    """A line of a job's log as clients see it."""
    return {
        "number": event.number,
        "time": written(event.time / 1000),
        "what": event.what,
        "details": event.details,
    }


async def _look(jobs: JobReader, job_id: str, after: int) -> tuple[Job | None, Sequence[JobEvent]] | None:
    """A job and what is new in its log; None while the store can't be read."""

    def look() -> tuple[Job | None, Sequence[JobEvent]]:
        # In this order: of a job that has ended, the last line is there.
        return jobs.get(job_id), jobs.events(job_id, after)

    try:
        return await asyncio.to_thread(look)
    except StoreUnavailable:
        return None


def _event(number: int, kind: str, data: dict[str, Any]) -> bytes:
    return b"id: %d\nevent: %s\ndata: %s\n\n" % (number, kind.encode(), orjson.dumps(data))
