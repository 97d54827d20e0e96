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
# Where the device was not busy for as long as they took, they come again, and it is busy for longer.
_TIMES_AS_LONG = 3


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
    """Have `count` clients ask and leave, half of them with a reset, while others keep the device busy."""
    steps = min(max(_LEAST_STEPS, count * _STEPS_A_CLIENT), _MOST_STEPS)
    while (report := await _leave(service, count, steps)) is None:
        assert steps < _MOST_STEPS, f"{count} clients did not come and go in the time of {steps} steps"
        steps = min(steps * _TIMES_AS_LONG, _MOST_STEPS)
    return report


async def _leave(service: Service, count: int, steps: int) -> Report | None:
    """None where the device had time for them before all had left, and nothing is known."""

    def dropped() -> float:
        return service.metric("servoloop_dropped_rows_total", model=slow.NAME, reason="cancelled")

    def computed() -> float:
        return service.metric("servoloop_batch_rows_sum", model=slow.NAME)

    def waiting() -> float:
        return service.metric("servoloop_queue_rows", model=slow.NAME)

    def prepared() -> float:
        return service.metric("servoloop_stage_duration_seconds_count", stage="preprocess")

    before, dropped_before, prepared_before = computed(), dropped(), prepared()

    def is_free() -> bool:
        """Whether the device has run all that kept it busy."""
        return computed() - before >= 2

    async with AsyncExitStack() as stack:
        busy, behind = [await stack.enter_async_context(connect(service.port)) for _ in range(2)]
        busy.send(slow.ask(steps))
        await asyncio.to_thread(until, lambda: prepared() > prepared_before, "the first is on its way")
        behind.send(slow.ask(steps))
        await asyncio.to_thread(until, lambda: prepared() > prepared_before + 1, "the second is on its way")
        clients = [await stack.enter_async_context(connect(service.port)) for _ in range(count)]
        for client in clients:
            client.send(slow.ask(10))
        await asyncio.to_thread(until, lambda: waiting() >= count or is_free(), "all wait")
        for number, client in enumerate(clients):
            client.reset() if number % 2 else client.leave()
        await asyncio.to_thread(until, lambda: waiting() <= 1, "none of them waits any more")
        was_busy = not is_free()
        answered = {(await blocker.receive()).status for blocker in (busy, behind)}
    if not was_busy:
        return None
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
