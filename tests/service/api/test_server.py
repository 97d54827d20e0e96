"""What the server sets up for its connections."""

import asyncio
import errno
import select
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.lifespan.off import LifespanOff

from service.api.connection import Connection
from service.api.draining import Draining, DrainPolicy
from service.api.middleware import ContextMiddleware, RequestContext
from service.api.server import HttpServer
from service.errors import Misconfigured
from service.process.logs import request_id
from tests.end_to_end.connection import connect
from tests.patience import PATIENCE
from tests.service.api.support import Wire, turn


async def streams(scope: Scope, receive: Receive, send: Send) -> None:
    """An answer in two parts, with a turn of the event loop before each."""
    await asyncio.sleep(0)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    for more in (True, False):
        await asyncio.sleep(0)
        await send({"type": "http.response.body", "body": b".", "more_body": more})


def serve(app: ASGIApp) -> tuple[HttpServer, Connection, Wire]:
    """A server with one connection, as uvicorn makes them."""
    server = HttpServer(app, Draining(), DrainPolicy(unready=0.0, finish=0.0))
    server.config.load()
    connection, wire = Connection(config=server.config, server_state=server.server_state, app_state={}), Wire()
    connection.connection_made(wire)
    return server, connection, wire


async def test_told_to_stop_within_an_answer_it_closes_after_the_next_one_which_says_so() -> None:
    server, connection, wire = serve(streams)
    connection.data_received(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    while not connection.cycle.response_started:
        await asyncio.sleep(0)
    server.handle_exit(signal.SIGTERM, None)
    connection.announce_close()
    await turn()
    assert b"".join(wire.writes).endswith(b"\r\n\r\n..")
    assert (b"connection: close" in b"".join(wire.writes), wire.closed) == (False, False)
    connection.data_received(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    await turn()
    assert (b"connection: close" in b"".join(wire.writes), wire.closed) == (True, True)


async def test_told_to_stop_it_touches_no_connection_before_the_event_loops_next_turn() -> None:
    server, connection, wire = serve(streams)
    server.lifespan = LifespanOff(server.config)  # type: ignore[assignment]
    await server.startup(sockets=[])
    connection.data_received(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    server.handle_exit(signal.SIGTERM, None)
    assert (connection.cycle.keep_alive, server.should_exit) == (True, True)
    await turn()
    assert (b"connection: close" in b"".join(wire.writes), wire.closed) == (True, True)


async def test_told_to_stop_it_is_unready_from_when_its_answers_say_that_they_close() -> None:
    server, connection, _ = serve(streams)
    server.lifespan = LifespanOff(server.config)  # type: ignore[assignment]
    await server.startup(sockets=[])
    connection.data_received(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    server.handle_exit(signal.SIGTERM, None)
    assert (server.server_state.draining.begun, connection.cycle.keep_alive) == (False, True)
    await asyncio.sleep(0)
    assert (server.server_state.draining.begun, connection.cycle.keep_alive) == (True, False)


async def test_told_to_stop_before_it_serves_it_is_unready_at_once() -> None:
    server, _, _ = serve(streams)
    server.handle_exit(signal.SIGTERM, None)
    assert server.server_state.draining.begun


class Beside:
    """A companion that remembers what it was told."""

    def __init__(self, events: list[str], error: Exception | None = None) -> None:
        self._events, self._error = events, error

    async def start(self) -> None:
        self._events.append("start")
        if self._error is not None:
            raise self._error

    async def drain(self, policy: DrainPolicy) -> None:
        self._events.append(f"drain in {policy.finish:g} s")
        await asyncio.sleep(0)
        self._events.append("drained")


def with_companion(events: list[str], error: Exception | None = None) -> HttpServer:
    """Whose application says when it is opened and closed."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        for kind in ("startup", "shutdown"):
            await receive()
            events.append(kind)
            await send({"type": f"lifespan.{kind}.complete"})

    return HttpServer(app, Draining(), DrainPolicy(unready=0.0, finish=3.0), [Beside(events, error)])


async def test_a_companion_serves_and_ends_while_what_it_uses_is_open() -> None:
    events: list[str] = []
    server = with_companion(events)
    server.should_exit = True
    await server.serve(sockets=[])
    assert events == ["startup", "start", "drain in 3 s", "drained", "shutdown"]


async def test_a_companion_that_can_not_begin_ends_the_start() -> None:
    server = with_companion([], Misconfigured("the port is taken"))
    with pytest.raises(Misconfigured):
        await server.serve(sockets=[])


LINUX = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a connection may be reset as listening ends")
GET = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"


class Listener(socket.socket):
    """Its duplicate, which the server keeps for the end, says when it accepts, and when it stops listening."""

    before_accept: Callable[[], None] | None = None
    before_end: Callable[[], None] | None = None
    original: "Listener | None" = None

    def accept(self) -> tuple[socket.socket, Any]:
        if self.original and self.original.before_accept:
            self.original.before_accept()
        return super().accept()

    def shutdown(self, how: int) -> None:
        if self.original and self.original.before_end:
            self.original.before_end()
        super().shutdown(how)

    def dup(self) -> "Listener":
        other = super().dup()
        other.original = self
        return other


@pytest.fixture
def listener() -> Iterator[Listener]:
    with Listener() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        yield listening


async def listen(listener: Listener) -> HttpServer:
    """A server that has begun to serve."""
    server, _, _ = serve(streams)
    server.server_state.connections.clear()
    server.lifespan = LifespanOff(server.config)  # type: ignore[assignment]
    await server.startup(sockets=[listener])
    return server


@LINUX
async def test_no_connection_is_made_that_nobody_would_accept(listener: Listener) -> None:
    """Between the last accept and the end of listening, when a client may try at any moment."""
    made: list[bool] = []
    address = listener.getsockname()

    def try_late() -> None:
        with socket.socket() as late:
            late.setblocking(False)
            made.append(late.connect_ex(address) == 0 or bool(select.select([], [late], [], 0)[1]))

    listener.before_end = try_late
    server = await listen(listener)
    async with connect(listener.getsockname()[1]) as early:
        early.send(GET)
        _, answer = await asyncio.gather(server.shutdown(), early.receive())
    assert (answer.status, made) == (200, [False])


@LINUX
@pytest.mark.parametrize("late", [False, True])
async def test_a_connection_that_had_begun_is_answered(listener: Listener, late: bool) -> None:
    """Its handshake ends while the server waits for such, or when it takes the last ones."""
    # The kernel lets the connection stand with its first data, as it does with a handshake's last packet otherwise.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, 10)
    async with connect(listener.getsockname()[1]) as client:
        sent: list[bool] = []

        def send() -> None:
            if not sent:
                sent.append(True)
                client.send(GET)

        if late:
            listener.before_accept = send
        server = await listen(listener)
        if not late:
            asyncio.get_running_loop().call_later(0.05, send)
        _, answer = await asyncio.gather(server.shutdown(), client.receive())
        assert answer.status == 200


@LINUX
async def test_who_listens_there_next_is_reached(listener: Listener) -> None:
    held = listener.dup()  # as the supervisor does
    await (await listen(listener)).shutdown()
    following = await listen(held)
    async with asyncio.timeout(PATIENCE), connect(held.getsockname()[1]) as client:
        client.send(GET)
        assert (await client.receive()).status == 200
    await following.shutdown()


async def test_connections_for_which_there_is_no_descriptor_do_not_end_the_drain(
    listener: Listener, caplog: pytest.LogCaptureFixture
) -> None:
    def exhausted() -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    listener.before_accept = exhausted
    server = await listen(listener)
    async with connect(listener.getsockname()[1]) as client:
        client.send(GET)
        _, answer = await asyncio.gather(server.shutdown(), client.receive())
    assert answer.status == 200
    assert "connections that waited are not accepted" in caplog.text


async def test_a_request_that_is_sent_behind_another_begins_without_its_id() -> None:
    begun: list[str | None] = []
    answered: list[str | None] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        answered.append(request_id.get())
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body", "body": b""})

    context = ContextMiddleware(app, RequestContext(log_all=False))

    async def outermost(scope: Scope, receive: Receive, send: Send) -> None:
        begun.append(request_id.get())
        await context(scope, receive, send)

    _, connection, _ = serve(outermost)
    head = "GET /livez HTTP/1.1\r\nHost: x\r\nX-Request-Id: {}\r\n\r\n"
    connection.data_received("".join(map(head.format, ("one", "two", "three"))).encode())
    for _ in range(3):
        await turn()
    assert answered == ["one", "two", "three"]
    assert begun == [None] * 3
