"""What the server sets up for its connections."""

import asyncio
import select
import signal
import socket
import sys

import pytest
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.lifespan.off import LifespanOff

from service.api.connection import Connection
from service.api.draining import Draining, DrainPolicy
from service.api.middleware import ContextMiddleware, RequestContext
from service.api.server import HttpServer
from service.process.logs import request_id
from tests.end_to_end.connection import connect
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


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere such a connection may be reset")
async def test_no_connection_is_made_that_nobody_would_accept() -> None:
    """Between the last accept and the end of listening, when a client may try at any moment."""
    made: list[bool] = []

    class Listener(socket.socket):
        def shutdown(self, how: int) -> None:
            with socket.socket() as late:
                late.setblocking(False)
                made.append(late.connect_ex(self.getsockname()) == 0 or bool(select.select([], [late], [], 0)[1]))
            super().shutdown(how)

    server, _, _ = serve(streams)
    server.lifespan = LifespanOff(server.config)  # type: ignore[assignment]
    with Listener() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        await server.startup(sockets=[listener])
        async with connect(listener.getsockname()[1]) as early:
            early.send(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            _, answer = await asyncio.gather(server.shutdown(sockets=[listener]), early.receive())
    assert (answer.status, made) == (200, [False])


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
