"""What ONNX Runtime does beside computing: its threads, and what it tells of itself."""

import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from models.architectures import Network, build
from service.engine.backends.base import Compiled, NotBuilt, Place
from service.engine.backends.onnxruntime import OnnxRuntime
from service.engine.threads import loader_thread, ordinary_thread
from tests.service.engine.backends.test_backends import samples_of
from tests.service.engine.networks import NETWORKS, manifest_of

pytestmark = pytest.mark.onnxruntime

CPU = torch.device("cpu")
BACKEND = OnnxRuntime()


def threads_of_this_process() -> set[int]:
    return {int(folder.name) for folder in Path("/proc/self/task").iterdir()}


def built(name: str, threads: int, at_once: int = 1) -> Compiled:
    contract, architecture = NETWORKS[name]
    network = build(architecture["family"], architecture["config"])
    return BACKEND.build(network, manifest_of(contract, architecture), samples_of(name), Place(CPU, threads, at_once))


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere niceness is the whole process's")
@pytest.mark.parametrize(("threads", "started"), [(1, 0), (3, 2)])
def test_threads_have_an_ordinary_priority_though_a_modest_one_loads(threads: int, started: int) -> None:
    with ordinary_thread() as ordinary, loader_thread() as loader:
        ordinary.submit(BACKEND.start, Place(CPU, threads)).result()
        built("mlp", 1)  # what the library starts once is there now
        loader.submit(int).result()
        before = threads_of_this_process()
        network = loader.submit(built, "mlp", threads).result()
        new = threads_of_this_process() - before
        niceness = [os.getpriority(os.PRIO_PROCESS, thread) for thread in new]
        assert niceness == [os.getpriority(os.PRIO_PROCESS, threading.get_native_id())] * started
        assert network is not None  # its threads live as long as it does


@pytest.mark.skipif(sys.platform != "linux", reason="threads are counted by Linux's /proc")
@pytest.mark.parametrize(("threads", "copies"), [(1, 1), (3, 2)])
def test_each_of_the_batches_at_once_has_threads_of_its_own(threads: int, copies: int) -> None:
    built("mlp", 1)  # what the library starts once is there now
    one = built("mlp", threads)
    before = threads_of_this_process()
    both = built("mlp", threads, at_once=2)
    assert len(threads_of_this_process() - before) == copies * (threads - 1)
    assert both.num_bytes == copies * one.num_bytes
    rows = np.ones((2, 5), np.float32)
    alone = both(rows, None)
    with ThreadPoolExecutor(2) as callers:
        found = list(callers.map(lambda _: both(rows, None), range(8)))
    assert all(np.array_equal(answer, alone) for answer in found)


_BUILD = """
import torch
from tests.service.engine.backends.test_onnxruntime import built
built("mlp", 1)
"""


def test_nothing_is_kept_of_this_machine_for_its_makers(tmp_path: Path) -> None:
    # Where these are set, the library reports nothing anyhow.
    kept = {name: value for name, value in os.environ.items() if name not in ("CI", "ORT_DISABLE_TELEMETRY")}
    homes = dict.fromkeys(("HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME", "TMPDIR"), str(tmp_path))
    subprocess.run([sys.executable, "-B", "-c", _BUILD], env={**kept, **homes}, check=True)
    assert list(tmp_path.rglob("*")) == []


class Spectrum(Network):
    outputs = 3

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        return torch.linalg.svdvals(x[:, :, None] * x[:, None, :])[:, :3]


def test_what_can_not_be_exported_is_not_built_and_the_reason_is_short() -> None:
    with pytest.raises(NotBuilt, match=r"^ONNX Runtime can't run this network: .*linalg_svdvals") as raised:
        BACKEND.build(Spectrum(), manifest_of(*NETWORKS["mlp"]), samples_of("mlp"), Place(CPU, 1))
    assert len(str(raised.value)) < 400


class Counted(Network):
    outputs = 3

    def __init__(self) -> None:
        super().__init__()
        self.output = nn.Linear(1, 3)

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        assert lengths is not None
        logits: Tensor = self.output(lengths[:, None].float())
        return logits


def test_a_network_that_leaves_an_input_out_is_not_built() -> None:
    name = "lstm over features"
    with pytest.raises(NotBuilt, match="the network reads lengths of x, lengths"):
        BACKEND.build(Counted(), manifest_of(*NETWORKS[name]), samples_of(name), Place(CPU, 1))
