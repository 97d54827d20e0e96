"""Work of unknown length that is worth nothing once the process is told to end."""

import asyncio
import contextlib
import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


async def in_daemon_thread(work: Callable[[], T]) -> T:
    """What `work` gives, or raises, done in a thread of its own.

    Nobody waits for that thread: where this is cancelled it goes on, and ends with the process at the latest.
    `asyncio.to_thread` would hold up the end of the loop, and a `ThreadPoolExecutor` that of the interpreter, until
    the work is done. So the work must leave nothing half done that a sudden end would harm.
    """
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[Callable[[], T]] = loop.create_future()

    def tell(outcome: Callable[[], T]) -> None:
        if not ended.done():  # else it was cancelled, and nobody wants to know
            ended.set_result(outcome)

    def run() -> None:
        outcome = _outcome(work)
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody is left to tell
            loop.call_soon_threadsafe(tell, outcome)

    threading.Thread(target=run, name="aside", daemon=True).start()
    return (await ended)()


def _outcome(work: Callable[[], T]) -> Callable[[], T]:
    """What gives the result of `work`, or raises what it raised."""
    try:
        result = work()
    except BaseException as error:  # noqa: BLE001 - whatever it is, it is for who waits
        raised = error

        def fail() -> T:
            raise raised

        return fail
    return lambda: result
