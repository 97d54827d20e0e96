"""Services that are told to stop while they are asked."""

import asyncio
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

from tests import checkpoints
from tests.end_to_end.connection import Connection, connect, request
from tests.end_to_end.service import Service
from tests.faults import slow
from tests.faults.report import Report

KEEPING, RENEWING, SLOW = 12, 4, 3
DRAIN_SECONDS = 20.0
PROMPT = "unready within 0.2 s"
PICTURE = request("/v1/models/clothes/predict", b'{"instances": [' + str([[0] * 28] * 28).encode() + b"]}")
_LOAD_SECONDS = 0.3


@dataclass
class Load:
    """What clients saw until the service was gone. Only what was sent on a connection that stood counts."""

    answered: int = 0
    lost: int = 0
    """Requests on a connection that ended without an answer to them."""
    failed: list[int] = field(default_factory=list)
    turned_away: int = 0
    """Connections that were reset while they were made, before anything was sent on them."""
    closed_idle: int = 0
    """Connections that the service had closed before more was sent on them: a client may be held up for longer than it
    waits."""

    async def keep(self, port: int) -> None:
        """Ask on one connection until an answer says that it closes, then on the next, until none is accepted."""
        while True:
            try:
                async with connect(port) as connection:
                    while not await self._ask(connection):
                        pass
            except ConnectionRefusedError:
                return
            except ConnectionResetError:
                self.turned_away += 1

    async def renew(self, port: int) -> None:
        """Ask once a connection, until none is accepted."""
        while True:
            try:
                async with connect(port) as connection:
                    await self._ask(connection)
            except ConnectionRefusedError:
                return
            except ConnectionResetError:
                self.turned_away += 1

    async def ask_slowly(self, port: int) -> None:
        """One request that is under way when the service is told to stop."""
        async with connect(port) as connection:
            connection.send(slow.ask(4_000))
            await self._receive(connection.receive)

    async def _ask(self, connection: Connection) -> bool:
        """Send a request, if the connection still stands; whether that was its last."""
        if connection.is_closed_there:
            self.closed_idle += 1
            return True
        connection.send(PICTURE)
        return await self._receive(connection.receive)

    async def _receive(self, receive: Callable) -> bool:  # type: ignore[type-arg]
        """Count the answer; whether the connection ends with it."""
        try:
            answer = await receive()
        except (asyncio.IncompleteReadError, ConnectionError):
            self.lost += 1
            return True
        if answer.status == 200:
            self.answered += 1
        else:
            self.failed.append(answer.status)
        return bool(answer.closes)


def start(home: Path, **settings: object) -> Service:
    """A service with a quick and a slow model."""
    root = home / "data" / "models"
    if not root.exists():
        checkpoints.write_image(root)
        slow.write(root)
    return Service(home, shipped_checkpoints="", drain_seconds=DRAIN_SECONDS, **settings)


async def drain(home: Path, **settings: object) -> tuple[Load, int, float, float]:
    """Stop a service under load: what clients saw, its exit code, seconds until unready, and seconds until its end."""
    with start(home, **settings) as service:
        await asyncio.to_thread(service.wait_ready)
        load = Load()
        async with AsyncExitStack() as stack:
            probe = await stack.enter_async_context(connect(service.port))
            clients = [asyncio.create_task(load.keep(service.port)) for _ in range(KEEPING)]
            clients += [asyncio.create_task(load.renew(service.port)) for _ in range(RENEWING)]
            clients += [asyncio.create_task(load.ask_slowly(service.port)) for _ in range(SLOW)]
            await asyncio.sleep(_LOAD_SECONDS)
            told = time.monotonic()
            stopping = asyncio.create_task(asyncio.to_thread(service.stop))
            unready = told
            while True:
                probe.send(b"GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n")
                answer = await probe.receive()
                unready = time.monotonic()
                if answer.status == 503:
                    break
                if answer.closes:  # it was asked just before
                    probe = await stack.enter_async_context(connect(service.port))
            code = await stopping
            ended = time.monotonic()
            await asyncio.gather(*clients)
    return load, code, unready - told, ended - told


async def drain_often(new_home: Callable[[], Path], count: int, done: Callable[[], None] = lambda: None) -> Report:
    """`count` drains under load, every second one with two http processes and a time to be unready."""
    home = new_home()
    results = []
    for number in range(count):
        settings = {"http_processes": 2, "unready_seconds": 0.5} if number % 2 else {}
        results.append(await drain(home, **settings))
        done()
    loads = [load for load, _, _, _ in results]
    return Report(
        "stopped under load",
        {
            "drains": count,
            "answered": sum(load.answered for load in loads),
            "lost": sum(load.lost for load in loads),
            "failed": sum(len(load.failed) for load in loads),
            "reset while connecting": sum(load.turned_away for load in loads),
            "closed before more was sent": sum(load.closed_idle for load in loads),
            "slowest to be unready, ms": round(1000 * max(unready for _, _, unready, _ in results), 1),
            "longest drain, s": round(max(total for _, _, _, total in results), 2),
        },
        {
            "no accepted request is lost": not any(load.lost for load in loads),
            "none fails": not any(load.failed for load in loads),
            "exit code 0": all(code == 0 for _, code, _, _ in results),
            PROMPT: all(unready < 0.2 for _, _, unready, _ in results),
            "ended in time": all(total < DRAIN_SECONDS + 10.5 for _, _, _, total in results),
        },
    )
