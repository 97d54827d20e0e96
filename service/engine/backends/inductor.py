"""torch.compile: the network's operations fused into C++ for this processor. It needs a C++ compiler here.

What is compiled takes the weights as inputs: within a process another version of the same architecture reuses it.
"""

import atexit
import os
import shutil
import tempfile
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import torch
from torch import nn

from models.architectures import Network
from models.manifest import Manifest
from models.preprocess import Tensors
from models.preprocess.tensors import Array
from service.domain import Precision
from service.engine.backends.base import Compiled, NotBuilt, Place, Typical, in_brief, none_shipped
from service.engine.backends.buckets import padded_batch
from service.engine.backends.eager import EagerNetwork
from service.engine.threads import use_threads

_COMPILERS = ("g++", "clang++")
# One size each for the graphs of one row, and of several; convolutions have another for many.
_SIZES = (2, 1, 8, 3, 32)
# Of one family, in a process: two or three for each architecture, precision and number of threads.
_MOST_COMPILED = 256


@dataclass(frozen=True, slots=True)
class Inductor:
    """Compiled for any number of rows and steps; slow to build, so only worth it where nothing else is as fast."""

    precision: Precision = Precision.FLOAT32
    name: str = "compile"

    def why_not(self, device: torch.device) -> str | None:
        """By itself it is for CPUs: on a GPU starting what it compiles costs as much as without."""
        if device.type != "cpu":
            return f"torch.compile is used on {device} under CUDA graphs alone: cuda-graphs-compile"
        if not os.environ.get("CXX") and not any(map(shutil.which, _COMPILERS)):
            return f"torch.compile needs a C++ compiler ({' or '.join(_COMPILERS)})"
        return None

    def start(self, place: Place) -> None:
        """PyTorch's threads belong to the thread that computes."""

    def build(
        self,
        network: Network,
        manifest: Manifest,
        samples: Sequence[Tensors],
        place: Place,
        typical: Typical = none_shipped,
    ) -> Compiled:
        """Compile; raises NotBuilt for recurrent networks, and with what the compiler says."""
        return compiled(network, place, self.precision, samples[0])


def compiled(network: Network, place: Place, precision: Precision, sample: Tensors) -> "InductorNetwork":
    """A network on its device, compiled there. Raises NotBuilt for recurrent ones, and with what the compiler says."""
    if any(isinstance(module, nn.RNNBase) for module in network.modules()):
        raise NotBuilt("torch.compile leaves LSTM and GRU as they are")
    _set_up()
    threads = place.threads or torch.get_num_threads()
    try:
        # The number is part of the code that is made, and the thread that makes it may have another.
        with torch._inductor.config.patch({"cpp.threads": threads}), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # PyTorch's compiler uses what PyTorch deprecates
            built = InductorNetwork(network, place, precision)
            for num_rows in _SIZES:
                built.compile(*padded_batch(sample, num_rows))
    except Exception as error:
        raise NotBuilt(f"torch.compile can't compile this network: {in_brief(error)}") from error
    return built


class InductorNetwork(EagerNetwork):
    """Sizes that were not foreseen run as they are: a caller must not wait for a compiler."""

    def __init__(self, network: Network, place: Place, precision: Precision) -> None:
        super().__init__(network, place, precision)
        self._compiled = torch.compile(self.network)
        # A stance would do the same for all threads, also for one that compiles meanwhile.
        self._as_compiled = torch._dynamo.run(self.network)

    def compile(self, x: Array, lengths: Array | None) -> None:
        """Run a batch, and compile what this takes."""
        # Made outside of inference mode, as those that will come are: what is compiled is for one of the two kinds.
        rows = torch.from_numpy(x).to(self._device)
        num_steps = None if lengths is None else torch.from_numpy(lengths).to(self._device)
        use_threads(self._threads)
        with torch.inference_mode(), self._precision():
            placed = self._place(rows)
            _free(placed, 1 if num_steps is None else 2)
            if num_steps is not None:
                _free(num_steps, 1)
            self._compiled(placed, num_steps)

    def _run(self, x: torch.Tensor, lengths: torch.Tensor | None) -> torch.Tensor:
        outputs: torch.Tensor = self._as_compiled(x, lengths)
        return outputs


def _free(tensor: torch.Tensor, num_axes: int) -> None:
    """Have what is compiled take any size of the first axes, and no other of the rest, which networks check."""
    for axis in range(num_axes):
        if tensor.shape[axis] > 1:  # 1 is always compiled for by itself
            torch._dynamo.maybe_mark_dynamic(tensor, axis)


@cache
def _set_up() -> None:
    """What is compiled lies in a folder of this process's own, and nothing is pickled.

    PyTorch's caches are pickled files in a folder whose name anybody on this machine can guess.
    """
    import torch._dynamo
    import torch._functorch.config
    import torch._inductor.config

    folder = tempfile.mkdtemp(prefix="servoloop-compile-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = folder
    torch._inductor.config.fx_graph_cache = False
    # All networks of a family share one count. Past it PyTorch would run them as they are, and say nothing.
    torch._dynamo.config.recompile_limit = _MOST_COMPILED
    torch._dynamo.config.accumulated_recompile_limit = _MOST_COMPILED
    torch._dynamo.config.fail_on_recompile_limit_hit = True
    torch._inductor.config.compile_threads = 1  # more would be processes, and what goes between them is pickled
    torch._functorch.config.enable_autograd_cache = False
