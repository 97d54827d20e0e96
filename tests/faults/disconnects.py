"""Clients that leave while their requests wait."""

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path

from tests.end_to_end.connection import connect
from tests.end_to_end.service import Service, until
from tests.faults import slow
from tests.faults.report import Report

# 40,000 steps keep the device busy for about a second, in which two hundred clients come.
_LEAST_STEPS, _STEPS_A_CLIENT, _MOST_STEPS = 100_000, 200, 1_000_000


def start(home: Path, **settings: object) -> Service:
    """A service that queues everything."""
    slow.write(home / "data" / "models")
    wanted = {
        "shipped_checkpoints": "",
        "max_queued_rows": 8192,
        "max_batch_rows": 1,
        "default_timeout_seconds": 120,
        **settings,
    }
    return Service(home, **wanted)


async def leave(service: Service, count: int) -> Report:
    """Have `count` clients ask and leave, half of them with a reset, while another keeps the device busy."""

    def dropped() -> float:
        return service.metric("servoloop_dropped_rows_total", model=slow.NAME, reason="cancelled")

    def computed() -> float:
        return service.metric("servoloop_batch_rows_sum", model=slow.NAME)

    def waiting() -> float:
        return service.metric("servoloop_queue_rows", model=slow.NAME)

    def prepared() -> float:
        return service.metric("servoloop_stage_duration_seconds_count", stage="preprocess")

    before, dropped_before, prepared_before = computed(), dropped(), prepared()
    async with AsyncExitStack() as stack:
        busy, behind = [await stack.enter_async_context(connect(service.port)) for _ in range(2)]
        busy.send(slow.ask(min(max(_LEAST_STEPS, count * _STEPS_A_CLIENT), _MOST_STEPS)))
        await asyncio.to_thread(until, lambda: prepared() > prepared_before, "the first is on its way")
        behind.send(slow.ask(_LEAST_STEPS))
        await asyncio.to_thread(until, lambda: waiting() == 1, "the device is busy")
        clients = [await stack.enter_async_context(connect(service.port)) for _ in range(count)]
        for client in clients:
            client.send(slow.ask(10))
        await asyncio.to_thread(until, lambda: waiting() == count + 1, "all wait")
        for number, client in enumerate(clients):
            client.reset() if number % 2 else client.leave()
        await asyncio.to_thread(until, lambda: waiting() <= 1, "none of them waits any more")
        answered = {(await blocker.receive()).status for blocker in (busy, behind)}
    await asyncio.to_thread(until, lambda: computed() + dropped() - before - dropped_before >= count + 2, "all counted")
    reached = computed() - before - 2
    return Report(
        "clients leave",
        {"left": count, "rows dropped": int(dropped() - dropped_before), "rows computed": int(reached)},
        {
            "99 % of what was left never reached the device": reached <= 0.01 * count,
            "others answered": answered == {200},
        },
    )
