import platform
from pathlib import Path

import pytest

from service.engine.memory import Memory, machine_memory, processor_name

GIB = 1 << 30


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """A machine of 8 GiB, of which 6 are free."""
    write(tmp_path, "proc/meminfo", f"MemTotal: {8 << 20} kB\nMemFree: 1 kB\nMemAvailable: {6 << 20} kB\n")
    return tmp_path


def write(root: Path, name: str, text: object) -> None:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_text(f"{text}\n")


def limit(root: Path, group: str, most: object, used: int, cached: int = 0) -> None:
    write(root, f"sys/fs/cgroup/{group}memory.max", most)
    write(root, f"sys/fs/cgroup/{group}memory.current", used)
    write(root, f"sys/fs/cgroup/{group}memory.stat", f"anon 1\ninactive_file {cached}")


def test_the_machines_memory_is_what_the_kernel_says(machine: Path) -> None:
    assert machine_memory(machine) == Memory(free=6 * GIB, total=8 * GIB)


def test_a_containers_limit_counts_where_it_is_less(machine: Path) -> None:
    limit(machine, "", 4 * GIB, 3 * GIB, cached=GIB)
    assert machine_memory(machine) == Memory(free=2 * GIB, total=4 * GIB)


@pytest.mark.parametrize("most", ["max", 100 * GIB])
def test_a_limit_that_is_none_does_not_count(machine: Path, most: object) -> None:
    limit(machine, "", most, GIB)
    assert machine_memory(machine) == Memory(free=6 * GIB, total=8 * GIB)


def test_of_the_groups_around_this_process_the_strictest_counts(machine: Path) -> None:
    write(machine, "proc/self/cgroup", "0::/services/servoloop")
    limit(machine, "services/servoloop/", "max", GIB)
    limit(machine, "services/", 2 * GIB, GIB)
    assert machine_memory(machine) == Memory(free=GIB, total=2 * GIB)


def test_who_uses_more_than_its_limit_has_nothing_free(machine: Path) -> None:
    limit(machine, "", GIB, 2 * GIB)
    assert machine_memory(machine) == Memory(free=0, total=GIB)


def test_without_proc_the_installed_memory_counts(tmp_path: Path) -> None:
    memory = machine_memory(tmp_path)
    assert memory.free == memory.total > 0


@pytest.mark.parametrize(
    ("said", "expected"), [("processor: 0\nmodel name\t: AMD EPYC\n", "AMD EPYC"), ("processor: 0\n", None)]
)
def test_a_processor_has_a_name(tmp_path: Path, said: str, expected: str | None) -> None:
    write(tmp_path, "proc/cpuinfo", said)
    assert processor_name(tmp_path) == (expected or platform.machine())
