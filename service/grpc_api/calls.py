"""What surrounds every call: its id in the log, its message, its place in memory, and answers to what went wrong."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any

import grpc

from service.api.buffers import BodyBudget
from service.api.callers import MALFORMED_ID, caller_in, request_id_in
from service.domain import Caller
from service.errors import MalformedBody, NotServing, ServoloopError, Stopping
from service.grpc_api.arrivals import Arrivals
from service.grpc_api.statuses import CRASH, Failure, failure_of
from service.process.logs import request_id
from service.serving.pipeline import Limits

log = logging.getLogger("servoloop.access")

Context = grpc.aio.ServicerContext[bytes, bytes]

# As HTTP logs what it answers with a 5xx.
_ERRORS = frozenset(
    {
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.UNIMPLEMENTED,
    }
)
# Of a deadline that is over: the call is about to be cancelled.
_NO_TIME = 0.001


class Call:
    """One call. Its metadata is read as HTTP's headers are; `remaining` are the seconds that the client waits."""

    __slots__ = ("_headers", "arrived", "has_malformed_id", "method", "remaining", "request_id")

    def __init__(self, method: str, context: Context) -> None:
        self.method = method
        self.arrived = time.monotonic()
        remaining = context.time_remaining()
        self.remaining = None if remaining is None else max(remaining, _NO_TIME)
        self._headers = _headers(context.invocation_metadata())
        self.request_id, self.has_malformed_id = request_id_in(self._headers)

    def caller(self) -> Caller:
        """Who asks, and by when: the smaller of what the client waits and what it says. Raises MalformedHeader."""
        caller = caller_in(self._headers, self.request_id, self.arrived)
        return caller._replace(timeout=sooner(caller.timeout, self.remaining))


Work = Callable[[bytes, Call], Awaitable[bytes]]
"""From a call's message to that of its answer."""


class Calls:
    """Answers calls, whatever becomes of them. Of those under way, and of who is told to wait no more."""

    def __init__(self, bodies: BodyBudget, max_body_bytes: int, limits: Limits, *, log_all: bool) -> None:
        self._bodies = bodies
        self._arrivals = Arrivals(bodies, max_body_bytes)
        self._limits = limits
        self._log_all = log_all
        self._is_cut = False
        self.refuses = False
        """Whether calls that come are told that the service stops."""
        self.under_way: set[asyncio.Task[Any]] = set()
        """Until the answer is sent."""

    def cut(self) -> None:
        """Tell all that are under way that their time is over."""
        self._is_cut = True
        for task in self.under_way:
            task.cancel()

    async def answer(self, method: str, work: Work | ServoloopError, context: Context) -> bytes:
        """The answer's message; else the call ends with a status. With an error for work, it is refused unread."""
        task = asyncio.current_task()
        assert task is not None
        self.under_way.add(task)
        task.add_done_callback(self.under_way.discard)
        call = Call(method, context)
        bound = request_id.set(call.request_id)
        code: grpc.StatusCode = grpc.StatusCode.CANCELLED
        try:
            outcome = await self._outcome(call, work, context)
            code = outcome.code if isinstance(outcome, Failure) else grpc.StatusCode.OK
        finally:
            self._log(call, code)
            request_id.reset(bound)
        metadata = [("x-request-id", call.request_id)]
        if isinstance(outcome, Failure):
            if outcome.retry_after is not None:
                metadata.append(("retry-after", str(outcome.retry_after)))
            await context.abort(outcome.code, outcome.details, tuple(metadata))
        context.set_trailing_metadata(tuple(metadata))
        return outcome

    async def _outcome(self, call: Call, work: Work | ServoloopError, context: Context) -> bytes | Failure:
        if isinstance(work, ServoloopError):
            return failure_of(work)
        if call.has_malformed_id:
            return failure_of(MALFORMED_ID)
        if self.refuses:
            return failure_of(NotServing("it was told to stop"))
        held = 0
        try:
            data = await self._read(call, context)
            self._bodies.take(len(data))
            held = len(data)
            return await work(data, call)
        except ServoloopError as error:
            failure = failure_of(error)
            if failure.code is grpc.StatusCode.INTERNAL:
                log.error("a request failed", extra={"kind": error.kind, "detail": str(error)})
            return failure
        except asyncio.CancelledError:
            if not self._is_cut:  # by the client, or its deadline
                raise
            return failure_of(Stopping())
        except Exception:
            log.exception("a request crashed", extra={"method": call.method})
            return CRASH
        finally:
            self._bodies.give_back(held)

    async def _read(self, call: Call, context: Context) -> bytes:
        """The call's message. Raises BodyTooSlow, BuffersFull or MalformedBody."""
        seconds = min(call.remaining or self._limits.default_timeout, self._limits.max_timeout)
        data = await self._arrivals.wait(context.read(), seconds)
        if not isinstance(data, bytes):
            raise MalformedBody("there is no message", field="body", expected="one message")
        return data

    def _log(self, call: Call, code: grpc.StatusCode) -> None:
        if code is grpc.StatusCode.OK and not self._log_all:
            return
        what = {"method": call.method, "status": code.name, "ms": round((time.monotonic() - call.arrived) * 1000, 3)}
        log.log(logging.ERROR if code in _ERRORS else logging.INFO, "call", extra=what)


def sooner(one: float | None, other: float | None) -> float | None:
    """The smaller of two times, of which either may be unlimited."""
    return min((seconds for seconds in (one, other) if seconds is not None), default=None)


def _headers(metadata: Any) -> dict[bytes, bytes]:
    """The first value of each name; what is binary is nobody's concern here."""
    texts = [(name, value) for name, value in metadata or () if isinstance(value, str)]
    return {name.encode("latin-1"): value.encode("latin-1", "replace") for name, value in reversed(texts)}
