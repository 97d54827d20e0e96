"""What a connection may be used for, and how it ends."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from service.api.connection import MAX_HEADER_BYTES, MAX_HEADERS
from tests.end_to_end.connection import Answer, Connection, connect, request
from tests.end_to_end.service import Homes, Service
from tests.faults import disconnects, slow

MOOD = "/v1/models/mood/predict"
GOOD = request(MOOD, b'{"instances": ["it was good"]}')


def problem_of(answer: Answer) -> dict[str, Any]:
    """The members of a problem that ends its connection."""
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.closes
    problem: dict[str, Any] = answer.json()
    assert problem["status"] == answer.status
    assert problem["request_id"] == answer.headers["x-request-id"]
    return problem


async def is_closed(connection: Connection) -> bool:
    """Whether nothing more comes."""
    try:
        await connection.receive()
    except (asyncio.IncompleteReadError, ConnectionError):
        return True
    return False


def executed(service: Service) -> float:
    return service.metric("servoloop_batch_rows_sum", model="mood")


def flood(form: str) -> list[bytes]:
    """A request whose headers are too large, in the pieces in which it is sent."""
    start, end = b"POST " + MOOD.encode() + b" HTTP/1.1\r\nHost: x\r\n", b"\r\n"
    match form:
        case "one long header":
            return [start + b"X-Long: " + b"x" * MAX_HEADER_BYTES + b"\r\n" + end]
        case "a header without end":
            return [start + b"X-Long: ", *[b"x" * 16_384] * 64]
        case "a name without end":
            return [start, *[b"x" * 16_384] * 64]
        case "an address without end":
            return [b"POST /", *[b"x" * 16_384] * 64]
        case "many headers":
            return [start + b"".join(b"X-%d: x\r\n" % number for number in range(MAX_HEADERS)) + end]
        case "headers without end":
            return [start, *[b"X-Many: x\r\n" * 1000] * 100]
        case "a trailer without end":
            chunked = (
                start + b"Content-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n4\r\ngood\r\n0\r\nX-Long: "
            )
            return [chunked, *[b"x" * 16_384] * 64]
    raise AssertionError(form)


@pytest.mark.parametrize(
    "form",
    [
        "one long header",
        "a header without end",
        "a name without end",
        "an address without end",
        "many headers",
        "headers without end",
        "a trailer without end",
    ],
)
async def test_headers_that_are_too_large_are_refused_while_they_come_in(service: Service, form: str) -> None:
    before = executed(service)
    async with connect(service.port) as connection:
        for piece in flood(form):
            connection.send(piece)
        problem = problem_of(await connection.receive())
        assert problem["status"] == 431
        assert problem["type"] == "urn:servoloop:problem:headers-too-large"
        limits = f"at most {MAX_HEADERS} headers, {MAX_HEADER_BYTES} bytes together with the address"
        assert problem["expected"] == limits
        assert problem["detail"] == f"the headers are too large; expected {limits}"
        assert await is_closed(connection)
    assert executed(service) == before
    assert service.predict("mood", ["good"])


async def test_headers_as_large_as_they_may_be_are_read(service: Service) -> None:
    many = {f"X-{number}": "x" * 100 for number in range(MAX_HEADERS - 4)}
    long = {"X-Long": "x" * (MAX_HEADER_BYTES - 500)}
    for headers in (many, long):
        async with connect(service.port) as connection:
            connection.send(request(MOOD, b'{"instances": ["good"]}', **headers))
            assert (await connection.receive()).status == 200


@pytest.mark.parametrize(
    "data",
    [
        b"hello\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"POST /v1/models/mood/predict HTTP/1.1\r\nHost: x\r\nContent-Length: ten\r\n\r\n",
        b"POST /v1/models/mood/predict HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        b"POST /v1/models/mood/predict HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n",
        b"POST /v1/models/mood/predict HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999\r\n\r\n",
        b"POST /v1/models/mood/predict HTTP/1.1\r\nHost: x\r\nX:\x00\r\n\r\n",
        b"POST /v1/models/mood/predict HTTP/1.1\r\nHost: x\r\nBad Name: x\r\n\r\n",
        b"POST /v1/models/m\xf6\xf6d/predict HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n",
        b"POST /v1/models/mood/predict HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n",
        b"POST /v1/models/mood/predict HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\ngood\r\n",
    ],
    ids=[
        "no HTTP",
        "TLS",
        "a length in words",
        "two lengths",
        "a negative length",
        "a length past 64 bits",
        "NUL in a header",
        "a blank in a header's name",
        "letters in the address",
        "both lengths",
        "a chunk of no length",
    ],
)
async def test_what_is_no_http_is_refused(service: Service, data: bytes) -> None:
    before = executed(service)
    async with connect(service.port) as connection:
        connection.send(data)
        problem = problem_of(await connection.receive())
        assert problem["status"] == 400
        assert problem["type"] == "urn:servoloop:problem:malformed-request"
        assert problem["detail"] == "this is no HTTP/1.1 request"
        assert await is_closed(connection)
    assert executed(service) == before


async def test_requests_sent_together_are_answered_one_after_another(service: Service) -> None:
    texts = ["good", "bad", "very good"]
    expected = [service.predict("mood", [text])[0] for text in texts]
    async with connect(service.port) as connection:
        connection.send(b"".join(request(MOOD, b'{"instances": ["%s"]}' % text.encode()) for text in texts))
        answers = [await connection.receive() for _ in texts]
    assert [answer.status for answer in answers] == [200] * 3
    assert [answer.json()["predictions"][0]["label"] for answer in answers] == [one["label"] for one in expected]


async def test_what_comes_before_a_refusal_is_answered_first(service: Service) -> None:
    async with connect(service.port) as connection:
        connection.send(GOOD + b"hello\r\n\r\n")
        answer = await connection.receive()
        assert answer.status == 200
        assert answer.closes
        assert await is_closed(connection)


async def test_an_upgrade_is_answered_as_http_1(service: Service) -> None:
    upgrade = {"Connection": "Upgrade, HTTP2-Settings", "Upgrade": "h2c"}
    async with connect(service.port) as connection:
        connection.send(request("/livez", b"", **upgrade).replace(b"POST", b"GET"))
        answer = await connection.receive()
        assert answer.status == 200
        assert answer.closes


async def test_an_upgrade_of_a_request_with_a_body_is_refused(service: Service) -> None:
    async with connect(service.port) as connection:
        connection.send(request(MOOD, b'{"instances": ["good"]}', Connection="Upgrade", Upgrade="websocket"))
        problem = problem_of(await connection.receive())
        assert problem["status"] == 400
        assert problem["detail"] == "this service speaks HTTP/1.1, and upgrades to nothing else"


async def test_a_body_that_ends_early_ends_its_connection(service: Service) -> None:
    before = executed(service)
    async with connect(service.port) as connection:
        connection.send(GOOD[:-5])
        connection.end()
        assert await is_closed(connection)
    assert executed(service) == before


@pytest.fixture(scope="module")
def slow_service(new_home: Homes) -> Iterator[Service]:
    with disconnects.start(new_home(), decode_threads=1) as running:
        yield running.wait_ready()


async def test_a_client_that_closed_its_sending_half_is_answered(service: Service, slow_service: Service) -> None:
    async with connect(service.port) as quick, connect(slow_service.port) as patient:
        quick.send(GOOD)
        patient.send(slow.ask(20_000))
        for connection in (quick, patient):
            connection.end()
            answer = await connection.receive()
            assert answer.status == 200
            assert answer.closes or connection is quick  # which may be answered before its end was read
            assert await is_closed(connection)


async def test_an_old_client_that_closed_its_sending_half_gets_no_interim_answer(slow_service: Service) -> None:
    async with connect(slow_service.port) as connection:
        connection.send(slow.ask(20_000).replace(b"HTTP/1.1", b"HTTP/1.0"))
        connection.end()
        assert await connection.first_line() == b"HTTP/1.1 200 OK\r\n"


async def test_requests_sent_together_by_a_client_that_waits_are_all_answered(slow_service: Service) -> None:
    async with connect(slow_service.port) as connection:
        connection.send(slow.ask(8_000) + slow.ask(10) + slow.ask(8_000))
        connection.end()
        assert [(await connection.receive()).status for _ in range(3)] == [200] * 3


async def test_what_clients_leave_behind_never_reaches_the_device(slow_service: Service) -> None:
    report = await disconnects.leave(slow_service, 300)
    assert report.kept, report


async def test_a_client_that_leaves_is_logged_as_such(slow_service: Service) -> None:
    await disconnects.leave(slow_service, 2)
    assert '"status": 499' in slow_service.errors
    assert "Traceback" not in slow_service.errors
    assert slow_service.metric("servoloop_requests_total", outcome="cancelled") >= 2
