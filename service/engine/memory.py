"""How much memory this machine has, and this process may use: what the kernel says, and the limits of its cgroup."""

import os
import platform
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_KIB = 1024


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes of a device's memory."""

    free: int
    total: int


def machine_memory(root: Path = Path("/")) -> Memory:
    """The machine's memory, or what a cgroup allows where that is less. `root` is where proc and sys are found.

    Files that the kernel keeps in memory and can give up at any time count as free.
    """
    known = dict(_pairs(root / "proc/meminfo"))
    installed = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")  # where there is no proc
    total = known["MemTotal"] * _KIB if "MemTotal" in known else installed
    memory = Memory(free=known["MemAvailable"] * _KIB if "MemAvailable" in known else total, total=total)
    for group in _groups(root):
        limit = _number(group / "memory.max")
        used = _number(group / "memory.current")
        if limit is None or used is None:
            continue
        used -= dict(_pairs(group / "memory.stat")).get("inactive_file", 0)
        memory = Memory(free=min(memory.free, max(0, limit - used)), total=min(memory.total, limit))
    return memory


def processor_name(root: Path = Path("/")) -> str:
    """What the processor calls itself."""
    try:
        lines = (root / "proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, "") or platform.machine() or "CPU"


def _groups(root: Path) -> Iterator[Path]:
    """The folder of this process's cgroup (version 2), and those that it lies in: each may have a limit."""
    mounted = root / "sys/fs/cgroup"
    try:
        own = (root / "proc/self/cgroup").read_text()
    except OSError:
        own = ""
    paths = [line.removeprefix("0::/") for line in own.splitlines() if line.startswith("0::/")]
    # Seen from inside a container, the path may lead out of what is mounted: then the mount is the group's own.
    folder = mounted / (paths[0] if paths and ".." not in paths[0] else "")
    while folder != mounted:
        yield folder
        folder = folder.parent
    yield mounted


def _pairs(path: Path) -> Iterator[tuple[str, int]]:
    """Names and whole numbers, one pair a line; nothing of a file that is not there."""
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return
    for line in lines:
        name, _, rest = line.replace(":", " ", 1).partition(" ")
        if (words := rest.split()) and words[0].isdigit():
            yield name, int(words[0])


def _number(path: Path) -> int | None:
    """The number in a file; None where there is none: `max` is no limit."""
    try:
        text = path.read_text().strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None
