"""How busy the machine is."""

from collections.abc import Sequence
from pathlib import Path


def busy_share(before: Sequence[int], after: Sequence[int]) -> float:
    """The share of the cores' time that was used, from two readings of the machine's line in /proc/stat; 1 without."""
    spent = [now - then for then, now in zip(before, after, strict=False)]
    # proc(5): user, nice, system, idle, iowait, irq, softirq, steal; what follows is part of user and nice.
    return 1.0 if sum(spent[:8]) <= 0 else 1.0 - sum(spent[3:5]) / sum(spent[:8])


def read_ticks() -> list[int]:
    """What the machine's cores have spent their time on; empty where the kernel doesn't say."""
    try:
        with Path("/proc/stat").open() as file:
            return [int(word) for word in file.readline().split()[1:]]
    except (OSError, ValueError):
        return []
