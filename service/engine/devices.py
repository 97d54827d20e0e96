"""Which device this engine owns, and how it is set up."""

import os

import torch


def open_device(name: str, threads: int) -> torch.device:
    """The device called `name` (auto, cpu, cuda, cuda:N); auto is a GPU where there is one.

    `threads` compute on a CPU, 0 is one a core. Raises ValueError where there is no such device.
    """
    if name == "auto":
        name = "cuda:0" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ValueError(f"{name!r} is no device; expected auto, cpu, cuda or cuda:N") from None
    if device.type == "cuda":
        if not torch.cuda.is_available() or (device.index or 0) >= torch.cuda.device_count():
            raise ValueError(f"there is no device {name}; torch sees {torch.cuda.device_count()} GPUs")
    elif device.type != "cpu":
        raise ValueError(f"{name!r} is not supported; expected auto, cpu, cuda or cuda:N")
    torch.set_num_threads(threads or len(os.sched_getaffinity(0)))
    return device
