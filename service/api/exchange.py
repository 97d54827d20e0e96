"""A request and its answer, whichever way it came: through ASGI, or straight from its connection."""

import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

from starlette.types import Receive, Scope, Send

from service.api.callers import caller_in, request_id_in
from service.domain import Caller


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
        self.arrived = time.monotonic()
        self.status = 0
        self.method = method
        self.path = path
        self.query_string = query_string
        self.headers = headers
        self.receive = receive
        self.departure = departure
        self.whole_body = whole_body
        self.request_id, self.has_malformed_id = request_id_in(headers)

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

    @property
    def age(self) -> float:
        """Seconds since its arrival."""
        return time.monotonic() - self.arrived

    def header(self, name: bytes) -> str | None:
        """A header's value, as text."""
        value = self.headers.get(name)
        return None if value is None else value.decode("latin-1")

    def caller(self) -> Caller:
        """Who asks, and by when. Raises MalformedHeader for headers that can't be understood."""
        return caller_in(self.headers, self.request_id, self.arrived)


def first_values(headers: list[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
    """The first value of each header."""
    return dict(reversed(headers))
