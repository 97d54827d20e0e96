import os
import threading

import pytest
import torch

from service.engine.lanes import Lanes
from service.engine.threads import device_thread, loader_thread


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="niceness of a thread is Linux's")
def test_the_loaders_thread_takes_one_core_and_leaves_it_to_others() -> None:
    main = torch.get_num_threads(), os.getpriority(os.PRIO_PROCESS, 0)
    with loader_thread() as loader:

        def look() -> tuple[int, int]:
            return torch.get_num_threads(), os.getpriority(os.PRIO_PROCESS, threading.get_native_id())

        assert loader.submit(look).result() == (1, 10)
    assert (torch.get_num_threads(), os.getpriority(os.PRIO_PROCESS, 0)) == main


async def test_the_device_computes_with_all_threads_also_when_the_loader_came_first() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        with loader_thread() as loader:
            loader.submit(int).result()
            lanes = Lanes(1, device_thread, freed=lambda: None)
            assert await lanes.run(1, lambda _: torch.get_num_threads()) == 3
    finally:
        torch.set_num_threads(before)
