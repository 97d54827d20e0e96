"""A prediction's request and answer without ASGI's messages between them: docs/decisions/0012."""

import logging
from collections.abc import Awaitable, Callable
from typing import Any, cast

from starlette.types import Receive
from uvicorn._types import ASGI3Application
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle

from service.api.exchange import Answer, Departure, Exchange, first_values
from service.api.problems import crash
from service.domain import Address

log = logging.getLogger(__name__)

Predict = Callable[[Address, Exchange], Awaitable[Answer]]
"""Answers, whatever becomes of the prediction."""

_ANSWER = b"%bcontent-length: %d\r\ncontent-type: %b\r\nx-request-id: %b\r\n%b\r\n%b"


class StraightCycle(RequestResponseCycle):
    """uvicorn's cycle of one request; but a body that has arrived is taken at once, and the answer is one write."""

    def __init__(
        self,
        predict: Predict,
        address: Address,
        url: bytes,
        headers: list[tuple[bytes, bytes]],
        departure: Departure,
        **named: Any,
    ) -> None:
        super().__init__(**named)
        self._predict = predict
        self._address = address
        self._url = url
        self._headers = headers
        self._departure = departure

    async def run_asgi(self, app: ASGI3Application) -> None:
        """Answer. This is how uvicorn starts a cycle; `app` is not asked."""
        path, _, query = self._url.partition(b"?")
        headers, receive = first_values(self._headers), cast(Receive, self.receive)
        exchange = Exchange("POST", path.decode(), query, headers, receive, self._departure, self._whole_body)
        try:
            try:
                answer = await self._predict(self._address, exchange)
            except Exception:  # what surrounds predictions answers all of theirs; this is for its own
                log.exception("a request crashed", extra={"path": exchange.path, "request_id": exchange.request_id})
                answer = crash(exchange)
            if self.flow.write_paused and not self.disconnected:
                await self.flow.drain()
            if not self.disconnected:
                self._write(answer, exchange)
        finally:
            self.body = bytearray()  # the connection keeps its last cycle for as long as it stays silent
            if not self.response_complete and not self.disconnected:
                self.transport.close()

    def _whole_body(self) -> bytes | None:
        """All of it, and only once: whoever takes it may let go of it long before the answer."""
        if self.more_body or self.disconnected:
            return None
        body, self.body = bytes(self.body), bytearray()
        return body

    def _write(self, answer: Answer, exchange: Exchange) -> None:
        more = [*self.default_headers, *answer.headers]
        if (b"connection", b"close") in answer.headers:
            self.keep_alive = False
        elif not self.keep_alive:
            more.append((b"connection", b"close"))
        written = _ANSWER % (
            STATUS_LINE[answer.status],
            len(answer.body),
            answer.media_type,
            exchange.request_id.encode("latin-1"),
            b"".join([b"%b: %b\r\n" % header for header in more]),
            answer.body,
        )
        self.response_started = self.response_complete = True
        self.transport.write(written)
        self.message_event.set()
        if not self.keep_alive:
            self.transport.close()
        self.on_response()
