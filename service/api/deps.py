"""What routes work with, and how a request becomes values that know nothing of HTTP."""

import asyncio
import re
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Protocol, Self

from fastapi import Depends, Request
from prometheus_client import CollectorRegistry
from starlette.datastructures import QueryParams
from starlette.types import Receive, Scope

from service.api.buffers import BodyBudget
from service.api.connection import Departure, Draining
from service.domain import ANONYMOUS, Caller, Ref, Wish
from service.errors import BodyTooLarge, ClientLeft, MalformedBody, MalformedHeader, UnsupportedMediaType
from service.registry.aliases import LiveAliases
from service.registry.catalog import Catalog
from service.registry.fleet import Fleet
from service.serving.engine_client import EngineStatus
from service.serving.parameters import Query
from service.serving.pipeline import Pipeline
from service.serving.router import Router
from service.store.base import PredictionReader, WishChange

_VISIBLE = re.compile(rb"[\x21-\x7e]{1,128}\Z")
_PRINTABLE = re.compile(r"[^\x00-\x1f\x7f]{1,256}\Z")


class EngineView(Protocol):
    """What routes ask about engines."""

    @property
    def status(self) -> EngineStatus: ...

    def is_ready(self, ref: Ref) -> bool: ...

    def why_unready(self, ref: Ref) -> str | None: ...

    def is_on_demand(self, ref: Ref) -> bool: ...


class Changes(Protocol):
    """Who may change what is wanted of versions. Each verb raises as that of the store, or StoreUnavailable."""

    async def change_wish(self, ref: Ref, change: WishChange) -> Wish: ...

    async def delete_version(self, ref: Ref) -> None: ...

    async def delete_model(self, model: str, versions: Collection[int]) -> None: ...


@dataclass(slots=True)
class ReadinessMemory:
    """Whether this process ever was ready, and the models that answered since it began."""

    was_ready: bool = False
    answered: set[str] = field(default_factory=set)


def _always() -> bool:
    return True


@dataclass(frozen=True, slots=True)
class Services:
    """Everything that routes use."""

    pipeline: Pipeline
    router: Router
    engines: EngineView
    registry: CollectorRegistry
    max_body_bytes: int
    aliases: LiveAliases
    predictions: PredictionReader
    bodies: BodyBudget
    fleet: Fleet
    changes: Changes
    wishes: Callable[[], Mapping[Ref, Wish]]
    """What is wanted of versions, where it is not the usual."""
    is_removable: Callable[[Ref], bool]
    """Whether a version is ours to delete."""
    draining: Draining = field(default_factory=Draining)
    is_supervised: Callable[[], bool] = _always
    """Whether the supervisor gave a sign of life lately."""
    readiness: ReadinessMemory = field(default_factory=ReadinessMemory)

    @property
    def catalog(self) -> Catalog:
        """What can be served, as it is now."""
        return self.router.catalog


async def _services(request: Request) -> Services:
    # async, because FastAPI sends plain functions through a thread pool, at every request.
    services: Services = request.app.state.services
    return services


UseServices = Annotated[Services, Depends(_services)]


# Under a server other than ours, a watch is a task, which is started only for those who wait.
_WATCH_AFTER_SECONDS = 0.005


class IncomingRequest:
    """A request whose body is read when it is wanted, and no further than it may go.

    Use as a context manager around its handling: the body counts in the budget until the end of it. Once the body is
    read, the handling is cancelled when the client leaves, and ends with ClientLeft.
    """

    def __init__(self, scope: Scope, receive: Receive, limit: int, budget: BodyBudget) -> None:
        self._headers = headers_of(scope)
        self._query_string: bytes = scope["query_string"]
        self._receive = receive
        self._departure: Departure | None = scope.get("extensions", {}).get(Departure.EXTENSION)
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
        if self._departure is not None:
            self._departure.forget()
        if self._timer is not None:
            self._timer.cancel()
        if self._watch is not None:
            self._watch.cancel()
        if self._left and self._handler is not None and self._handler.uncancel() == 0 and kind is not None:
            raise ClientLeft from None

    @property
    def content_type(self) -> str | None:
        return _text(self._headers, b"content-type")

    @property
    def query(self) -> Query:
        return QueryParams(self._query_string).multi_items() if self._query_string else ()

    async def read(self, *, may_be_empty: bool = False, expected: str = "the rows to predict") -> bytes:
        """The body, counted while it streams in.

        Raises BodyTooLarge, BuffersFull, UnsupportedMediaType or MalformedBody.
        """
        encoding = _text(self._headers, b"content-encoding")
        if encoding is not None and encoding != "identity":
            what = f"{encoding[:50]!r} is not read"
            raise UnsupportedMediaType(what, field="Content-Encoding", expected="a body that is not compressed")
        if int(self._headers.get(b"content-length", b"0")) > self._limit:
            raise BodyTooLarge(self._limit)
        chunks, size, more = [], 0, True
        while more:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise ClientLeft
            chunk = message.get("body", b"")
            more = message.get("more_body", False)
            size += len(chunk)
            if size > self._limit:
                raise BodyTooLarge(self._limit)
            self._budget.take(len(chunk))
            self._held += len(chunk)
            chunks.append(chunk)
        if not size and not may_be_empty:
            raise MalformedBody("the body is empty", field="body", expected=expected)
        if self._departure is not None:
            self._departure.watch(self._leave)
        else:
            self._timer = asyncio.get_running_loop().call_later(_WATCH_AFTER_SECONDS, self._start_watch)
        return b"".join(chunks)

    def _start_watch(self) -> None:
        self._watch = asyncio.get_running_loop().create_task(self._cancel_when_left())

    async def _cancel_when_left(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self._leave()

    def _leave(self) -> None:
        if self._handler is not None:
            self._left = True
            self._handler.cancel()


def headers_of(scope: Scope) -> dict[bytes, bytes]:
    """The first value of each header; names are in lower case."""
    return dict(reversed(scope["headers"]))


def _text(headers: Mapping[bytes, bytes], name: bytes) -> str | None:
    value = headers.get(name)
    return None if value is None else value.decode("latin-1")


def caller_of(scope: Scope) -> Caller:
    """Who asks, and by when. Raises MalformedHeader for headers that can't be understood."""
    headers = headers_of(scope)
    key = _text(headers, b"x-routing-key")
    if key is not None and not _PRINTABLE.match(key):
        raise MalformedHeader("X-Routing-Key", "the key is malformed", "1 to 256 printable characters")
    state = scope["state"]
    timeout = _timeout(_text(headers, b"x-request-timeout-ms"))
    return Caller(state["request_id"], ANONYMOUS, state["arrived"], timeout, key)


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


def is_request_id(text: bytes) -> bool:
    """Whether a caller's id may go into our log and answer."""
    return _VISIBLE.match(text) is not None


def now() -> float:
    """The clock that `Caller.arrived` is on."""
    return time.monotonic()
