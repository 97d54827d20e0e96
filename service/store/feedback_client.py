"""An http process's end of feedback: sends events to the recorder, and waits until they are durable."""

import asyncio
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from service.errors import StoreUnavailable
from service.store.feedback import FeedbackEvent, Outcome
from service.store.messages import error_of
from service.wire.frames import Frame, Kind
from service.wire.link import KeptLink

MOST_EVENTS = 1_000
"""In one call: they are committed together, and nobody else is meanwhile."""

_TIMEOUT_SECONDS = 10.0


class FeedbackClient:
    """Use as an async context manager. Keeps one connection to the recorder, and opens it anew when that is replaced.

    What was under way then is sent again: the store takes each event's id once.
    """

    def __init__(self, path: Path, *, timeout: float = _TIMEOUT_SECONDS, max_waiting: int = 50_000) -> None:
        """`max_waiting`: of events that are not durable yet; what comes beyond is refused."""
        self._link = KeptLink(path, self._receive, opened=self._send_all, lost=lambda: None)
        self._timeout = timeout
        self._max_waiting = max_waiting
        self._num_waiting = 0
        self._numbers = itertools.count(1)
        self._waiting: dict[int, tuple[Frame, asyncio.Future[list[Outcome]]]] = {}

    async def __aenter__(self) -> Self:
        self._link.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._link.stop()

    async def add(self, events: Sequence[FeedbackEvent]) -> list[Outcome]:
        """What became of each event, once those that are accepted are durable; MOST_EVENTS at most.

        Raises StoreUnavailable: whether they were kept is unknown then, and sending them again under the same
        idempotency keys is safe.
        """
        if self._num_waiting + len(events) > self._max_waiting:
            raise StoreUnavailable(f"{self._num_waiting} events wait to be kept; nothing of this was")
        number = next(self._numbers)
        frame = Frame(Kind.FEEDBACK, number, meta={"events": [list(event) for event in events]})
        answer: asyncio.Future[list[Outcome]] = asyncio.get_running_loop().create_future()
        self._waiting[number] = frame, answer
        self._num_waiting += len(events)
        self._link.send(frame)
        try:
            async with asyncio.timeout(self._timeout):
                return await answer
        except TimeoutError:
            raise StoreUnavailable("the recorder does not answer; it may have kept this, or may still do so") from None
        finally:
            del self._waiting[number]
            self._num_waiting -= len(events)

    def _send_all(self) -> None:
        for frame, _ in self._waiting.values():
            self._link.send(frame)

    def _receive(self, frame: Frame) -> None:
        _, answer = self._waiting.get(frame.request_id, (None, None))
        if answer is None or answer.done():
            return
        if frame.kind is Kind.FAILED:
            answer.set_exception(error_of(frame.meta))
        else:
            answer.set_result([Outcome(*fields) for fields in frame.meta["outcomes"]])
