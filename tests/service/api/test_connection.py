"""How long a client may take for the head of a request, and stay silent after an answer."""

import asyncio
from collections.abc import Callable
from typing import Any

import orjson
import pytest
import uvicorn

from service.api.connection import HEAD_SECONDS, MAX_HEADER_BYTES, MAX_HEADERS, Connection, HttpServerState
from service.api.draining import Draining


class Timer:
    def __init__(self, seconds: float, callback: Callable[..., None]) -> None:
        self.seconds, self.callback, self.cancelled = seconds, callback, False

    def cancel(self) -> None:
        self.cancelled = True


class Loop:
    """An event loop whose timers run when a test says so."""

    def __init__(self) -> None:
        self.timers: list[Timer] = []
        self.now = 0.0

    def time(self) -> float:
        return self.now

    def call_later(self, seconds: float, callback: Callable[..., None], *_: object) -> Timer:
        self.timers.append(Timer(seconds, callback))
        return self.timers[-1]

    def create_task(self, work: Any, **_: object) -> asyncio.Future[None]:
        work.close()
        return asyncio.Future()

    def running(self) -> list[Timer]:
        return [timer for timer in self.timers if not timer.cancelled]


class Wire(asyncio.Transport):
    def __init__(self) -> None:
        super().__init__()
        self.sent, self.closed = b"", False

    def write(self, data: Any) -> None:
        self.sent += data

    def write_eof(self) -> None: ...

    def close(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed


async def app(scope: object, receive: object, send: object) -> None: ...


@pytest.fixture
async def loop() -> Loop:
    return Loop()


@pytest.fixture
async def wire() -> Wire:
    return Wire()


@pytest.fixture
async def connection(loop: Loop, wire: Wire) -> Connection:
    config = uvicorn.Config(app, http=Connection, ws="none", log_config=None, lifespan="off")
    config.load()
    made = Connection(config=config, server_state=HttpServerState(Draining()), app_state={}, _loop=loop)
    made.connection_made(wire)
    return made


async def test_a_silent_connection_is_closed(connection: Connection, loop: Loop, wire: Wire) -> None:
    (timer,) = loop.running()
    assert timer.seconds == HEAD_SECONDS
    timer.callback()
    assert (wire.closed, wire.sent) == (True, b"")


async def test_a_head_that_trickles_in_is_answered_408(connection: Connection, loop: Loop, wire: Wire) -> None:
    for piece in (b"GET /livez HT", b"TP/1.1\r\nHo", b"st: x\r\nX-"):
        connection.data_received(piece)
    (timer,) = loop.running()
    timer.callback()
    assert wire.sent.startswith(b"HTTP/1.1 408 Request Timeout\r\nContent-Type: application/problem+json")
    assert b"urn:servoloop:problem:head-too-slow" in wire.sent


@pytest.mark.parametrize(
    "start",
    [
        b"POST /v2/models/mood/infer HTTP/1.1\r\n" + b"X-Many: x\r\n" * (MAX_HEADERS + 2),
        b"GET /v2/" + b"x" * MAX_HEADER_BYTES + b" HTTP/1.1\r\n",
    ],
    ids=["many headers", "a long address"],
)
async def test_what_never_becomes_a_request_is_told_in_the_form_of_its_protocol(
    connection: Connection, wire: Wire, start: bytes
) -> None:
    connection.data_received(start)
    head, _, body = wire.sent.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 431 ")
    assert b"Content-Type: application/json\r\n" in head
    assert orjson.loads(body)["error"].startswith("the headers are too large; expected at most 100 headers")


@pytest.mark.parametrize(
    ("path", "kind"), [(b"/v2", b"json"), (b"/v2/models", b"json"), (b"/v1/models", b"problem+json")]
)
async def test_so_is_a_method_that_nobody_knows(connection: Connection, wire: Wire, path: bytes, kind: bytes) -> None:
    connection.data_received(b"FOO " + path + b" HTTP/1.1\r\nHost: x\r\n\r\n")
    assert wire.sent.startswith(b"HTTP/1.1 400 Bad Request\r\nContent-Type: application/" + kind + b"\r\n")


async def test_what_is_no_http_at_all_is_answered(connection: Connection, wire: Wire) -> None:
    connection.data_received(b"\x16\x03\x01\x02\x00")
    assert wire.sent.startswith(b"HTTP/1.1 400 Bad Request\r\nContent-Type: application/problem+json")


@pytest.mark.parametrize(("more", "is_refused"), [(0, False), (1, True)])
async def test_the_address_and_all_headers_count_together(
    connection: Connection, wire: Wire, more: int, is_refused: bool
) -> None:
    half = MAX_HEADER_BYTES // 2
    address, header = b"/" + b"x" * (half - 1), b"X-Long: " + b"x" * (half - 10 + more)
    pieces = b"GET " + address[:-9], address[-9:] + b" HTTP/1.1\r\n" + header[:-9], header[-9:] + b"\r\n\r\n"
    for piece in pieces:
        connection.data_received(piece)
    assert wire.sent.startswith(b"HTTP/1.1 431 ") is is_refused


async def test_a_whole_head_ends_the_wait(connection: Connection, loop: Loop) -> None:
    connection.data_received(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
    assert loop.running() == []


async def test_the_next_head_is_waited_for_from_its_first_byte(connection: Connection, loop: Loop) -> None:
    connection.data_received(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
    connection.cycle.response_complete = True
    assert loop.running() == []
    connection.data_received(b"GET /li")
    assert [timer.seconds for timer in loop.running()] == [HEAD_SECONDS]


async def test_a_connection_that_is_lost_leaves_no_timer(connection: Connection, loop: Loop) -> None:
    connection.connection_lost(None)
    assert loop.running() == []


def answer(connection: Connection) -> None:
    connection.data_received(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
    connection.cycle.response_complete = True
    connection.on_response_complete()


async def test_a_connection_that_stays_silent_after_an_answer_is_closed(
    connection: Connection, loop: Loop, wire: Wire
) -> None:
    answer(connection)
    (timer,) = loop.running()
    assert timer.seconds == connection.timeout_keep_alive
    loop.now += timer.seconds
    timer.callback()
    assert wire.closed


async def test_one_timer_does_for_many_answers(connection: Connection, loop: Loop, wire: Wire) -> None:
    seconds = connection.timeout_keep_alive
    answer(connection)
    loop.now += seconds - 1
    answer(connection)
    (timer,) = loop.running()
    loop.now += 1
    timer.callback()
    assert not wire.closed
    assert loop.timers[-1].seconds == seconds - 1
    loop.now += seconds - 1
    loop.timers[-1].callback()
    assert wire.closed


async def test_a_client_is_not_cut_off_while_it_is_being_answered(
    connection: Connection, loop: Loop, wire: Wire
) -> None:
    answer(connection)
    (timer,) = loop.running()
    connection.data_received(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
    loop.now += timer.seconds
    timer.callback()
    assert not wire.closed
    connection.cycle.response_complete = True
    connection.on_response_complete()
    assert loop.timers[-1].seconds == connection.timeout_keep_alive


async def test_a_connection_that_is_lost_after_an_answer_leaves_no_timer(connection: Connection, loop: Loop) -> None:
    answer(connection)
    connection.connection_lost(None)
    assert loop.running() == []
