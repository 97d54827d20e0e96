"""What the GPU's benchmark does around the GPU, on a CPU."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console

from benchmarks import gpu
from benchmarks.gpu import Found, batch_of, driven, keep_found, profiled
from benchmarks.networks import MAX_BATCH, SUBJECTS, write_checkpoints
from models.checkpoint import network_of
from models.checkpoint_files import CheckpointFiles
from models.manifest import WEIGHTS
from service.domain import Precision
from service.engine.backends.base import Place
from service.engine.backends.cuda_graphs import CudaGraphs
from service.engine.plans import Plan, eager
from tests.service.engine.backends.host_gpu import HostGpu

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def cnn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("networks")
    write_checkpoints(root)
    return root / "cnn" / "1"


def found(bare: list[float], engine: list[float]) -> Found:
    return Found("cnn", Precision.BFLOAT16, bare, engine, "aten::conv2d 1 us")


def test_the_ratio_is_that_of_the_medians() -> None:
    assert found([100, 200, 120], [90, 108, 300]).ratio == 0.9


def test_batches_are_of_the_benchmarks_rows() -> None:
    pictures, ids = batch_of(SUBJECTS["cnn"]), batch_of(SUBJECTS["lstm"])
    assert (pictures.values.shape, pictures.lengths) == ((MAX_BATCH, 3, 32, 32), None)
    assert ids.lengths is not None
    assert ids.lengths.tolist() == [100] * MAX_BATCH


async def test_an_engine_is_driven_with_whole_batches_and_answers_as_the_network_does(cnn: Path) -> None:
    batch, on_the_host = batch_of(SUBJECTS["cnn"]), HostGpu()
    plan = Plan(CudaGraphs(open_gpu=lambda _: on_the_host), Place(CPU, 1, 2), "a test")
    async with driven(cnn, batch, plan, lanes=2) as engine:
        before = on_the_host.num_replayed
        assert await engine.run(0) > 0
        assert on_the_host.num_replayed - before == gpu._OUTSTANDING
        outputs = (await engine.ask()).values
    files = CheckpointFiles(cnn)
    with torch.inference_mode():
        expected = network_of(files.read(WEIGHTS), files.manifest)(torch.from_numpy(batch.values)).numpy()
    np.testing.assert_allclose(outputs, expected, rtol=1e-4, atol=1e-5)


async def test_a_network_that_does_not_run_as_planned_is_not_measured(cnn: Path) -> None:
    plan = Plan(CudaGraphs(open_gpu=lambda _: HostGpu(lambda: "no room")), Place(CPU, 1, 2), "a test")
    with pytest.raises(SystemExit, match="cnn/1: this network can't be recorded as a CUDA graph: no room"):
        async with driven(cnn, batch_of(SUBJECTS["cnn"]), plan, lanes=2):
            pass


async def test_the_profile_names_what_the_network_ran(cnn: Path) -> None:
    async with driven(cnn, batch_of(SUBJECTS["cnn"]), eager(CPU, Precision.FLOAT32, 1), lanes=1) as engine:
        assert "aten::conv2d" in await profiled(engine, 0)


def test_figures_and_profiles_are_kept_side_by_side(tmp_path: Path) -> None:
    keep_found(tmp_path / "gpu.json", [found([100.0], [91.0])], "a GPU", quick=True)
    kept = json.loads((tmp_path / "gpu.json").read_text())
    assert (kept["device"], kept["quick"], kept["ratios"]) == ("a GPU", True, {"cnn_bfloat16": 0.91})
    assert (tmp_path / kept["profiles"]).read_text() == "cnn bfloat16\naten::conv2d 1 us\n"


def test_without_a_gpu_it_says_what_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit, match="needs an NVIDIA GPU and PyTorch's CUDA build"):
        gpu.run(Console(), None, quick=True)
