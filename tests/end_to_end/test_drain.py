"""How a service ends."""

import asyncio
import os
import signal

from tests import checkpoints
from tests.end_to_end.connection import connect
from tests.end_to_end.service import Homes, Service, until
from tests.faults import drains, slow


async def test_stopped_under_load_it_loses_no_request_that_it_accepted(new_home: Homes) -> None:
    report = await drains.drain_often(new_home, 2)
    del report.promises[drains.PROMPT]  # how soon is for a machine that does nothing else to tell
    assert report.kept, report


async def test_while_it_is_unready_it_still_answers_and_says_that_it_closes(new_home: Homes) -> None:
    home = new_home()
    with drains.start(home, unready_seconds=5) as service:
        await asyncio.to_thread(service.wait_ready)
        stopping = asyncio.create_task(asyncio.to_thread(service.stop))
        status = 200
        while status == 200:
            async with connect(service.port) as probe:
                probe.send(b"GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n")
                answer = await probe.receive()
                status = answer.status
        assert answer.json()["waiting_for"] == {"service": "it was told to stop"}
        assert answer.closes
        async with connect(service.port) as late:
            late.send(drains.PICTURE)
            answer = await late.receive()
            assert answer.status == 200
            assert answer.closes
        assert await stopping == 0


async def test_stopped_while_its_http_process_starts_it_answers_who_is_connected(new_home: Homes) -> None:
    with drains.start(new_home()) as service:
        await asyncio.to_thread(service.child, "http-0")
        async with connect(service.port) as client:
            client.send(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
            service.signal(signal.SIGTERM)
            assert (await client.receive()).closes
        assert await asyncio.to_thread(service.exit_code) == 0


async def test_an_http_process_that_alone_was_told_to_stop_is_followed_by_one_that_is_reached(new_home: Homes) -> None:
    with drains.start(new_home()) as service:
        await asyncio.to_thread(service.wait_ready)
        stopped = service.child("http-0")
        os.kill(stopped, signal.SIGTERM)
        await asyncio.to_thread(until, lambda: service.child("http-0") != stopped, "another http process is there")
        await asyncio.to_thread(service.wait_ready)
        for _ in range(10):
            async with connect(service.port) as client:
                client.send(drains.PICTURE)
                assert (await client.receive()).status == 200


async def test_a_request_that_outlasts_the_drain_is_told_so(new_home: Homes) -> None:
    home = new_home()
    slow.write(home / "data" / "models")
    with Service(home, shipped_checkpoints="", drain_seconds=1, default_timeout_seconds=100) as service:
        await asyncio.to_thread(service.wait_ready)
        async with connect(service.port) as client:
            client.send(slow.ask(900_000))
            await asyncio.to_thread(_until_asked, service)
            stopping = asyncio.create_task(asyncio.to_thread(service.stop))
            answer = await client.receive()
            assert answer.status == 503
            assert answer.json()["type"] == "urn:servoloop:problem:stopping"
            assert answer.headers["retry-after"]
            assert answer.closes
        assert await stopping == 0


async def test_told_twice_it_ends_at_once(new_home: Homes) -> None:
    home = new_home()
    slow.write(home / "data" / "models")
    checkpoints.write_vector(home / "data" / "models")
    with Service(home, shipped_checkpoints="", default_timeout_seconds=100) as service:
        await asyncio.to_thread(service.wait_ready)
        async with connect(service.port) as client:
            client.send(slow.ask(900_000))
            await asyncio.to_thread(_until_asked, service)
            service.signal(signal.SIGTERM)
            await asyncio.to_thread(_until_unready, service)
            service.signal(signal.SIGINT)
            code = await asyncio.to_thread(service.exit_code)
        assert code == 1
        assert "told to stop twice" in service.errors
        assert service.children_alive() == []
        assert service.leftovers() == []


def _until_asked(service: Service) -> None:
    """Until the request is parsed and on its way to the engine."""
    until(lambda: service.metric("servoloop_stage_duration_seconds_count", stage="preprocess") >= 1, "it is asked")


def _until_unready(service: Service) -> None:
    until(lambda: not service.is_ready(), "it was told to stop")
