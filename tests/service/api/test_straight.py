"""Predictions that go straight from their connection to what answers them, and those that can't."""

import asyncio

import pytest
import uvicorn
from starlette.types import Receive, Scope, Send

from service.api.connection import Connection, HttpServerState
from service.api.draining import Draining
from service.api.exchange import Answer, Exchange
from service.domain import Address
from service.errors import ClientLeft
from tests.service.api.support import Wire, turn

ROWS = b"some rows"


class Bench:
    """A connection whose predictions are answered with what was asked of them, once they are `let`."""

    def __init__(self) -> None:
        self.wire = Wire()
        self.asked: list[tuple[Address, Exchange]] = []
        self.bodies: list[bytes | None] = []
        self.others: list[str] = []
        self.let = asyncio.Event()
        self.let.set()
        self.error: Exception | None = None
        self.headers: tuple[tuple[bytes, bytes], ...] = ()
        self.draining = Draining()
        config = uvicorn.Config(self._app, http=Connection, interface="asgi3", log_config=None, lifespan="off")
        config.load()
        state = HttpServerState(self.draining, self._predict)
        self.connection = Connection(config=config, server_state=state, app_state={})
        self.connection.connection_made(self.wire)

    async def _app(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.others.append(f"{scope['method']} {scope['path']}")
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body", "body": b""})

    async def _predict(self, address: Address, exchange: Exchange) -> Answer:
        self.asked.append((address, exchange))
        if self.error is not None:
            raise self.error
        self.bodies.append(exchange.whole_body())
        body = self.bodies[-1] or b""
        while self.bodies[-1] is None:
            message = await exchange.receive()
            if message["type"] == "http.disconnect":
                raise ClientLeft
            body += message["body"]
            if not message["more_body"]:
                break
        await self.let.wait()
        return Answer(200, b"text/plain", body, self.headers)

    async def send(self, *pieces: bytes) -> bytes:
        """What is answered."""
        before = len(self.wire.writes)
        for piece in pieces:
            self.connection.data_received(piece)
            await turn()
        return b"".join(self.wire.writes[before:])


def request(target: str = "/v1/models/mood/predict", body: bytes = ROWS, version: str = "1.1", **headers: str) -> bytes:
    named = {"Host": "x", "Content-Length": str(len(body)), **headers}
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in named.items())
    return f"POST {target} HTTP/{version}\r\n{lines}\r\n".encode() + body


@pytest.fixture
async def bench() -> Bench:
    return Bench()


async def test_a_prediction_is_answered_in_one_write_under_its_id(bench: Bench) -> None:
    await bench.send(request(X_Request_Id="one"))
    (answer,) = bench.wire.writes
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.split(b"\r\n") == [
        b"HTTP/1.1 200 OK",
        b"content-length: 9",
        b"content-type: text/plain",
        b"x-request-id: one",
    ]
    assert body == ROWS
    assert not bench.wire.closed


@pytest.mark.parametrize(
    ("target", "address"),
    [
        ("/v1/models/mood/predict", Address("mood")),
        ("/v1/models/mood/versions/3/predict", Address("mood", version="3")),
        ("/v1/models/mood/aliases/trial/predict", Address("mood", alias="trial")),
    ],
)
async def test_all_addresses_of_predictions_go_straight(bench: Bench, target: str, address: Address) -> None:
    await bench.send(request(f"{target}?top_k=3"))
    ((asked, exchange),) = bench.asked
    assert asked == address
    assert (exchange.method, exchange.path, exchange.query_string) == ("POST", target, b"top_k=3")
    assert bench.others == []


@pytest.mark.parametrize(
    ("sent", "seen"),
    [
        (request("/v1/models/mo%6Fd/predict"), "POST /v1/models/mood/predict"),
        (request(f"/v1/models/{'m' * 300}/predict"), f"POST /v1/models/{'m' * 300}/predict"),
        (request("/v1/models/mood/predict?top_k=3#here"), "POST /v1/models/mood/predict"),
        (request("/v1/models/mood/predicted"), "POST /v1/models/mood/predicted"),
        (request().replace(b"POST", b"GET"), "GET /v1/models/mood/predict"),
    ],
    ids=["a path to be decoded", "a long name", "a fragment", "another path", "another method"],
)
async def test_all_else_goes_to_the_application(bench: Bench, sent: bytes, seen: str) -> None:
    await bench.send(sent)
    assert (bench.others, bench.asked) == ([seen], [])


async def test_a_body_that_has_arrived_is_had_without_waiting(bench: Bench) -> None:
    await bench.send(request())
    assert bench.bodies == [ROWS]


@pytest.mark.parametrize("at", [5, 70, -4])
async def test_a_body_that_comes_later_is_waited_for(bench: Bench, at: int) -> None:
    whole = request()
    assert (await bench.send(whole[:at], whole[at:])).endswith(ROWS)


async def test_chunks_are_put_together(bench: Bench) -> None:
    head = request(body=b"").replace(b"Content-Length: 0", b"Transfer-Encoding: chunked")
    assert (await bench.send(head + b"4\r\nsome\r\n5\r\n rows\r\n0\r\n\r\n")).endswith(ROWS)


async def test_many_small_chunks_grow_one_buffer(bench: Bench) -> None:
    head = request(body=b"").replace(b"Content-Length: 0", b"Transfer-Encoding: chunked")
    bench.connection.data_received(head + b"1\r\na\r\n1\r\nb\r\n")
    buffer = bench.connection.cycle.body
    bench.connection.data_received(b"1\r\nc\r\n" * 10)
    assert bench.connection.cycle.body is buffer
    assert buffer == b"ab" + b"c" * 10


async def test_a_body_is_let_go_of_once_it_is_taken(bench: Bench) -> None:
    bench.let.clear()
    await bench.send(request())
    assert bench.bodies == [ROWS]
    assert bench.connection.cycle.body == b""


async def test_a_body_that_nobody_took_is_let_go_of_with_the_answer(bench: Bench) -> None:
    bench.error = RuntimeError("of ours")
    await bench.send(request())
    assert bench.connection.cycle.response_complete
    assert bench.connection.cycle.body == b""


async def test_a_client_that_waits_for_leave_to_send_gets_it(bench: Bench) -> None:
    whole = request(Expect="100-continue")
    assert await bench.send(whole[: -len(ROWS)]) == b"HTTP/1.1 100 Continue\r\n\r\n"
    assert (await bench.send(ROWS)).startswith(b"HTTP/1.1 200 OK")


async def test_large_bodies_stop_the_reading_until_they_are_taken(bench: Bench) -> None:
    await bench.send(request(body=bytes(200_000))[:100_000])
    assert not bench.wire.paused
    bench.connection.data_received(bytes(70_000))
    assert bench.wire.paused
    await turn()
    assert not bench.wire.paused


async def test_reading_goes_on_after_a_large_body_because_its_client_may_leave(bench: Bench) -> None:
    whole = request(body=bytes(100_000))
    bench.connection.data_received(whole[:50])
    await turn()
    bench.let.clear()
    bench.connection.data_received(whole[50:])
    await turn()
    assert not bench.wire.paused
    assert bench.wire.writes == []


async def test_requests_sent_together_are_answered_in_their_order(bench: Bench) -> None:
    bench.let.clear()
    assert await bench.send(request(body=b"1") + request("/livez", b"") + request(body=b"3")) == b""
    assert [exchange.path for _, exchange in bench.asked] == ["/v1/models/mood/predict"]
    bench.let.set()
    await turn()
    await turn()
    assert [write.rpartition(b"\r\n")[2] for write in bench.wire.writes] == [b"1", b"", b"3"]


async def test_while_a_second_request_waits_nothing_more_is_read(bench: Bench) -> None:
    bench.let.clear()
    await bench.send(request(body=b"1"))
    assert not bench.wire.paused
    await bench.send(request(body=b"2"))
    assert bench.wire.paused
    bench.let.set()
    bench.let.clear()  # whoever waits for it goes on, and whoever comes next waits again
    await turn()
    assert [write.rpartition(b"\r\n")[2] for write in bench.wire.writes] == [b"1"]
    assert not bench.wire.paused


async def test_what_nobody_foresaw_is_answered_500_and_the_next_request_too(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    bench.error = RuntimeError("of ours")
    await bench.send(request(X_Request_Id="one"), request(X_Request_Id="two"))
    bench.error = None
    await bench.send(request())
    heads = [write.partition(b"\r\n")[0] for write in bench.wire.writes]
    assert heads == [b"HTTP/1.1 500 Internal Server Error"] * 2 + [b"HTTP/1.1 200 OK"]
    assert b'"request_id":"one"' in bench.wire.writes[0]
    assert b"of ours" not in bench.wire.writes[0]
    assert [record.message for record in caplog.records] == ["a request crashed"] * 2
    assert not bench.wire.closed


async def test_an_answer_that_can_not_be_written_ends_the_connection(bench: Bench) -> None:
    bench.headers = ((b"not bytes", "of text"),)  # type: ignore[assignment]
    bench.connection.data_received(request())
    (task,) = bench.connection.server_state.tasks
    with pytest.raises(TypeError):
        await task
    assert bench.wire.closed


def is_last(answer: bytes) -> bool:
    return answer.count(b"connection: close\r\n") == 1


@pytest.mark.parametrize(
    "sent", [request(Connection="close"), request(version="1.0")], ids=["the client says so", "the client is old"]
)
async def test_an_answer_that_the_client_wants_to_be_the_last_is(bench: Bench, sent: bytes) -> None:
    assert is_last(await bench.send(sent))
    assert bench.wire.closed


async def test_an_answer_that_says_so_is_the_last(bench: Bench) -> None:
    bench.headers = ((b"connection", b"close"),)
    assert is_last(await bench.send(request()))
    assert bench.wire.closed


async def test_a_service_that_stops_gives_no_further_answer(bench: Bench) -> None:
    bench.draining.begun = True
    assert is_last(await bench.send(request()))
    assert bench.wire.closed


async def test_a_client_that_reads_slowly_is_waited_for(bench: Bench) -> None:
    bench.connection.pause_writing()
    assert await bench.send(request()) == b""
    bench.connection.resume_writing()
    await turn()
    assert bench.wire.writes


async def test_nothing_is_written_to_a_client_that_left(bench: Bench) -> None:
    bench.let.clear()
    await bench.send(request())
    bench.connection.connection_lost(None)
    bench.let.set()
    await turn()
    assert bench.wire.writes == []
    assert bench.connection.server_state.tasks == set()
