"""The command lines of our own modules, and the environment in which an engine computes."""

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


def module_command(name: str, *arguments: object) -> list[str]:
    """The command line of one of our modules.

    -P: a folder named `models` where the user stands must not be taken for ours.
    """
    return [sys.executable, "-P", "-m", name, *map(str, arguments)]
