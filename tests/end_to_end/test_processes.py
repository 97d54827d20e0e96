"""Several http processes that share one port and one engine."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from tests import checkpoints
from tests.end_to_end.connection import Connection, connect, request
from tests.end_to_end.service import Homes, Service, increases, until

PROCESSES, CONNECTIONS = 2, 64
# Of so many the kernel's hash gives each of two processes 300, give or take 12.2 (a fair coin's standard deviation).
# Five of these are passed once in 1.7 million runs; who takes all that waits whenever it wakes has far more.
MANY_CONNECTIONS, MOST_APART = 600, 61
SENSORS = request("/v1/models/sensors/predict", b'{"instances": [[1, 2, 3, 4]]}')


@pytest.fixture(scope="module")
def many(new_home: Homes) -> Iterator[Service]:
    home = new_home()
    checkpoints.write_vector(home / "data" / "models")
    with Service(home, "--http-processes", str(PROCESSES), shipped_checkpoints="") as running:
        yield running


@pytest.fixture(autouse=True)
def _whole(many: Service) -> None:
    many.wait_ready()


@asynccontextmanager
async def connections(service: Service, number: int = CONNECTIONS) -> AsyncIterator[list[Connection]]:
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(connect(service.port)) for _ in range(number)]


def held_by(service: Service, slot: str) -> int:
    """How many clients' connections a process has."""
    pid = service.child(slot)
    opened = {os.readlink(link) for link in _open_files(pid)}
    port = f":{service.port:04X}"
    with open("/proc/net/tcp") as file:
        rows = [line.split() for line in file.readlines()[1:]]
    established = {f"socket:[{row[9]}]" for row in rows if row[1].endswith(port) and row[3] == "01"}
    return len(opened & established)


def _open_files(pid: int) -> list[str]:
    folder = f"/proc/{pid}/fd"
    return [path for name in os.listdir(folder) if os.path.islink(path := f"{folder}/{name}")]


async def test_connections_spread_evenly(many: Service) -> None:
    async with connections(many, MANY_CONNECTIONS) as all_of_them:
        for connection in all_of_them:
            connection.send(SENSORS)
        assert {(await connection.receive()).status for connection in all_of_them} == {200}
        held = [held_by(many, f"http-{number}") for number in range(PROCESSES)]
    assert sum(held) >= MANY_CONNECTIONS
    assert all(abs(number - sum(held) / PROCESSES) <= MOST_APART for number in held)


async def test_metrics_are_those_of_all_whichever_answers(many: Service) -> None:
    def counted() -> float:
        return many.metric("servoloop_requests_total", model="sensors", outcome="ok")

    before = counted()
    async with connections(many) as all_of_them:
        for connection in all_of_them:
            connection.send(SENSORS)
        assert {(await connection.receive()).status for connection in all_of_them} == {200}
        # A process counts in the turn of its event loop after the one that answered.
        await asyncio.to_thread(until, lambda: counted() == before + CONNECTIONS, "all are counted")
        texts = set()
        for connection in all_of_them[:8]:
            connection.send(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
            texts.add((await connection.receive()).body)
    assert counted() == before + CONNECTIONS
    assert len({next(line for line in text.splitlines() if b"requests_total{" in line) for text in texts}) == 1


async def test_a_killed_process_loses_its_own_connections_and_no_others(many: Service) -> None:
    before = many.samples()
    async with connections(many) as all_of_them:
        for connection in all_of_them:
            connection.send(SENSORS)
            await connection.receive()
        held = held_by(many, "http-0")
        killed = many.kill_child("http-0")
        outcomes = await asyncio.gather(*(_survives(connection) for connection in all_of_them))
        assert outcomes.count(False) <= held
        assert outcomes.count(True) >= CONNECTIONS - held
    until(lambda: many.child("http-0") != killed, "another is started")
    # Connections that came meanwhile waited for it.
    async with connections(many) as all_of_them:
        for connection in all_of_them:
            connection.send(SENSORS)
        assert {(await connection.receive()).status for connection in all_of_them} == {200}
    assert increases(before, many.samples())


async def _survives(connection: Connection) -> bool:
    connection.send(SENSORS)
    try:
        return (await connection.receive()).status == 200
    except (asyncio.IncompleteReadError, ConnectionError):
        return False


def test_a_killed_engine_leaves_no_gauge_behind_and_no_counter_goes_back(many: Service) -> None:
    before = many.samples()
    assert many.metric("servoloop_replicas", model="sensors") == 1
    pid = many.child("engine-0")
    os.kill(pid, signal.SIGKILL)
    until(lambda: many.metric("servoloop_replicas", model="sensors") == 0, "the replica is gone")
    many.wait_ready()
    assert many.metric("servoloop_replicas", model="sensors") == 1
    assert increases(before, many.samples())
