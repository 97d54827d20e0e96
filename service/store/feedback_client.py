"""An http process's end of feedback: sends events to the recorder, and waits until they are durable."""

from collections.abc import Sequence
from pathlib import Path
from typing import Self

from service.errors import StoreUnavailable
from service.store.feedback import FeedbackEvent, Outcome
from service.store.messages import error_of
from service.wire.asking import Asker
from service.wire.frames import Kind

_TIMEOUT_SECONDS = 10.0


class FeedbackClient:
    """Use as an async context manager. Keeps one connection to the recorder, and opens it anew when that is replaced.

    What was under way then is sent again: the store takes each event's id once.
    """

    def __init__(self, path: Path, *, timeout: float = _TIMEOUT_SECONDS, max_waiting: int = 50_000) -> None:
        """`max_waiting`: of events that are not durable yet; what comes beyond is refused."""
        self._asker = Asker(path)
        self._timeout = timeout
        self._max_waiting = max_waiting
        self._num_waiting = 0

    async def __aenter__(self) -> Self:
        await self._asker.__aenter__()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._asker.__aexit__(*error)

    async def add(self, events: Sequence[FeedbackEvent]) -> list[Outcome]:
        """What became of each event, once those that are accepted are durable.

        They are committed together, and nothing else is meanwhile: hundreds are well, many thousands are not. Raises
        StoreUnavailable: whether they were kept is unknown then, and sending them again under the same idempotency keys
        is safe.
        """
        if self._num_waiting + len(events) > self._max_waiting:
            raise StoreUnavailable(f"{self._num_waiting} events wait to be kept; nothing of this was")
        self._num_waiting += len(events)
        try:
            said = {"events": [list(event) for event in events]}
            answer = await self._asker.ask(Kind.FEEDBACK, said, self._timeout)
        except TimeoutError:
            raise StoreUnavailable("the recorder does not answer; it may have kept this, or may still do so") from None
        finally:
            self._num_waiting -= len(events)
        if answer.kind is Kind.FAILED:
            raise error_of(answer.meta, "the recorder")
        return [Outcome(*fields) for fields in answer.meta["outcomes"]]
