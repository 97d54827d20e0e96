"""A request whose body is still to be read, whichever way it came."""

import asyncio
from collections.abc import AsyncIterator, Collection
from typing import Self

from starlette.datastructures import QueryParams

from service.api.buffers import BodyBudget
from service.api.compression import decompressed
from service.api.exchange import Exchange
from service.errors import BodyTooLarge, BodyTooSlow, ClientLeft, MalformedBody, UnsupportedMediaType
from service.serving.parameters import Query

# Under a server other than ours, a watch is a task, which is started only for those who wait.
_WATCH_AFTER_SECONDS = 0.005


async def body_in_chunks(exchange: Exchange, limit: int | None, *, patience: float) -> AsyncIterator[bytes]:
    """A body as it comes, of which nobody holds more than a piece; `patience`: seconds for each.

    Raises BodyTooLarge, BodyTooSlow, UnsupportedMediaType or ClientLeft.
    """
    check_encoding(exchange, ())
    if limit is not None and int(exchange.headers.get(b"content-length", b"0")) > limit:
        raise BodyTooLarge(limit)
    size, more = 0, True
    while more:
        try:
            async with asyncio.timeout(patience):
                message = await exchange.receive()
        except TimeoutError:
            raise BodyTooSlow from None
        if message["type"] == "http.disconnect":
            raise ClientLeft
        chunk = message.get("body", b"")
        more = message.get("more_body", False)
        size += len(chunk)
        if limit is not None and size > limit:
            raise BodyTooLarge(limit)
        yield chunk


def check_encoding(exchange: Exchange, encodings: Collection[str]) -> str | None:
    """In what a body is compressed; None where it isn't. Raises UnsupportedMediaType unless it is one of these."""
    encoding = exchange.header(b"content-encoding")
    if encoding == "identity":
        return None
    if encoding is not None and encoding not in encodings:
        what = f"{encoding[:50]!r} is not read"
        expected = "a body that is not compressed" + "".join(f", or {one}" for one in encodings)
        raise UnsupportedMediaType(what, field="Content-Encoding", expected=expected)
    return encoding


class IncomingRequest:
    """A request whose body is read when it is wanted, and no further than it may go.

    Use as a context manager around its handling: the body counts in the budget until the end of it. Once the body is
    read, the handling is cancelled when the client leaves, and ends with ClientLeft.
    """

    __slots__ = ("_budget", "_encodings", "_exchange", "_handler", "_held", "_left", "_limit", "_timer", "_watch")

    def __init__(self, exchange: Exchange, limit: int, budget: BodyBudget, *, encodings: Collection[str] = ()) -> None:
        """`encodings`: in which the body may be compressed. The limit counts for what comes out, too."""
        self._exchange = exchange
        self._limit = limit
        self._budget = budget
        self._encodings = encodings
        self._held = 0
        self._handler: asyncio.Task[object] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._watch: asyncio.Task[None] | None = None
        self._left = False

    def __enter__(self) -> Self:
        self._handler = asyncio.current_task()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._budget.give_back(self._held)
        if self._exchange.departure is not None:
            self._exchange.departure.forget()
        if self._timer is not None:
            self._timer.cancel()
        if self._watch is not None:
            self._watch.cancel()
        if self._left and self._handler is not None and self._handler.uncancel() == 0 and kind is not None:
            raise ClientLeft from None

    @property
    def content_type(self) -> str | None:
        return self._exchange.header(b"content-type")

    @property
    def json_length(self) -> str | None:
        """Of the Open Inference Protocol: how many bytes of the body are JSON."""
        return self._exchange.header(b"inference-header-content-length")

    @property
    def query(self) -> Query:
        query_string = self._exchange.query_string
        return QueryParams(query_string).multi_items() if query_string else ()

    def read_at_once(self, *, may_be_empty: bool = False, expected: str = "the rows to predict") -> bytes | None:
        """The body, if all of it has arrived; else None, and `read` waits for it. Raises as `read` does."""
        if self._check_head() is not None:
            return None
        body = self._exchange.whole_body()
        if body is None:
            return None
        self._count(len(body))
        return self._read(body, may_be_empty, expected)

    async def read(self, *, may_be_empty: bool = False, expected: str = "the rows to predict") -> bytes:
        """The body, counted while it streams in.

        Raises BodyTooLarge, BuffersFull, UnsupportedMediaType, MalformedBody or ClientLeft.
        """
        encoding = self._check_head()
        chunks, more = [], True
        while more:
            message = await self._exchange.receive()
            if message["type"] == "http.disconnect":
                raise ClientLeft
            chunk = message.get("body", b"")
            more = message.get("more_body", False)
            self._count(len(chunk))
            chunks.append(chunk)
        body = b"".join(chunks)
        if encoding is not None:
            body = await self._decompressed(body, encoding)
        return self._read(body, may_be_empty, expected)

    async def _decompressed(self, packed: bytes, encoding: str) -> bytes:
        pieces, size = [], 0
        async for piece in decompressed(packed, encoding):
            size += len(piece)
            if size > self._limit:
                raise BodyTooLarge(self._limit)
            self._budget.take(len(piece))
            self._held += len(piece)
            pieces.append(piece)
        return b"".join(pieces)

    def _check_head(self) -> str | None:
        """In what the body is compressed; None where it isn't."""
        encoding = check_encoding(self._exchange, self._encodings)
        if int(self._exchange.headers.get(b"content-length", b"0")) > self._limit:
            raise BodyTooLarge(self._limit)
        return encoding

    def _count(self, num_bytes: int) -> None:
        if self._held + num_bytes > self._limit:
            raise BodyTooLarge(self._limit)
        self._budget.take(num_bytes)
        self._held += num_bytes

    def _read(self, body: bytes, may_be_empty: bool, expected: str) -> bytes:
        if not body and not may_be_empty:
            raise MalformedBody("the body is empty", field="body", expected=expected)
        if self._exchange.departure is not None:
            self._exchange.departure.watch(self._leave)
        else:
            self._timer = asyncio.get_running_loop().call_later(_WATCH_AFTER_SECONDS, self._start_watch)
        return body

    def _start_watch(self) -> None:
        self._watch = asyncio.get_running_loop().create_task(self._cancel_when_left())

    async def _cancel_when_left(self) -> None:
        while (await self._exchange.receive())["type"] != "http.disconnect":
            pass
        self._leave()

    def _leave(self) -> None:
        if self._handler is not None:
            self._left = True
            self._handler.cancel()
