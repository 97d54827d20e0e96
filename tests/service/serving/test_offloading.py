import asyncio
import gc
import weakref
from collections.abc import Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import Any

import pytest

from service.domain import Deadline, Ref
from service.errors import ClientLeft, DeadlineExceeded, DecodersBusy, UnprocessableInput
from service.serving.offloading import Check, Offloader
from tests.fakes import ManualClock
from tests.patience import PATIENCE

REF = Ref("clothes", 1)


class HeldThreads(Executor):
    """Threads that begin work when a test says so."""

    def __init__(self) -> None:
        self.queue: list[tuple[Future[Any], Callable[[], Any]]] = []

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        self.queue.append((future, fn))
        return future


class Bench:
    def __init__(self) -> None:
        self.clock = ManualClock(now=50.0)
        self.threads = HeldThreads()
        self.offloader = Offloader(self.threads, 2, self.clock)
        self.begun: list[Check] = []

    def work(self, check: Check) -> str:
        self.begun.append(check)
        return "done"

    def start(self, *, seconds: float = 10.0) -> asyncio.Task[str]:
        deadline = Deadline.after(seconds, now=self.clock())
        return asyncio.create_task(self.offloader.run(self.work, REF, "decoding", deadline))


@pytest.fixture
def bench() -> Bench:
    return Bench()


async def turn() -> None:
    """Let tasks that were started reach where they wait."""
    for _ in range(5):
        await asyncio.sleep(0)


async def test_heavy_work_is_done_in_a_thread(bench: Bench) -> None:
    asked = bench.start()
    await turn()
    ((future, job),) = bench.threads.queue
    future.set_result(job())
    assert await asked == "done"


async def test_work_whose_time_is_up_is_not_begun(bench: Bench) -> None:
    with pytest.raises(DeadlineExceeded) as raised:
        await bench.start(seconds=0.0)
    assert (raised.value.ref, raised.value.where) == (REF, "decoding")
    assert bench.begun == []


async def test_the_caller_hears_in_time_however_long_the_threads_take(bench: Bench) -> None:
    with pytest.raises(DeadlineExceeded):
        await bench.start(seconds=0.001)  # nobody takes it from the queue


async def test_work_that_waited_too_long_for_a_thread_is_skipped(bench: Bench) -> None:
    asked = bench.start()
    await turn()
    bench.clock.advance(10.0)
    with pytest.raises(DeadlineExceeded):
        bench.threads.queue[0][1]()
    assert bench.begun == []
    asked.cancel()


async def test_work_whose_caller_left_is_skipped_and_holds_nothing(bench: Bench) -> None:
    asked = bench.start()
    await turn()
    asked.cancel()
    await turn()
    future, job = bench.threads.queue[0]
    assert future.cancelled()
    with pytest.raises(ClientLeft):
        job()
    assert bench.begun == []


async def test_work_under_way_learns_that_its_time_is_up_or_its_caller_left(bench: Bench) -> None:
    asked = bench.start()
    await turn()
    bench.threads.queue[0][1]()
    (check,) = bench.begun
    check()
    bench.clock.advance(10.0)
    with pytest.raises(DeadlineExceeded):
        check()
    asked.cancel()
    await turn()
    with pytest.raises(ClientLeft):
        check()


async def test_work_that_fails_holds_nothing_once_that_is_said(bench: Bench) -> None:
    class Body: ...

    bodies: list[weakref.ref[Body]] = []

    def work(_: Check) -> None:
        body = Body()
        bodies.append(weakref.ref(body))
        raise UnprocessableInput("it is wrong")

    gc.disable()
    try:
        with ThreadPoolExecutor(1) as threads:
            deadline = Deadline.after(PATIENCE, now=bench.clock())
            with pytest.raises(UnprocessableInput) as raised:
                await Offloader(threads, 1, bench.clock).run(work, REF, "decoding", deadline)
            assert raised.traceback[-1].name == "work"
        assert bodies[0]() is None
    finally:
        gc.enable()


async def test_more_requests_than_may_wait_are_refused_until_one_leaves(bench: Bench) -> None:
    waiting = [bench.start(), bench.start()]
    await turn()
    with pytest.raises(DecodersBusy) as raised:
        await bench.start()
    assert (raised.value.waiting, raised.value.limit, raised.value.retry_after) == (2, 2, 1)
    waiting[0].cancel()
    await turn()
    again = bench.start()
    await turn()
    assert len(bench.threads.queue) == 3
    for task in (waiting[1], again):
        task.cancel()
