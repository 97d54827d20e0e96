"""A request and its answer, whichever way it came: through ASGI, or straight from its connection."""

import asyncio
import re
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple, Self

from starlette.datastructures import QueryParams
from starlette.types import Receive, Scope, Send
from uuid_utils import uuid7

from service.api.buffers import BodyBudget
from service.domain import ANONYMOUS, Caller
from service.errors import BodyTooLarge, ClientLeft, MalformedBody, MalformedHeader, UnsupportedMediaType
from service.serving.parameters import PRINTABLE, Query

_VISIBLE = re.compile(rb"[\x21-\x7e]{1,128}\Z")
_KEY = re.compile(PRINTABLE + r"{1,256}\Z")
# Under a server other than ours, a watch is a task, which is started only for those who wait.
_WATCH_AFTER_SECONDS = 0.005


class Answer(NamedTuple):
    """A whole answer; `headers` beside those that every answer has."""

    status: int
    media_type: bytes
    body: bytes
    headers: tuple[tuple[bytes, bytes], ...] = ()

    async def send(self, exchange: "Exchange", send: Send) -> None:
        """By way of ASGI, with the exchange's id."""
        named = [(b"content-length", b"%d" % len(self.body)), (b"content-type", self.media_type), *self.headers]
        start = {"type": "http.response.start", "status": self.status, "headers": [*named, exchange.id_header]}
        await send(start)
        await send({"type": "http.response.body", "body": self.body})


class Departure:
    """Tells who handles a connection's request that the client has left. In a request's scope: an ASGI extension."""

    EXTENSION = "servoloop.departure"

    def __init__(self) -> None:
        self._tell: Callable[[], None] | None = None
        self._is_over = False

    def watch(self, tell: Callable[[], None]) -> None:
        """Call `tell` once the client leaves; at once, if it has left."""
        self._tell = tell
        if self._is_over:
            tell()

    def forget(self) -> None:
        """The request is answered."""
        self._tell = None

    def happen(self) -> None:
        self._is_over = True
        if self._tell is not None:
            self._tell()


def _not_yet() -> None:
    """Of servers that can't say whether a body is there."""


class Exchange:
    """One request. Names of headers are in lower case, and the first value of each counts.

    It has an id from its arrival on: the caller's, unless that is malformed, or ours. `status` is the answer's, and 0
    before there is one. `whole_body` gives the body if all of it is there, without waiting.
    """

    __slots__ = (
        "arrived",
        "departure",
        "has_malformed_id",
        "headers",
        "method",
        "path",
        "query_string",
        "receive",
        "request_id",
        "status",
        "whole_body",
    )

    def __init__(
        self,
        method: str,
        path: str,
        query_string: bytes,
        headers: Mapping[bytes, bytes],
        receive: Receive,
        departure: Departure | None = None,
        whole_body: Callable[[], bytes | None] = _not_yet,
    ) -> None:
        self.arrived = now()
        self.status = 0
        self.method = method
        self.path = path
        self.query_string = query_string
        self.headers = headers
        self.receive = receive
        self.departure = departure
        self.whole_body = whole_body
        sent = headers.get(b"x-request-id")
        self.has_malformed_id = sent is not None and _VISIBLE.match(sent) is None
        self.request_id = str(uuid7()) if sent is None or self.has_malformed_id else sent.decode("latin-1")

    @staticmethod
    def begin(scope: Scope, receive: Receive) -> "Exchange":
        """Of a request that has just come through ASGI."""
        departure = scope.get("extensions", {}).get(Departure.EXTENSION)
        headers = first_values(scope["headers"])
        return Exchange(scope["method"], scope["path"], scope["query_string"], headers, receive, departure)

    @staticmethod
    def of(scope: Scope) -> "Exchange":
        """That of a request which came through ASGI, once it has begun."""
        exchange: Exchange = scope["state"]["exchange"]
        return exchange

    @property
    def id_header(self) -> tuple[bytes, bytes]:
        return b"x-request-id", self.request_id.encode("latin-1")

    def caller(self) -> Caller:
        """Who asks, and by when. Raises MalformedHeader for headers that can't be understood."""
        headers = self.headers
        key = _text(headers, b"x-routing-key")
        if key is not None and not _KEY.match(key):
            raise MalformedHeader("X-Routing-Key", "the key is malformed", "1 to 256 printable characters")
        timeout = _timeout(_text(headers, b"x-request-timeout-ms"))
        return Caller(self.request_id, ANONYMOUS, self.arrived, timeout, key)


class IncomingRequest:
    """A request whose body is read when it is wanted, and no further than it may go.

    Use as a context manager around its handling: the body counts in the budget until the end of it. Once the body is
    read, the handling is cancelled when the client leaves, and ends with ClientLeft.
    """

    __slots__ = ("_budget", "_exchange", "_handler", "_held", "_left", "_limit", "_timer", "_watch")

    def __init__(self, exchange: Exchange, limit: int, budget: BodyBudget) -> None:
        self._exchange = exchange
        self._limit = limit
        self._budget = budget
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
        return _text(self._exchange.headers, b"content-type")

    @property
    def query(self) -> Query:
        query_string = self._exchange.query_string
        return QueryParams(query_string).multi_items() if query_string else ()

    def read_at_once(self, *, may_be_empty: bool = False, expected: str = "the rows to predict") -> bytes | None:
        """The body, if all of it has arrived; else None, and `read` waits for it. Raises as `read` does."""
        self._check_head()
        body = self._exchange.whole_body()
        if body is None:
            return None
        self._count(len(body))
        return self._read(body, may_be_empty, expected)

    async def read(self, *, may_be_empty: bool = False, expected: str = "the rows to predict") -> bytes:
        """The body, counted while it streams in.

        Raises BodyTooLarge, BuffersFull, UnsupportedMediaType, MalformedBody or ClientLeft.
        """
        self._check_head()
        chunks, more = [], True
        while more:
            message = await self._exchange.receive()
            if message["type"] == "http.disconnect":
                raise ClientLeft
            chunk = message.get("body", b"")
            more = message.get("more_body", False)
            self._count(len(chunk))
            chunks.append(chunk)
        return self._read(b"".join(chunks), may_be_empty, expected)

    def _check_head(self) -> None:
        headers = self._exchange.headers
        encoding = _text(headers, b"content-encoding")
        if encoding is not None and encoding != "identity":
            what = f"{encoding[:50]!r} is not read"
            raise UnsupportedMediaType(what, field="Content-Encoding", expected="a body that is not compressed")
        if int(headers.get(b"content-length", b"0")) > self._limit:
            raise BodyTooLarge(self._limit)

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


def first_values(headers: list[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
    """The first value of each header."""
    return dict(reversed(headers))


def now() -> float:
    """The clock that `Caller.arrived` is on."""
    return time.monotonic()


def _text(headers: Mapping[bytes, bytes], name: bytes) -> str | None:
    value = headers.get(name)
    return None if value is None else value.decode("latin-1")


def _timeout(text: str | None) -> float | None:
    if text is None:
        return None
    try:
        milliseconds = float(text)
    except ValueError:
        milliseconds = -1.0
    if not 0 < milliseconds < float("inf"):
        expected = "a positive number of milliseconds"
        raise MalformedHeader("X-Request-Timeout-Ms", f"{text[:50]!r} is no time", expected)
    return milliseconds / 1000
