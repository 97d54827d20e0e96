"""Plain ASGI middleware: BaseHTTPMiddleware would hide a client's disconnect."""

import asyncio
import logging

import structlog
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uuid_utils import uuid7

from service.api.deps import headers_of, is_request_id, now
from service.api.problems import crash, problem_of
from service.errors import MalformedHeader, Stopping

log = logging.getLogger("servoloop.access")

# Asked every few seconds by machines; that they say no is no error of theirs.
_PROBES = frozenset({"/livez", "/readyz", "/metrics"})

_MALFORMED_ID = MalformedHeader("X-Request-Id", "the id is malformed", "1 to 128 visible ASCII characters")


class RequestContext:
    """Gives every request its id and its arrival, answers the id, and logs what failed (or all, when asked to).

    What nobody foresaw is answered here too, where the id is still at hand for the answer and the log.
    """

    def __init__(self, app: ASGIApp, *, log_all: bool) -> None:
        self._app = app
        self._log_all = log_all

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        arrived = now()
        sent = headers_of(scope).get(b"x-request-id")
        acceptable = sent is not None and is_request_id(sent)
        request_id = sent.decode("latin-1") if sent is not None and acceptable else str(uuid7())
        scope.setdefault("state", {}).update(request_id=request_id, arrived=arrived)
        status = 0

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), (b"x-request-id", request_id.encode("latin-1"))]
            await send(message)

        # bound_contextvars would first read all that is bound, at every request.
        bound = structlog.contextvars.bind_contextvars(request_id=request_id)
        try:
            if sent is None or acceptable:
                await self._app(scope, receive, send_with_id)
            else:
                await problem_of(Request(scope), _MALFORMED_ID)(scope, receive, send_with_id)
        except asyncio.CancelledError:
            # Only a server that stops cancels a whole request.
            if status:
                raise
            await problem_of(Request(scope), Stopping())(scope, receive, send_with_id)
        except Exception:
            log.exception("a request crashed", extra={"method": scope["method"], "path": scope["path"]})
            if status:  # half an answer is out: all that is left is to cut the connection
                raise
            await crash(Request(scope))(scope, receive, send_with_id)
        finally:
            self._log(scope, status or 500, now() - arrived)
            structlog.contextvars.reset_contextvars(**bound)

    def _log(self, scope: Scope, status: int, seconds: float) -> None:
        path = scope["path"]
        if not self._log_all and (status < 400 or path in _PROBES):
            return
        level = logging.ERROR if status >= 500 and path not in _PROBES else logging.INFO
        what = {"method": scope["method"], "path": path, "status": status, "ms": round(seconds * 1000, 3)}
        log.log(level, "request", extra=what)
