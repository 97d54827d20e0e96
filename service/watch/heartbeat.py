"""A process's sign of life for another: one number in shared memory, which needs nobody's help to be read."""

import asyncio
import contextlib
import mmap
import struct
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Self

from service.process.tasks import stop_tasks

_EVERY_SECONDS = 1.0
_INSTANT = struct.Struct("<d")


class Heartbeat:
    """The instant of the last beat, on the machine's monotonic clock. A context manager that closes its memory."""

    def __init__(self, memory: mmap.mmap) -> None:
        self._memory = memory

    @staticmethod
    def create(path: Path) -> "Heartbeat":
        """A new one that never beat."""
        path.write_bytes(bytes(_INSTANT.size))
        return Heartbeat.open(path)

    @staticmethod
    def open(path: Path) -> "Heartbeat":
        """One that another process made. Raises OSError where there is none."""
        with path.open("r+b") as file:
            return Heartbeat(mmap.mmap(file.fileno(), _INSTANT.size))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._memory.close()

    def beat(self, now: float) -> None:
        _INSTANT.pack_into(self._memory, 0, now)

    async def keep_beating(self) -> None:
        """Beat about once a second, for as long as the event loop works, until cancelled."""
        while True:
            self.beat(time.monotonic())
            await asyncio.sleep(_EVERY_SECONDS)

    @property
    def last(self) -> float:
        """When it last beat; 0 before it did."""
        (instant,) = _INSTANT.unpack_from(self._memory)
        return float(instant)


@contextlib.asynccontextmanager
async def beating(path: Path | None) -> AsyncIterator[None]:
    """Meanwhile show that this event loop works, by a heartbeat that another process made. None: nobody looks.

    What blocks, and takes longer than a process may be silent, has to be on a thread.
    """
    if path is None:
        yield
        return
    with Heartbeat.open(path) as heartbeat:
        task = asyncio.create_task(heartbeat.keep_beating())
        try:
            yield
        finally:
            await stop_tasks(task)
