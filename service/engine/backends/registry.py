"""The back ends that there are, from the plainest to the one that takes longest to build."""

from service.domain import Precision
from service.engine.backends.base import Backend
from service.engine.backends.cuda_graphs import CudaGraphs
from service.engine.backends.eager import Eager
from service.engine.backends.inductor import Inductor
from service.engine.backends.onnxruntime import OnnxRuntime
from service.engine.backends.openvino import OpenVino

BACKENDS: tuple[Backend, ...] = (
    Eager(),
    Eager(Precision.BFLOAT16),
    Eager(Precision.BFLOAT16, "eager-cast", cast=True),
    OpenVino(),
    OpenVino(Precision.BFLOAT16),
    OpenVino(Precision.BFLOAT16, "openvino-int8", int8=True),
    OnnxRuntime(),
    CudaGraphs(),
    CudaGraphs(Precision.BFLOAT16),
    CudaGraphs(Precision.FLOAT16),
    Inductor(),
    Inductor(Precision.BFLOAT16),
    CudaGraphs(Precision.FLOAT32, "cuda-graphs-compile", compile=True),
    CudaGraphs(Precision.BFLOAT16, "cuda-graphs-compile", compile=True),
)

SLOW_TO_BUILD = frozenset({"compile", "cuda-graphs-compile"})
"""What takes so long to build that it is only tried where somebody asks for it."""


def find(name: str, precision: Precision) -> Backend | None:
    """The back end of a name and a precision, or None."""
    return next((each for each in BACKENDS if (each.name, each.precision) == (name, precision)), None)
