import os
import platform
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from service.engine.devices import free_memory, open_device, own_device, peak_of, resident_bytes
from service.engine.memory import Memory, machine_memory, processor_name


@pytest.fixture(autouse=True)
def _threads_as_they_were() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_auto_is_a_gpu_where_there_is_one() -> None:
    assert open_device("auto", 1).type == ("cuda" if torch.cuda.is_available() else "cpu")


@pytest.mark.parametrize(("wanted", "threads"), [(3, 3), (0, len(os.sched_getaffinity(0)))])
def test_threads_are_as_many_as_wanted_or_one_a_core(wanted: int, threads: int) -> None:
    open_device("cpu", wanted)
    assert torch.get_num_threads() == threads


@pytest.mark.parametrize("name", ["gpu", "", "cuda:x", "cpu:cpu"])
def test_what_names_no_device_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="is no device; expected auto, cpu, cuda or cuda:N"):
        open_device(name, 1)


@pytest.mark.parametrize("name", ["mps", "meta"])
def test_a_device_that_is_not_served_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"'{name}' is not supported"):
        open_device(name, 1)


def test_a_gpu_that_is_not_there_is_refused() -> None:
    with pytest.raises(ValueError, match=f"there is no device cuda:99; torch sees {torch.cuda.device_count()} GPUs"):
        open_device("cuda:99", 1)


@pytest.mark.gpu
def test_on_a_gpu_float32_is_not_rounded_to_ten_bits() -> None:
    torch.backends.cudnn.allow_tf32 = True
    open_device("cuda", 1)
    assert not torch.backends.cudnn.allow_tf32
    assert not torch.backends.cuda.matmul.allow_tf32


# Memory


GIB = 1 << 30


class TwoGpus:
    """GPUs as torch would tell of them."""

    def count(self) -> int:
        return 2

    def title(self, index: int) -> str:
        return f"GPU number {index}"

    def memory(self, index: int) -> Memory:
        return Memory(free=(10 + index) * GIB, total=80 * GIB)


def test_on_a_cpu_half_of_what_is_free_is_for_replicas() -> None:
    machine = lambda: Memory(free=6 * GIB, total=8 * GIB)  # noqa: E731
    own = own_device(torch.device("cpu"), 0, machine=machine)
    assert (own.name, own.budget, own.peers, own.memory()) == ("cpu", 3 * GIB, ("cpu",), machine())
    assert own.title


def test_on_a_gpu_most_of_what_is_free_is_and_its_peers_are_named() -> None:
    own = own_device(torch.device("cuda", 1), 0, gpus=TwoGpus())
    assert (own.name, own.title, own.peers) == ("cuda:1", "GPU number 1", ("cuda:0", "cuda:1"))
    assert own.budget == int(0.9 * 11 * GIB)
    assert own.memory() == Memory(free=11 * GIB, total=80 * GIB)


@pytest.mark.parametrize("device", [torch.device("cpu"), torch.device("cuda", 0)])
def test_an_operators_budget_counts(device: torch.device) -> None:
    assert own_device(device, 123, gpus=TwoGpus()).budget == 123


def test_what_runs_on_a_cpu_has_no_peak_that_could_be_told() -> None:
    ran: list[int] = []
    assert peak_of(lambda: ran.append(1), torch.device("cpu")) == 0
    assert ran == [1]


def test_on_a_gpu_a_tensor_takes_whole_blocks() -> None:
    network = torch.nn.Linear(1, 1)
    assert resident_bytes(network, torch.device("cpu")) == 8
    assert resident_bytes(network, torch.device("cuda")) == 2 * 512


def test_memory_is_given_back() -> None:
    free_memory()


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
