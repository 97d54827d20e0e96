"""What surrounds every request, whichever way it came: its id in the log, and answers to what nobody foresaw."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.api.callers import MALFORMED_ID
from service.api.exchange import Answer, Exchange
from service.api.problems import crash, problem_of
from service.errors import ServoloopError, Stopping
from service.process.logs import request_id

log = logging.getLogger("servoloop.access")

Work = Callable[[Exchange], Awaitable[Answer | None]]
"""Gives the answer; or none, where it has sent one itself, and said its status to the exchange."""

# Asked every few seconds by machines; that they say no is no error of theirs.
_PROBES = frozenset({"/livez", "/readyz", "/metrics"})


class RequestContext:
    """Logs what failed (or all, when asked to), and answers what went wrong."""

    def __init__(self, *, log_all: bool) -> None:
        self._log_all = log_all

    async def around(self, exchange: Exchange, work: Work) -> Answer | None:
        """The work's answer, or a problem in its place. Raises what the work raises once half an answer is out."""
        bound = request_id.set(exchange.request_id)
        answer = None
        try:
            if not exchange.has_malformed_id:
                answer = await work(exchange)
            else:
                answer = problem_of(MALFORMED_ID, exchange)
        except ServoloopError as error:
            answer = problem_of(error, exchange)
        except asyncio.CancelledError:
            # Only a server that stops cancels a whole request.
            if exchange.status:
                raise
            answer = problem_of(Stopping(), exchange)
        except Exception:
            log.exception("a request crashed", extra={"method": exchange.method, "path": exchange.path})
            if exchange.status:  # all that is left is to cut the connection
                raise
            answer = crash(exchange)
        finally:
            if answer is not None:
                exchange.status = answer.status
            self._log(exchange)
            request_id.reset(bound)
        return answer

    def _log(self, exchange: Exchange) -> None:
        status, path = exchange.status or 500, exchange.path
        if not self._log_all and (status < 400 or path in _PROBES):
            return
        level = logging.ERROR if status >= 500 and path not in _PROBES else logging.INFO
        milliseconds = round(exchange.age * 1000, 3)
        what = {"method": exchange.method, "path": path, "status": status, "ms": milliseconds}
        log.log(level, "request", extra=what)


class ContextMiddleware:
    """The context around an ASGI application. Plain ASGI: BaseHTTPMiddleware would hide a client's disconnect."""

    def __init__(self, app: ASGIApp, context: RequestContext) -> None:
        self._app = app
        self._context = context

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        exchange = Exchange.begin(scope, receive)
        scope.setdefault("state", {})["exchange"] = exchange

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                exchange.status = message["status"]
                message["headers"] = [*message.get("headers", ()), exchange.id_header]
            await send(message)

        async def work(_: Exchange) -> None:
            await self._app(scope, receive, send_with_id)

        answer = await self._context.around(exchange, work)
        if answer is not None:
            await answer.send(exchange, send)
