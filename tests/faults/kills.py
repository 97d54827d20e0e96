"""Engines and http processes that are killed or stopped while the service is asked."""

import asyncio
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tests import checkpoints
from tests.end_to_end.connection import connect, request
from tests.end_to_end.service import Service, increases, until
from tests.faults.report import Report, percentile

TIMEOUT_MS = 10_000
ROWS = 3
BODY = b'{"instances": [[1, 2, 3, 4]], "parameters": {"timeout_ms": %d}}' % TIMEOUT_MS
SENSORS = request("/v1/models/sensors/predict", BODY)
# The watchdog's bound (SERVOLOOP_WATCHDOG_SECONDS), and one look of the one who asks.
_UNREADY_SECONDS = 5.0 + 0.5
_ANSWER_SECONDS = TIMEOUT_MS / 1000 + 5


@dataclass
class Load:
    """Requests sent at a steady rate, whatever becomes of those before, and what became of each."""

    seconds: list[float] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    unanswered: int = 0

    async def run(self, port: int, rate: float, seconds: float) -> None:
        """Send `rate` requests a second for `seconds`, and wait for the last answer."""
        begun = time.monotonic()
        asked = []
        for number in range(int(rate * seconds)):
            await asyncio.sleep(begun + number / rate - time.monotonic())
            asked.append(asyncio.create_task(self._ask(port)))
        await asyncio.gather(*asked)

    async def _ask(self, port: int) -> None:
        begun = time.monotonic()
        try:
            async with asyncio.timeout(_ANSWER_SECONDS), connect(port) as connection:
                connection.send(SENSORS)
                self.statuses.append((await connection.receive()).status)
                self.seconds.append(time.monotonic() - begun)
        except (TimeoutError, OSError, asyncio.IncompleteReadError):
            self.unanswered += 1

    def figures(self) -> dict[str, object]:
        """What became of the requests; latencies in milliseconds."""
        good = self.statuses.count(200)
        return {
            "asked": len(self.statuses) + self.unanswered,
            "failed": len(self.statuses) - good,
            "unanswered": self.unanswered,
            "p50, ms": round(1000 * percentile(self.seconds, 0.5), 1),
            "p99, ms": round(1000 * percentile(self.seconds, 0.99), 1),
            "slowest, ms": round(1000 * max(self.seconds, default=0), 1),
        }


def start(home: Path, *options: str) -> Service:
    """A service with one quick model."""
    checkpoints.write_vector(home / "data" / "models")
    return Service(home, *options, shipped_checkpoints="")


async def kill_engines(home: Path, *, seconds: float, every: float, rate: float, done: Callable[[], None]) -> Report:
    """kill -9 of the engine every `every` seconds, at `rate` requests a second."""
    with start(home) as service:
        await asyncio.to_thread(service.wait_ready)
        load = Load()
        running = asyncio.create_task(load.run(service.port, rate, seconds))
        kills = 0
        while (await asyncio.wait([running], timeout=every)) and not running.done():
            await asyncio.to_thread(service.kill_child, "engine-0")
            kills += 1
            done()
        await running
        resent = service.metric("servoloop_requests_resent_total")
    return Report(
        "kill -9 of the engine",
        {"kills": kills, **load.figures(), "sent again": int(resent)},
        {"none unanswered": load.unanswered == 0, "none failed": set(load.statuses) == {200}},
    )


async def restart_often(home: Path, kills: int, done: Callable[[], None]) -> Report:
    """kill -9 of the engine as soon as it answers again, time after time: whether counters stay exact."""
    with start(home) as service:
        await asyncio.to_thread(service.wait_ready)
        grew, exact = True, True
        before = service.samples()
        for number in range(kills + 1):
            asked = number + 1
            # Where there is no engine it waits for one, so its answer says that the next engine is connected.
            await asyncio.to_thread(service.predict, "sensors", [[1, 2, 3, 4]] * ROWS, timeout_ms=60_000)
            after = service.samples()
            grew, before = grew and increases(before, after), after
            exact = exact and _counted(service) == (asked, ROWS * asked, ROWS * asked, number)
            if number < kills:
                await asyncio.to_thread(service.kill_child, "engine-0")
                done()
        figures = dict(zip(("requests", "rows answered", "rows computed", "restarts"), _counted(service), strict=True))
    return Report(
        "restarts of the engine",
        {"kills": kills, **figures},
        {"no counter went backwards or away": grew, "each counter was exact after each restart": exact},
    )


def _counted(service: Service) -> tuple[float, ...]:
    return (
        service.metric("servoloop_requests_total", outcome="ok"),
        service.metric("servoloop_rows_total", outcome="ok"),
        service.metric("servoloop_batch_rows_sum"),
        service.metric("servoloop_process_restarts_total", slot="engine-0"),
    )


async def stop_engine(home: Path, *, patience: float) -> Report:
    """SIGSTOP of the engine: how long until the service says so, and until another engine serves."""
    with start(home) as service:
        await asyncio.to_thread(service.wait_ready)
        stopped = service.child("engine-0")
        begun = time.monotonic()
        os.kill(stopped, signal.SIGSTOP)
        try:
            unready = await asyncio.to_thread(_seconds_until, lambda: not service.is_ready(), begun, patience)
            replaced = await asyncio.to_thread(_seconds_until, lambda: _serves(service, stopped), begun, patience)
        finally:
            if not _gone(stopped):
                os.kill(stopped, signal.SIGCONT)
    return Report(
        "SIGSTOP of the engine",
        {"unready after, s": unready, "replaced after, s": replaced},
        {
            f"unready within {_UNREADY_SECONDS} s": unready is not None and unready < _UNREADY_SECONDS,
            f"replaced within {patience:.0f} s": replaced is not None,
        },
    )


async def kill_http(home: Path, *, kills: int, done: Callable[[], None]) -> Report:
    """kill -9 of one of two http processes: what is lost, and how long until it is back."""
    with start(home, "--http-processes", "2") as service:
        await asyncio.to_thread(service.wait_ready)
        refused, back = 0, []
        for number in range(kills):
            slot = f"http-{number % 2}"
            killed = service.kill_child(slot)
            begun = time.monotonic()
            load = Load()
            await load.run(service.port, rate=50, seconds=1)
            # What was under way in the killed process is lost with its connections; what comes later waits.
            refused += load.unanswered + len(load.statuses) - load.statuses.count(200)
            await asyncio.to_thread(until, lambda slot=slot, killed=killed: service.child(slot) != killed, "it is back")
            await asyncio.to_thread(service.wait_ready)
            back.append(time.monotonic() - begun)
            done()
    return Report(
        "kill -9 of an http process",
        {"kills": kills, "lost of those that came after": refused, "longest until back, s": round(max(back), 2)},
        {"none that came after is lost": refused == 0},
    )


def _seconds_until(condition: Callable[[], bool], begun: float, patience: float) -> float | None:
    try:
        until(condition, "it shows", seconds=patience)
    except AssertionError:
        return None
    return round(time.monotonic() - begun, 2)


def _serves(service: Service, stopped: int) -> bool:
    return _gone(stopped) and service.is_ready()


def _gone(pid: int) -> bool:
    return not Path(f"/proc/{pid}").exists()
