"""How close the engine comes to a GPU's limit: its rows a second, beside those of a bare loop over a CUDA graph.

Both run the same batches of 32 rows in one process, in turns. The loop has nothing around it: fixed memory, pinned on
the host, copied to the GPU and back. The engine is driven directly, with whole batches as requests: what it adds is its
queue, its lanes and its back end. The networks have random weights.
"""

import asyncio
import contextlib
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from prometheus_client import CollectorRegistry
from rich.console import Console
from torch.profiler import profile

from benchmarks.networks import MAX_BATCH, SUBJECTS, Subject, write_checkpoints
from benchmarks.report import keep, progress, show
from models.checkpoint import network_of
from models.checkpoint_files import CheckpointFiles
from models.manifest import WEIGHTS
from models.preprocess import Tensors
from service.domain import BatchPolicy, Deadline, Precision, Ref
from service.engine.backends.base import Place
from service.engine.backends.cuda_graphs import CudaGraphs
from service.engine.backends.eager import DTYPES
from service.engine.core import Engine
from service.engine.devices import GPU_LANES, open_device
from service.engine.plans import Plan
from service.engine.replica import Replica
from service.engine.requests import Request
from service.telemetry.instruments import EngineTelemetry
from service.wire.inference import Outputs
from service.wire.report import Wanted

NEEDS = "python -m benchmarks gpu needs an NVIDIA GPU and PyTorch's CUDA build; torch {version} sees no GPU"
PRECISIONS = (Precision.BFLOAT16, Precision.FLOAT32)
# What the answers of both may be apart, of their scale.
_ALIKE = {Precision.BFLOAT16: 5e-2, Precision.FLOAT32: 1e-3}
# One batch computes in each lane, and another waits for each, so that no lane waits for a caller.
_OUTSTANDING = 2 * GPU_LANES
_ROW_LIMIT = 25
_PATIENCE = 60.0


@dataclass(frozen=True)
class Found:
    """Rows a second of both, window by window, and what the profiler says of the engine."""

    network: str
    precision: Precision
    bare: list[float]
    engine: list[float]
    profile: str

    @property
    def ratio(self) -> float:
        """The engine's share of what the loop does, of medians."""
        return statistics.median(self.engine) / statistics.median(self.bare)

    def row(self) -> dict[str, Any]:
        """For people, and for the JSON."""
        return {
            "network": self.network,
            "precision": str(self.precision),
            "bare rows/s": statistics.median(self.bare),
            "engine rows/s": statistics.median(self.engine),
            "ratio": self.ratio,
        }


class Bare:
    """A loop over one CUDA graph. It waits for an answer only after the next batch was begun."""

    def __init__(self, folder: Path, precision: Precision, batch: Tensors, device: torch.device) -> None:
        files = CheckpointFiles(folder)
        network = network_of(files.read(WEIGHTS), files.manifest).to(device, DTYPES[precision]).eval()
        rows = torch.from_numpy(np.stack(batch.rows()))
        num_steps = None if batch.lengths is None else torch.from_numpy(batch.lengths.astype(np.int64)).to(device)
        self._sent = rows.pin_memory()
        self._x = rows.to(device)
        dtype = DTYPES[precision] if rows.is_floating_point() else rows.dtype

        def forward() -> torch.Tensor:
            with torch.inference_mode():
                outputs: torch.Tensor = network(self._x.to(dtype), num_steps)
                return outputs.float()

        for _ in range(3):
            forward()
        torch.cuda.synchronize(device)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            self._outputs = forward()
        self._received = torch.empty(self._outputs.shape, pin_memory=True)
        self._done = [torch.cuda.Event() for _ in range(2)]  # type: ignore[no-untyped-call]

    def run(self, seconds: float) -> float:
        """Rows a second."""
        began, batches = time.perf_counter(), 0
        while batches < 2 or time.perf_counter() - began < seconds:
            self._x.copy_(self._sent, non_blocking=True)
            self._graph.replay()
            self._received.copy_(self._outputs, non_blocking=True)
            self._done[batches % 2].record()
            batches += 1
            if batches > 1:
                self._done[batches % 2].synchronize()
        torch.cuda.synchronize()
        return MAX_BATCH * batches / (time.perf_counter() - began)

    @property
    def answers(self) -> np.ndarray[Any, np.dtype[np.float32]]:
        """(32, outputs) of the last batch."""
        return self._received.numpy().copy()


class Driven:
    """An engine with one version, asked for the same batch over and over."""

    def __init__(self, engine: Engine, ref: Ref, batch: Tensors) -> None:
        self._engine = engine
        self._ref = ref
        self._batch = batch

    async def ask(self) -> Outputs:
        """One batch. Raises whatever the engine answers instead."""
        answered: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        now = time.monotonic()
        deadline = Deadline.after(_PATIENCE, now=now)
        self._engine.submit(Request(self._ref, self._batch, deadline, now, answered.set_result))
        result = await answered
        if not isinstance(result, Outputs):
            raise result
        return result

    async def run(self, seconds: float) -> float:
        """Rows a second, with as many batches asked for as keep it busy."""
        began = time.perf_counter()

        async def caller() -> int:
            batches = 0
            while not batches or time.perf_counter() - began < seconds:
                await self.ask()
                batches += 1
            return batches

        batches = sum(await asyncio.gather(*[caller() for _ in range(_OUTSTANDING)]))
        return MAX_BATCH * batches / (time.perf_counter() - began)


@contextlib.asynccontextmanager
async def driven(folder: Path, batch: Tensors, plan: Plan, lanes: int) -> AsyncIterator[Driven]:
    """An engine that runs a checkpoint as planned."""
    ref = Ref(folder.parent.name, int(folder.name))
    engine = Engine(BatchPolicy(max_rows=MAX_BATCH), EngineTelemetry(CollectorRegistry()), threads=lanes)
    wanted = Wanted(ref, folder)
    replica = Replica.load(wanted, plan.place.device, lambda *_: plan)
    await engine.warm_up(ref, replica)
    if replica.execution.backend != plan.backend.name:
        raise SystemExit(f"{ref}: {replica.execution.reason}")
    engine.install(wanted, replica)
    running = asyncio.create_task(engine.run())
    try:
        yield Driven(engine, ref, batch)
    finally:
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running


def batch_of(subject: Subject) -> Tensors:
    """32 of the benchmark's rows."""
    rows = [subject.row()] * MAX_BATCH
    return Tensors.packed(rows) if subject.input["dtype"] == "int64" else Tensors(np.stack(rows))


async def profiled(engine: Driven, seconds: float) -> str:
    """The operations that took longest on the device, or on the host where there is none, while the engine ran."""
    every_thread = torch._C._profiler._ExperimentalConfig(profile_all_threads=True)  # the lanes', not only this one
    with profile(experimental_config=every_thread) as profiler:
        await engine.run(seconds)
    order = "self_device_time_total" if torch.cuda.is_available() else "self_cpu_time_total"
    return str(profiler.key_averages().table(sort_by=order, row_limit=_ROW_LIMIT))


async def measure(
    folder: Path, precision: Precision, device: torch.device, seconds: float, rounds: int, tell: Callable[[str], None]
) -> Found:
    """Both in turns. Exits where the engine does not run the network by CUDA graphs, or answers otherwise."""
    name = folder.parent.name
    tell(f"{name} {precision}: recording")
    batch = batch_of(SUBJECTS[name])
    bare = Bare(folder, precision, batch, device)
    plan = Plan(CudaGraphs(precision), Place(device, 1, GPU_LANES), "it is measured")
    async with driven(folder, batch, plan, GPU_LANES) as engine:
        bare.run(seconds)
        await engine.run(seconds)  # sizes that come again are recorded meanwhile
        found, expected = (await engine.ask()).values, bare.answers
        apart = float(np.abs(found - expected).max()) / max(1.0, float(np.abs(expected).max()))
        if not apart <= _ALIKE[precision]:
            raise SystemExit(f"{name} {precision}: the engine answers {apart:.2g} of the scale away from the loop")
        windows: list[tuple[float, float]] = []
        for number in range(rounds):
            tell(f"{name} {precision}: round {number + 1} of {rounds}")
            windows.append((bare.run(seconds), await engine.run(seconds)))
        tell(f"{name} {precision}: profile")
        table = await profiled(engine, min(seconds, 0.2))
    return Found(name, precision, [one for one, _ in windows], [one for _, one in windows], table)


def run(console: Console, path: Path | None, *, quick: bool) -> None:
    """Measure, show, and keep the profiles as text beside the JSON. Exits where there is no GPU."""
    if not torch.cuda.is_available():
        raise SystemExit(NEEDS.format(version=torch.__version__))
    device = open_device("cuda", 0)
    seconds, rounds = (0.5, 3) if quick else (2.0, 9)
    found = []
    with tempfile.TemporaryDirectory() as folder, progress(console, len(SUBJECTS) * 2 * (rounds + 2)) as step:
        write_checkpoints(Path(folder))
        for name in SUBJECTS:
            for precision in PRECISIONS:
                one = measure(Path(folder) / name / "1", precision, device, seconds, rounds, step)
                found.append(asyncio.run(one))
    show(console, f"batches of {MAX_BATCH} on {torch.cuda.get_device_name(device)}", [each.row() for each in found])
    keep_found(path, found, torch.cuda.get_device_name(device), quick=quick)


def keep_found(path: Path | None, found: list[Found], device: str, *, quick: bool) -> None:
    """Write the figures, and the profiles to `<name>.profile.txt` beside them, where a file was asked for."""
    if path is None:
        return
    profiles = path.with_suffix(".profile.txt")
    profiles.write_text("\n".join(f"{each.network} {each.precision}\n{each.profile}\n" for each in found))
    keep(
        path,
        "gpu",
        quick=quick,
        device=device,
        cuda=torch.version.cuda,
        ratios={f"{each.network}_{each.precision}": each.ratio for each in found},
        windows=[{**each.row(), "bare": each.bare, "engine": each.engine} for each in found],
        profiles=profiles.name,
    )
