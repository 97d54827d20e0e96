"""Takes what is said of predictions, and has it kept."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from typing import Any, Protocol

import orjson

from service.domain import Principal
from service.errors import FeedbackConflict, InvalidInput, MalformedBody, UnprocessableInput
from service.learning.items import EXAMPLE, Listener, Told
from service.learning.lines import grouped_lines
from service.process.tasks import stop_tasks
from service.store.feedback import FeedbackEvent, Outcome

MAX_LINE_BYTES = 64 << 10

_GROUP = 500


class Keeping(Protocol):
    """Who makes events durable."""

    async def add(self, events: Sequence[FeedbackEvent]) -> list[Outcome]: ...


class Intake:
    """Takes items, in groups of which each is made durable together."""

    def __init__(self, listener: Listener, keeping: Keeping, refused: Callable[[int], None]) -> None:
        """`refused` is told of how many items no event was made."""
        self._listener = listener
        self._keeping = keeping
        self._refused = refused

    async def take(self, documents: Sequence[Any], principal: Principal, key: str | None = None) -> list[Outcome]:
        """What became of each item. `key`: under which all of it is kept once. Raises StoreUnavailable."""
        outcomes: list[Outcome] = []
        for start in range(0, len(documents), _GROUP):
            told = [
                self._listener.tell(document, principal, _key_of(number, key))
                for number, document in enumerate(documents[start : start + _GROUP], start)
            ]
            outcomes += await self._keep(told)
        return outcomes

    async def take_one(self, document: Any, principal: Principal, key: str | None = None) -> Outcome:
        """What became of one item. Raises UnprocessableInput, FeedbackConflict or StoreUnavailable."""
        told = self._listener.tell(document, principal, _key_of(0, key))
        if told.error is not None:
            self._refused(1)
            raise UnprocessableInput(told.error, field=told.field or "body", expected=f"something like {EXAMPLE}")
        [outcome] = await self._keep([told])
        if outcome.status == "rejected":
            raise UnprocessableInput(outcome.error or "", field=outcome.field)
        if outcome.status == "conflict":
            raise FeedbackConflict(outcome.error or "")
        return outcome

    async def take_lines(
        self, chunks: AsyncIterator[bytes], principal: Principal, key: str | None = None
    ) -> AsyncGenerator[list[Outcome], None]:
        """What became of items that stream in, one a line. Raises MalformedBody at a line that is too long.

        While a group is made durable, the next one is read. Where a body is refused in its middle, what became of the
        groups before is told all the same.
        """
        kept: asyncio.Task[list[Outcome]] | None = None
        count = 0
        try:
            async for lines in grouped_lines(chunks, group=_GROUP, most_bytes=MAX_LINE_BYTES):
                told = [
                    self._tell_line(line, principal, _key_of(number, key))
                    for number, line in enumerate(lines, start=count)
                ]
                count += len(lines)
                if kept is not None:
                    yield await kept
                kept = asyncio.create_task(self._keep(told))
            if kept is not None:
                yield await kept
        except InvalidInput:
            if kept is not None:
                yield await kept
            raise
        finally:
            if kept is not None:
                await stop_tasks(kept)

    def _tell_line(self, line: bytes, principal: Principal, key: str | None) -> Told:
        try:
            return self._listener.tell(orjson.loads(line), principal, key)
        except orjson.JSONDecodeError as error:
            return Told(None, f"this is no JSON: {error.msg} (character {error.pos})")

    async def _keep(self, told: Sequence[Told]) -> list[Outcome]:
        events = [one.event for one in told if one.event is not None]
        self._refused(len(told) - len(events))
        outcomes = iter(await self._keeping.add(events) if events else [])
        return [one.refused() if one.event is None else next(outcomes) for one in told]


def _key_of(number: int, key: str | None) -> str | None:
    """An item's key, by its place under the key of a whole request: the same as JSON and as a line."""
    return f"{key}#{number}" if key is not None and number else key


def documents_in(body: bytes) -> list[Any]:
    """The items of a JSON body: an array of them, or one. Raises MalformedBody."""
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        what = f"this is no JSON: {error.msg} (character {error.pos})"
        raise MalformedBody(what, field="body", expected=EXAMPLE) from None
    documents = document if isinstance(document, list) else [document]
    if not documents:
        raise MalformedBody("there is nothing in it", field="body", expected=f"at least one of {EXAMPLE}")
    return documents
