"""How our processes are started, and what ties them to their parent's life; memory that is there to stay."""

import asyncio
import contextlib
import gc
import os
import sys

# How an engine's libraries use memory and cores, unless the operator's environment says otherwise.
ENGINE_DEFAULTS = {
    # glibc gives memory back after every large tensor and asks for it again with the next. Keeping it takes a batch of
    # 32 of the shipped CNN from 34 to 23 ms (medians of three alternating runs, two cores of an AMD EPYC, 2026-11-22).
    "MALLOC_TRIM_THRESHOLD_": str(1 << 30),
    "MALLOC_MMAP_THRESHOLD_": str(1 << 25),
    # Threads that spin while they wait for one another starve, on a busy machine, the very thread they wait for:
    # a small batch then takes tens of milliseconds instead of one.
    "OMP_WAIT_POLICY": "PASSIVE",
}

# What sysexits.h calls EX_CONFIG: starting again would not help.
EXIT_MISCONFIGURED = 78
# EX_OSERR: the engine's device is in an error that only a new process clears.
EXIT_DEVICE_LOST = 71
# EX_TEMPFAIL: what was to be measured could not be, because others keep the machine busy.
EXIT_NOT_QUIET = 75


def module_command(name: str, *arguments: object) -> list[str]:
    """The command line of one of our modules.

    -P: a folder named `models` where the user stands must not be taken for ours.
    """
    return [sys.executable, "-P", "-m", name, *map(str, arguments)]


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
