"""The threads of an engine: how many helpers each has, and who goes before whom."""

import contextlib
import os
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import torch

# How much others go before the thread that loads: what it does may take a little longer, a batch may not.
_LOADER_NICENESS = 10


def device_thread() -> ThreadPoolExecutor:
    """The thread that computes, with as many helpers as the thread that calls this was given."""
    num_threads = torch.get_num_threads()
    # Explicitly: a thread's number comes from a global one at its first use, and another thread may have set that.
    return ThreadPoolExecutor(1, "device", initializer=lambda: torch.set_num_threads(num_threads))


def loader_thread() -> ThreadPoolExecutor:
    """The thread that loads: one core at most, and that only while nobody else wants it."""
    return ThreadPoolExecutor(1, "loader", initializer=_be_modest)


def ordinary_thread() -> ThreadPoolExecutor:
    """A thread of ordinary priority, to start others from; it is there from now on, whoever gives it work."""
    executor = ThreadPoolExecutor(1, "ordinary")
    executor.submit(int).result()
    return executor


def use_threads(number: int) -> None:
    """Have what this thread computes with PyTorch use so many threads from now on; 0 leaves it as it is."""
    if number and torch.get_num_threads() != number:
        torch.set_num_threads(number)


def _be_modest() -> None:
    # Of this thread alone: OpenMP keeps the number by thread.
    torch.set_num_threads(1)
    if sys.platform == "linux":  # elsewhere niceness is the whole process's
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _LOADER_NICENESS)
