import asyncio
import subprocess
import sys
import threading

import pytest

from service.process.aside import in_daemon_thread
from tests.patience import PATIENCE


async def test_the_result_comes_from_another_thread() -> None:
    assert await in_daemon_thread(threading.get_ident) != threading.get_ident()


@pytest.mark.parametrize("error", [OSError("gone"), SystemExit(3)])
async def test_what_the_work_raises_is_raised(error: BaseException) -> None:
    def fail() -> None:
        raise error

    with pytest.raises(type(error)) as raised:
        await in_daemon_thread(fail)
    assert raised.value is error


async def test_cancelled_it_waits_for_nothing_and_what_comes_of_it_goes_unheard() -> None:
    begun, go_on, ended = threading.Event(), threading.Event(), threading.Event()

    def work() -> None:
        begun.set()
        go_on.wait(PATIENCE)
        ended.set()
        raise OSError

    task = asyncio.create_task(in_daemon_thread(work))
    await asyncio.to_thread(begun.wait, PATIENCE)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(task, PATIENCE)
    assert not ended.is_set()
    go_on.set()
    assert await asyncio.to_thread(ended.wait, PATIENCE)
    await asyncio.sleep(0)


def test_a_process_that_ends_does_not_wait_for_it() -> None:
    code = """
import asyncio, time
from service.process.aside import in_daemon_thread

async def main():
    asyncio.create_task(in_daemon_thread(lambda: time.sleep(1000)))
    await asyncio.sleep(0.05)

asyncio.run(main())
print("ended")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "ended\n", "")
