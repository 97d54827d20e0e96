"""ONNX Runtime on a CPU: the network is traced once, exported in memory, and run for any number of rows and steps.

As with OpenVINO, tracing records what our own class, or an installed plug-in's, does on sample rows: no code is read
from anywhere, and nothing goes through a file.
"""

import io
import os
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from itertools import cycle
from queue import LifoQueue
from typing import Any

import numpy as np
import torch

from models.architectures import Network
from models.manifest import Manifest
from models.preprocess import Tensors
from models.preprocess.tensors import Array
from service.domain import Precision
from service.engine.backends.base import Compiled, NotBuilt, Place, Typical, in_brief, none_shipped
from service.engine.backends.buckets import padded_batch
from service.engine.device_memory import resident_bytes
from service.engine.threads import ordinary_thread

# The last that PyTorch's exporter of traces knows.
_OPSET = 20
_FATAL = 4


@dataclass(frozen=True, slots=True)
class OnnxRuntime:
    """float32 alone: its CPU kernels have no bfloat16 on x86."""

    precision: Precision = Precision.FLOAT32
    name: str = "onnxruntime"

    def why_not(self, device: torch.device) -> str | None:
        """It has to be installed, and with it onnx, which PyTorch's exporter needs."""
        if device.type != "cpu":
            return f"ONNX Runtime is used on CPUs alone, and this engine's device is {device}"
        if any(find_spec(module) is None for module in ("onnxruntime", "onnx")):
            return "ONNX Runtime is not installed: pip install 'servoloop[onnx]'"
        return None

    def start(self, place: Place) -> None:
        """Start the thread that starts others: each network has its own, and they come with it."""
        _starter()

    def build(
        self,
        network: Network,
        manifest: Manifest,
        samples: Sequence[Tensors],
        place: Place,
        typical: Typical = none_shipped,
    ) -> Compiled:
        """Export and load; raises NotBuilt with what PyTorch or ONNX Runtime says."""
        threads = place.threads or torch.get_num_threads()
        try:
            model, names = _export(network.eval(), samples[0])
            # With one thread a session has none of its own: any number of callers may run it, each in its own thread.
            sessions = [_session(model, threads) for _ in range(1 if threads == 1 else place.at_once)]
            if (read := [each.name for each in sessions[0].get_inputs()]) != names:
                raise ValueError(f"the network reads {', '.join(read) or 'nothing'} of {', '.join(names)}")
        except Exception as error:
            raise NotBuilt(f"ONNX Runtime can't run this network: {in_brief(error)}") from error
        return OnnxRuntimeNetwork(sessions, place.at_once, names, resident_bytes(network, place.device))


class OnnxRuntimeNetwork:
    """A loaded network. It takes any size without preparing for it.

    A session has the threads of one batch, and a copy of the weights, which take `num_bytes`.
    """

    has_own_threads = True

    def __init__(self, sessions: Sequence[Any], at_once: int, names: Sequence[str], num_bytes: int) -> None:
        self._idle: LifoQueue[Any] = LifoQueue()
        for _, session in zip(range(at_once), cycle(sessions), strict=False):
            self._idle.put(session)
        self._names = names
        self._num_bytes = len(sessions) * num_bytes

    @property
    def num_bytes(self) -> int:
        """What the network's weights take, in all sessions; ONNX Runtime does not say what it keeps besides."""
        return self._num_bytes

    def padded(self, num_rows: int, longest: int) -> tuple[int, int]:
        """Any size is as good as another."""
        return num_rows, longest

    def __call__(self, x: Array, lengths: Array | None) -> Array:
        """(B, O) float32."""
        inputs = (x,) if lengths is None else (x, lengths)
        session = self._idle.get()
        try:
            outputs: Array = session.run(None, dict(zip(self._names, inputs, strict=True)))[0]
        finally:
            self._idle.put(session)
        return outputs.astype(np.float32, copy=False)


@cache
def _library() -> Any:
    # Read once, when the library is loaded: otherwise it keeps an identifier of this machine in the user's cache, and
    # reports every session to its makers.
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    import onnxruntime

    return onnxruntime


@cache
def _starter() -> ThreadPoolExecutor:
    return ordinary_thread()


def _session(model: bytes, threads: int) -> Any:
    library = _library()
    options = library.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = _FATAL  # what fails is raised
    # Kept for good would be: the most that was ever taken, and a plan for every size that ever came.
    options.enable_cpu_mem_arena = False
    options.enable_mem_pattern = False
    # Others want these cores too.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")

    def load() -> Any:
        return library.InferenceSession(model, options, providers=["CPUExecutionProvider"])

    return load() if threads == 1 else _starter().submit(load).result()


def _export(network: Network, sample: Tensors) -> tuple[bytes, list[str]]:
    """An ONNX model that takes any number of rows, and of steps; and its inputs' names."""
    x, lengths = padded_batch(sample, 2)
    inputs = tuple(torch.from_numpy(array) for array in (x, lengths) if array is not None)
    free = {"x": {0: "rows"}} if lengths is None else {"x": {0: "rows", 1: "steps"}, "lengths": {0: "rows"}}
    # With gradients, PyTorch's encoder layers take their plain path; the fused one can't be exported.
    network.requires_grad_(True)
    file = io.BytesIO()
    with warnings.catch_warnings(), torch.enable_grad(), _steps_stay_free():
        warnings.simplefilter("ignore")  # that this exporter is the older one, and that checks are not exported
        torch.onnx.export(
            network,
            inputs,
            file,  # type: ignore[arg-type]  # the older exporter writes to either
            dynamo=False,  # the newer exporter can't leave an LSTM's number of steps free
            opset_version=_OPSET,
            input_names=list(free),
            output_names=["logits"],
            dynamic_axes={**free, "logits": {0: "rows"}},
        )
    return file.getvalue(), list(free)


@contextmanager
def _steps_stay_free() -> Iterator[None]:
    """Export nn.MultiheadAttention for any number of steps.

    PyTorch's own translation of `unflatten` computes the new shape from the sample's, and what comes after it takes the
    sample's number of steps for the only one.
    """
    from torch.onnx.utils import register_custom_op_symbolic, unregister_custom_op_symbolic

    operation = "aten::unflatten"
    register_custom_op_symbolic(operation, _unflatten, _OPSET)
    try:
        yield
    finally:
        unregister_custom_op_symbolic(operation, _OPSET)


def _unflatten(graph: Any, x: Any, dim: Any, sizes: Any) -> Any:
    from torch.onnx.symbolic_opset13 import unflatten

    rank, axis = x.type().dim(), int(dim.node().t("value"))
    if rank is None or axis % rank != rank - 1:
        return unflatten(graph, x, dim, sizes)
    as_they_are = graph.op("Constant", value_t=torch.zeros(rank - 1, dtype=torch.int64))
    return graph.op("Reshape", x, graph.op("Concat", as_they_are, sizes, axis_i=0))
