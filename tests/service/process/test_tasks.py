import asyncio
import contextlib
import gc
import weakref

import pytest

from service.process.tasks import Background, stop_tasks


async def for_ever() -> None:
    await asyncio.get_running_loop().create_future()


async def some_turns() -> None:
    """More than anything here takes that waits for nothing outside the event loop: what has not ended by then won't."""
    for _ in range(20):
        await asyncio.sleep(0)


# Stopping


async def test_all_are_cancelled_before_one_is_waited_for() -> None:
    ended: list[str] = []
    second: asyncio.Task[None]

    async def first_of_two() -> None:
        try:
            await for_ever()
        finally:
            await asyncio.wait([second])
            ended.append("first")

    async def second_of_two() -> None:
        try:
            await for_ever()
        finally:
            ended.append("second")

    async def stop() -> None:
        await stop_tasks(first, second)
        ended.append("stopping")

    first, second = asyncio.create_task(first_of_two()), asyncio.create_task(second_of_two())
    await asyncio.sleep(0)
    stopping = asyncio.create_task(stop())
    await some_turns()
    assert stopping.done()
    assert ended == ["second", "first", "stopping"]
    assert first.cancelled()
    assert second.cancelled()


async def test_a_task_that_had_ended_is_stopped() -> None:
    task = asyncio.create_task(asyncio.sleep(0))
    await task
    await stop_tasks(task)


async def test_what_a_task_failed_of_comes_out() -> None:
    async def fail() -> None:
        raise OSError("the disk is away")

    failed, other = asyncio.create_task(fail()), asyncio.create_task(for_ever())
    await asyncio.wait([failed])
    with pytest.raises(OSError, match="the disk is away"):
        await stop_tasks(failed, other)
    assert other.cancelled()


async def test_whoever_stops_tasks_may_be_cancelled_and_leaves_none_running() -> None:
    going_on = asyncio.Event()

    async def reluctant() -> None:
        try:
            await for_ever()
        finally:
            with contextlib.suppress(asyncio.CancelledError):
                await going_on.wait()

    task = asyncio.create_task(reluctant())
    await some_turns()
    stopping = asyncio.create_task(stop_tasks(task))
    await some_turns()
    assert not stopping.done()
    stopping.cancel()
    await some_turns()
    assert task.done()
    assert stopping.cancelled()


# In the background


async def test_what_runs_in_the_background_is_kept_until_it_ends() -> None:
    background = Background()
    started = weakref.ref(background.start(for_ever()))
    await asyncio.sleep(0)
    gc.collect()
    task = started()
    assert task is not None
    task.cancel()
    await asyncio.wait([task])
    await asyncio.sleep(0)
    del task
    gc.collect()
    assert started() is None


async def test_it_begins_in_the_order_of_its_starts_and_is_waited_for() -> None:
    background = Background()
    done: list[str] = []

    async def work(number: int, turns: int) -> None:
        done.append(f"{number} begins")
        for _ in range(turns):
            await asyncio.sleep(0)
        done.append(f"{number} ends")

    background.start(work(1, 3))
    background.start(work(2, 1))
    assert not done
    await background.drain()
    assert done == ["1 begins", "2 begins", "2 ends", "1 ends"]


async def test_waiting_raises_what_failed() -> None:
    background = Background()

    async def fail() -> None:
        raise OSError("no")

    background.start(fail())
    with pytest.raises(OSError, match="no"):
        await background.drain()


async def test_there_may_be_nothing_to_wait_for() -> None:
    await Background().drain()
