"""One client's connection: uvicorn's, with bounded headers, half-closed clients answered, and an end that is announced.

What uvicorn leaves open, and is closed here:
- httptools has no limit for headers. Past MAX_HEADER_BYTES or MAX_HEADERS the answer is 431.
- A request's head may trickle in for ever, and a connection may stay silent. Past HEAD_SECONDS it is closed.
- A client that closes its sending half looks like one that left. Which of the two it is, an interim answer finds out.
- A service that stops answers what arrived, says `Connection: close` with it, and only then closes.

Predictions go straight to what answers them, without ASGI (straight.py).
"""

import asyncio
import http
import socket
from typing import Any

import httptools
from uuid_utils import uuid7
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from service.api.draining import Draining
from service.api.exchange import Departure
from service.api.in_one_piece import InOnePiece
from service.api.paths import address_at
from service.api.problems import problem
from service.api.straight import Predict, StraightCycle

MAX_HEADER_BYTES = 65_536
"""Of the address and all headers together."""
MAX_HEADERS = 100

HEAD_SECONDS = 30.0
"""For the address and all headers of a request, from its first byte, or from when the connection was made."""

_NO_SCOPE: Any = {}
# By the beginning of its address is known in which form a request is refused.
_PROTOCOL_BYTES = 64
_PROBE = b"HTTP/1.1 102 Processing\r\n\r\n"
# When to look for a reset, which takes the network's time to come. A later one is found with the answer itself.
_PROBE_SECONDS = (0.02, 0.1, 0.5, 2.0)
# A connection that is closed with bytes unread is reset, and the client may lose the answer that says why.
_LINGER_SECONDS = 1.0


class HttpServerState(ServerState):
    """What connections share: uvicorn's state, and ours."""

    def __init__(self, draining: Draining, predict: Predict | None = None) -> None:
        super().__init__()
        self.draining = draining
        self.predict = predict


class _HeadersTooLarge(Exception):
    pass


class _Upgrade(Exception):
    pass


class Connection(HttpToolsProtocol):
    """Made by the server for each connection."""

    server_state: HttpServerState

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._header_bytes = 0
        self._unparsed_bytes = 0
        self._refused = False
        self._in_head = False
        self._head_timer: asyncio.TimerHandle | None = None
        self._departure = Departure()
        self._silent_since: float | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_head_timer()
        super().connection_lost(exc)
        if self.timeout_keep_alive_task is not None:
            self.timeout_keep_alive_task.cancel()
        self._departure.happen()

    @property
    def idle(self) -> bool:
        """Whether every request that arrived is answered."""
        return self.cycle is None or self.cycle.response_complete

    def announce_close(self) -> None:
        """Make the answer to the last request that arrived the connection's last, where it can still say so."""
        if not self.idle and not self.cycle.response_started:
            self.cycle.keep_alive = False

    def _end_after_answer(self) -> None:
        """Make the answer to the last request that arrived the connection's last, whatever it has said."""
        if not self.idle:
            self.cycle.keep_alive = False

    def data_received(self, data: bytes) -> None:
        """Parse; refuse what is no HTTP, and headers that are too many or too long."""
        if self._refused:
            return
        self._silent_since = None
        self._unparsed_bytes += len(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._end_after_answer()  # the request is answered as HTTP/1.1, and what comes behind it can't be
        except httptools.HttpParserError as error:
            match error.__context__:
                case _HeadersTooLarge():
                    self._refuse_headers()
                case _Upgrade():
                    self._refuse(400, "malformed-request", "this service speaks HTTP/1.1, and upgrades to nothing else")
                case _:
                    # Of a method that it does not know the parser tells no address.
                    self.url = self.url or b"".join(data[:_PROTOCOL_BYTES].split(b" ")[1:2])
                    self._refuse(400, "malformed-request", "this is no HTTP/1.1 request")
        else:
            if self._unparsed_bytes > MAX_HEADER_BYTES:
                self._refuse_headers()
            elif self.idle:
                self._expect_head()

    def on_message_begin(self) -> None:
        self.url = b""
        self.expect_100_continue = False
        self.headers = []
        # What the parser holds of a header that has not ended, and what ended.
        self._unparsed_bytes = self._header_bytes = 0
        self._in_head = True

    def on_url(self, url: bytes) -> None:
        self._unparsed_bytes = 0
        self._header_bytes += len(url)
        if self._header_bytes > MAX_HEADER_BYTES:
            self.url += url[:_PROTOCOL_BYTES]
            raise _HeadersTooLarge
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """As uvicorn's, and counted. Called for every header, so it calls nothing itself."""
        self._unparsed_bytes = 0
        self._header_bytes += len(name) + len(value) + 4  # ": " and the line's end
        if self._header_bytes > MAX_HEADER_BYTES or len(self.headers) >= MAX_HEADERS:
            raise _HeadersTooLarge
        name = name.lower()
        if name == b"expect" and value.lower() == b"100-continue":
            self.expect_100_continue = True
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        self._unparsed_bytes = 0
        self._in_head = False
        self._stop_head_timer()
        if self.parser.should_upgrade() and self.parser.get_method() not in (b"GET", b"HEAD"):
            raise _Upgrade  # the parser takes the body for the other protocol's first bytes
        if not self._go_straight():
            self._go_through_asgi()
        if self.server_state.draining.begun:
            self.announce_close()

    def _go_through_asgi(self) -> None:
        url, headers, expect_100_continue = self.url, self.headers, self.expect_100_continue
        super().on_message_begin()  # only now: it makes the scope, which predictions do without
        self.url, self.headers, self.expect_100_continue = url, headers, expect_100_continue
        self.scope["headers"] = headers
        self.scope["extensions"] = {Departure.EXTENSION: self._departure}  # type: ignore[dict-item]
        super().on_headers_complete()
        if self.scope["method"] != "HEAD":  # whose answer has no body
            self.cycle.transport = InOnePiece(self.transport, self.cycle)  # type: ignore[assignment]

    def _go_straight(self) -> bool:
        """Begin a prediction; whether this is one. What uvicorn does for every request, but for the ASGI scope."""
        predict = self.server_state.predict
        if predict is None or self.parser.get_method() != b"POST":
            return False
        path, _, query = self.url.partition(b"?")
        address = address_at(path)
        if address is None or b"#" in query:  # uvicorn knows what of that is the query
            return False
        version = self.parser.get_http_version()
        before = self.cycle
        self.cycle = StraightCycle(
            predict,
            address,
            self.url,
            self.headers,
            self._departure,
            scope=_NO_SCOPE,
            transport=self.transport,
            flow=self.flow,
            logger=self.logger,
            access_logger=self.access_logger,
            access_log=False,
            default_headers=self.server_state.default_headers,
            message_event=asyncio.Event(),
            expect_100_continue=self.expect_100_continue,
            keep_alive=version != "1.0" and self.parser.should_keep_alive(),
            on_response=self.on_response_complete,
        )
        if before is None or before.response_complete:
            self._start_asgi_task(self.cycle, self.app)
        else:
            self.flow.pause_reading()
            self.pipeline.appendleft((self.cycle, self.app))
        return True

    def on_body(self, body: bytes) -> None:
        self._unparsed_bytes = 0
        if self.cycle.body or self.cycle.response_complete:
            if isinstance(self.cycle.body, bytes):
                self.cycle.body = bytearray(self.cycle.body)  # grows in place, however small the pieces are
            super().on_body(body)
            return
        self.cycle.body = body  # type: ignore[assignment]  # most bodies come in one piece, which need not be copied
        if len(body) > HIGH_WATER_LIMIT:
            self.flow.pause_reading()
        self.cycle.message_event.set()

    def on_message_complete(self) -> None:
        super().on_message_complete()
        if not self.pipeline:
            # A large body's last part may have stopped the reading, without which nobody hears that the client leaves.
            self.flow.resume_reading()

    def on_response_complete(self) -> None:
        """As uvicorn's; but a connection's timer runs on, where that one sets another after every answer."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
            return
        self._silent_since = self.loop.time()
        if self.timeout_keep_alive_task is None:
            self._look_for_silence(self.timeout_keep_alive)

    def _look_for_silence(self, seconds: float) -> None:
        self.timeout_keep_alive_task = self.loop.call_later(seconds, self.timeout_keep_alive_handler)

    def timeout_keep_alive_handler(self) -> None:
        """Close, if nothing came for so long after an answer."""
        self.timeout_keep_alive_task = None
        if self._silent_since is None or self.transport.is_closing():
            return
        left = self._silent_since + self.timeout_keep_alive - self.loop.time()
        if left > 0:
            self._look_for_silence(left)
        else:
            self.transport.close()

    def eof_received(self) -> bool | None:  # type: ignore[override]
        """Close, unless an answer is due: the client may have closed its sending half only."""
        if self._refused or self.idle or self.cycle.more_body:
            return None
        self._end_after_answer()
        # Interim answers came with HTTP/1.1, and none may stand within another answer.
        if self.parser.get_http_version() == "1.1" and not self.pipeline and not self.cycle.response_started:
            self.transport.write(_PROBE)
            for seconds in _PROBE_SECONDS:
                self.loop.call_later(seconds, self._leave_if_reset)
        return True

    def _leave_if_reset(self) -> None:
        """A client that is gone answers the probe with a reset, which nobody reads once reading is over."""
        if self.transport.is_closing():
            return
        if self.transport.get_extra_info("socket").getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            self.transport.abort()

    def _expect_head(self) -> None:
        """Have the connection end unless a whole head comes soon. What is left of an answered body takes no longer."""
        if self._head_timer is None:
            self._head_timer = self.loop.call_later(HEAD_SECONDS, self._end_late_head)

    def _stop_head_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _end_late_head(self) -> None:
        if self._refused or self.transport.is_closing():
            return
        if self._in_head and self.idle:
            self._refuse(408, "head-too-slow", f"the request's head took longer than {HEAD_SECONDS:g} seconds")
        else:
            self.transport.close()

    def _refuse_headers(self) -> None:
        limits = f"at most {MAX_HEADERS} headers, {MAX_HEADER_BYTES} bytes together with the address"
        self._refuse(431, "headers-too-large", f"the headers are too large; expected {limits}", expected=limits)

    def _refuse(self, status: int, kind: str, detail: str, **more: str) -> None:
        """Answer what never became a request, and close once the client had time to read the answer."""
        self._refused = True
        if not self.idle and not self.cycle.more_body:
            self._end_after_answer()  # earlier requests are answered first, and then the connection ends
            return
        if not self.idle:
            if self.pipeline or self.cycle.response_started:
                self.transport.abort()
                return
            # The fault is in the body of a request whose handler has begun: it must not answer too.
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        self._write_problem(status, kind, detail, more)
        self.transport.write_eof()
        self.loop.call_later(_LINGER_SECONDS, self.transport.close)

    def _write_problem(self, status: int, kind: str, detail: str, more: dict[str, str]) -> None:
        request_id, title = str(uuid7()), http.HTTPStatus(status).phrase
        answer = problem(self.url.decode("latin-1"), request_id, status, kind, detail, title=title, **more)
        head = (
            f"HTTP/1.1 {status} {title}\r\nContent-Type: {answer.media_type.decode()}\r\n"
            f"Content-Length: {len(answer.body)}\r\nX-Request-Id: {request_id}\r\nConnection: close\r\n\r\n"
        )
        self.transport.write(head.encode() + answer.body)
