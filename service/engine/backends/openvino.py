"""OpenVINO on a CPU: the network is traced once, translated, and run for any number of rows and steps.

Tracing records the operations that our own class, or an installed plug-in's, carries out on sample rows. It reads no
code from anywhere, and nothing of it goes through a file.
"""

import warnings
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache, partial
from importlib.util import find_spec
from math import prod
from queue import Empty, SimpleQueue
from typing import Any

import numpy as np
import torch
from torch import nn

from models.architectures import Network
from models.manifest import Manifest
from models.preprocess import Tensors
from models.preprocess.tensors import Array
from service.domain import Precision
from service.engine.backends.base import Compiled, NotBuilt, Place, Typical, in_brief, none_shipped
from service.engine.backends.buckets import ROWS, pad_rows, pad_steps, padded_batch
from service.engine.backends.quantised import quantise

_HINTS = {Precision.FLOAT32: "f32", Precision.BFLOAT16: "bf16"}


@dataclass(frozen=True, slots=True)
class OpenVino:
    """Every new shape costs it some milliseconds once, so rows and steps are padded to few sizes.

    With `int8` it multiplies in that by weights, and computes all else with its precision.
    """

    precision: Precision = Precision.FLOAT32
    name: str = "openvino"
    int8: bool = False

    def why_not(self, device: torch.device) -> str | None:
        """It has to be installed; bfloat16 needs a processor that has it."""
        if device.type != "cpu":
            return f"OpenVINO is used on CPUs alone, and this engine's device is {device}"
        if find_spec("openvino") is None:
            return "OpenVINO is not installed: pip install 'servoloop[openvino]'"
        if self.precision is Precision.BFLOAT16 and "BF16" not in _capabilities():
            return "this processor has no instructions for bfloat16"
        return None

    def start(self, place: Place) -> None:
        """Run something large enough for all threads."""
        _start_threads(place.threads or torch.get_num_threads(), place.at_once)
        if place.alone:
            _start_threads(place.alone, 1)

    def build(
        self,
        network: Network,
        manifest: Manifest,
        samples: Sequence[Tensors],
        place: Place,
        typical: Typical = none_shipped,
    ) -> Compiled:
        """Trace, translate and compile; raises NotBuilt with what OpenVINO says."""
        threads = place.threads or torch.get_num_threads()
        ragged = samples[0].lengths is not None
        if self.int8 and any(isinstance(module, nn.RNNBase) for module in network.modules()):
            raise NotBuilt("int8 leaves LSTM and GRU as they are")
        try:
            model = _translate(network.eval(), samples[0])
            if self.int8:
                quantise(model, typical(), ragged=ragged, compiled=partial(_compile, Precision.FLOAT32, threads, 1))
            compiled = _compile(self.precision, threads, place.at_once, model)
            alone = _compile(self.precision, place.alone, 1, model) if place.alone else None
        except NotBuilt:
            raise
        except Exception as error:
            raise NotBuilt(f"OpenVINO can't run this network: {in_brief(error)}") from error
        num_bytes = (2 if alone else 1) * sum(_bytes_of(node, self.precision) for node in model.get_ops())
        built = OpenVinoNetwork(compiled, alone, place.at_once, num_bytes, is_ragged=ragged)
        if not ragged:
            for num_rows in ROWS:  # few enough to have them all before the first caller comes
                built.prepare(*padded_batch(samples[0], num_rows))
        return built


class OpenVinoNetwork:
    """A network compiled for batches, with a request for each that may run at once, and perhaps for lone rows too."""

    has_own_threads = True

    def __init__(self, compiled: Any, alone: Any | None, at_once: int, num_bytes: int, *, is_ragged: bool) -> None:
        self._batches, self._alone = SimpleQueue[Any](), SimpleQueue[Any]()
        self._at_once = at_once
        for _ in range(at_once):
            self._batches.put(compiled.create_infer_request())
        if alone is not None:
            self._alone.put(alone.create_infer_request())
        self._num_bytes = num_bytes
        self._is_ragged = is_ragged

    @property
    def num_bytes(self) -> int:
        """What its constants take with this precision; OpenVINO does not say what it keeps besides."""
        return self._num_bytes

    def padded(self, num_rows: int, longest: int) -> tuple[int, int]:
        """The next sizes that it has seen, or may."""
        return pad_rows(num_rows), pad_steps(longest) if self._is_ragged else longest

    def __call__(self, x: Array, lengths: Array | None) -> Array:
        """(B, O) float32."""
        if len(x) == 1 and self._batches.qsize() == self._at_once:
            with suppress(Empty):
                return self._run(self._alone, x, lengths, wait=False)
        return self._run(self._batches, x, lengths)

    def prepare(self, x: Array, lengths: Array | None) -> None:
        """Run a batch of a size that is to come."""
        self(x, lengths)
        self._run(self._batches, x, lengths)

    def _run(self, requests: "SimpleQueue[Any]", x: Array, lengths: Array | None, *, wait: bool = True) -> Array:
        request = requests.get(wait)
        try:
            outputs: Array = request.infer((x,) if lengths is None else (x, lengths), share_inputs=True)[0]
        finally:
            requests.put(request)
        return outputs.astype(np.float32, copy=False)


@cache
def _start_threads(threads: int, at_once: int) -> None:
    from openvino import Model, opset13

    size = 256
    x = opset13.parameter([-1, size], np.float32)
    model = Model([opset13.matmul(x, opset13.constant(np.ones((size, size), np.float32)), False, False)], [x])
    compiled = _compile(Precision.FLOAT32, threads, at_once, model)
    for _ in range(10):
        compiled((np.ones((size, size), np.float32),))


@cache
def _core() -> Any:
    import openvino

    return openvino.Core()


@cache
def _capabilities() -> tuple[str, ...]:
    return tuple(_core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"))


def _compile(precision: Precision, threads: int, at_once: int, model: Any) -> Any:
    properties = {
        "INFERENCE_PRECISION_HINT": _HINTS[precision],
        "INFERENCE_NUM_THREADS": threads * at_once,
        "NUM_STREAMS": at_once,
        "PERFORMANCE_HINT": "LATENCY",
        # Others want these cores too: threads that can't move wait for them.
        "ENABLE_CPU_PINNING": False,
    }
    return _core().compile_model(model, "CPU", properties)


def _bytes_of(node: Any, precision: Precision) -> int:
    if node.get_type_name() != "Constant" or prod(node.shape) <= 1:
        return 0
    users = [each.get_node().get_type_name() for each in node.output(0).get_target_inputs()]
    width = 1 if users == ["FakeQuantize"] else 2 if precision is Precision.BFLOAT16 else 4
    return int(prod(node.shape)) * width


def _translate(network: Network, sample: Tensors) -> Any:
    """An OpenVINO model that takes any number of rows, and of steps."""
    from openvino import PartialShape
    from openvino.frontend import FrontEndManager
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

    x, lengths = padded_batch(sample, 2)
    inputs = tuple(torch.from_numpy(array) for array in (x, lengths) if array is not None)
    # With gradients, PyTorch's encoder layers take their plain path; the fused one can't be translated.
    network.requires_grad_(True)
    with warnings.catch_warnings(), torch.enable_grad():
        warnings.simplefilter("ignore")  # that checks of shapes are not part of the trace
        traced = torch.jit.trace(network, inputs, check_trace=False)  # type: ignore[no-untyped-call]
        frontend = FrontEndManager().load_by_framework("pytorch")
        # Not openvino.convert_model, which does the same and reports it to its makers.
        decoder = TorchScriptPythonDecoder(traced)  # both in a name: nothing else holds them
        loaded = frontend.load(decoder)
        model = frontend.convert(loaded)
    if len(model.inputs) != len(inputs):
        raise ValueError(f"the network reads {len(model.inputs)} of its {len(inputs)} inputs")
    free = 1 if lengths is None else 2
    shapes = [[-1] * free + list(x.shape[free:]), [-1]][: len(inputs)]
    model.reshape({index: PartialShape(shape) for index, shape in enumerate(shapes)})
    return model
