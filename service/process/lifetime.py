"""How our processes end, what ties them to their parent's life, and memory that is there to stay."""

import asyncio
import contextlib
import gc
import os
import sys

# What sysexits.h calls EX_CONFIG: starting again would not help.
EXIT_MISCONFIGURED = 78
# EX_OSERR: the engine's device is in an error that only a new process clears.
EXIT_DEVICE_LOST = 71
# EX_TEMPFAIL: what was to be measured could not be, because others keep the machine busy.
EXIT_NOT_QUIET = 75


def can_stop() -> None:
    """Tell the parent that from now on SIGTERM ends this process in order."""
    with contextlib.suppress(OSError):  # a parent that is gone is found out by `parent_gone`
        os.write(0, b".")


async def parent_gone() -> None:
    """Return when the parent has ended: it holds the other end of stdin open and writes nothing."""
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    try:
        # Where it ended with something of ours unread, we hear of a reset.
        with contextlib.suppress(ConnectionError):
            await reader.read()
    finally:
        transport.close()


# What requests under way hold is no garbage, but a look at it is due after every 700 objects, a few dozen requests.
_YOUNG_OBJECTS = 10_000


def settle() -> None:
    """Spare the garbage collector everything that is there by now. To be called once a process has set itself up.

    Of 116,000 objects, most of them modules and the API's schemas, a full collection takes 75 ms, in which an http
    process answers nobody; under full load there was one every 0.6 s (two cores of an AMD EPYC, 2026-11-22).
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG_OBJECTS, *gc.get_threshold()[1:])
