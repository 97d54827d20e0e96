"""CUDA graphs: for each size of a batch, all that the network starts on the GPU is recorded once, and then started by a
single call; copies to and from the GPU run while another batch computes.

A graph holds the addresses of one version's weights, and what it was recorded with decides what it computes. So a
version that takes another's place records its own, beside the running one: a forward or two for each size, as a rule
milliseconds. What torch.compile made is shared (inductor.py).
"""

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from itertools import product
from math import prod
from queue import SimpleQueue
from threading import Lock

import torch
from torch import nn

from models.architectures import Network
from models.manifest import Manifest
from models.preprocess import Tensors
from models.preprocess.tensors import Array
from service.domain import Precision
from service.engine.backends.base import Compiled, NotBuilt, Place, Typical, none_shipped
from service.engine.backends.buckets import ROWS, pad_rows, pad_steps
from service.engine.backends.eager import DTYPES, EagerNetwork
from service.engine.backends.gpu import CudaGpu, Gpu, NotCaptured
from service.engine.backends.inductor import compiled
from service.engine.backends.slots import Extent, Shape, Slot

log = logging.getLogger(__name__)

# Lengths that are recorded before the first caller comes: those that most of the rows have that a version ships.
_TYPICAL_STEPS = 4
# Recorded at this many batches of a shape: what comes once may never come again.
_OFTEN = 2

Later = Callable[[Callable[[], None]], object]


@dataclass(frozen=True, slots=True)
class CudaGraphs:
    """The network with its weights, and all that it computes, in one precision; `compile` has torch.compile fuse it."""

    precision: Precision = Precision.FLOAT32
    name: str = "cuda-graphs"
    compile: bool = False
    open_gpu: Callable[[torch.device], Gpu] = CudaGpu

    def why_not(self, device: torch.device) -> str | None:
        """For GPUs; torch.compile needs Triton there."""
        if device.type != "cuda":
            return f"CUDA graphs are for GPUs, and this engine's device is {device}"
        if self.compile and find_spec("triton") is None:
            return "torch.compile needs Triton on a GPU, which comes with PyTorch's CUDA build"
        return None

    def start(self, place: Place) -> None:
        """What computes are no threads."""

    def build(
        self,
        network: Network,
        manifest: Manifest,
        samples: Sequence[Tensors],
        place: Place,
        typical: Typical = none_shipped,
    ) -> Compiled:
        """Record all sizes of dense rows, and of sequences those of typical lengths.

        Raises NotBuilt where that can't be done.
        """
        sample, is_ragged = samples[0], samples[0].lengths is not None
        if is_ragged and any(isinstance(module, nn.RNNBase) and module.bidirectional for module in network.modules()):
            raise NotBuilt("a network that reads both ways packs its rows on the host, which no CUDA graph can")
        cast = deepcopy(network).to(DTYPES[self.precision])
        if self.compile:
            plain: EagerNetwork = compiled(cast, place, Precision.FLOAT32, sample)
        else:
            plain = EagerNetwork(cast, place, Precision.FLOAT32)
        steps = Steps.of(network, manifest)
        sizes = list(_sizes(sample, typical, steps))
        row = sample.rows()[0]
        extent = Extent(
            max(shape[0] for shape in sizes),
            max(prod(shape) for shape in sizes),
            torch.from_numpy(row).dtype,
            network.outputs,
            is_ragged,
        )
        built = GraphedNetwork(self.open_gpu(place.device), plain, extent, steps, place.at_once)
        try:
            for shape in sizes:
                built.prepare(shape)
        except NotCaptured as error:
            raise NotBuilt(f"this network can't be recorded as a CUDA graph: {error}") from error
        return built


@dataclass(frozen=True, slots=True)
class Steps:
    """The lengths to which sequences are padded: few, and none that the network would refuse."""

    most: int | None = None

    @staticmethod
    def of(network: Network, manifest: Manifest) -> "Steps":
        """No more than the network says of itself, or its input's contract."""
        limits = [getattr(each, "max_length", None) for each in (network, manifest.input)]
        return Steps(min([limit for limit in limits if limit is not None], default=None))

    def padded(self, longest: int) -> int:
        """The length of a batch; no less than its longest row, however long that is."""
        length = pad_steps(longest)
        return length if self.most is None else max(longest, min(length, self.most))


def _sizes(sample: Tensors, typical: Typical, steps: Steps) -> Iterable[Shape]:
    """The shapes to record at once; where no rows are typical the sample's length, to learn whether any can be."""
    row = sample.rows()[0]
    if sample.lengths is None:
        return [(num_rows, *row.shape) for num_rows in ROWS]
    common = Counter(steps.padded(len(each)) for each in typical()).most_common(_TYPICAL_STEPS)
    lengths = [length for length, _ in common] or [steps.padded(len(row))]
    return [(num_rows, length, *row.shape[1:]) for length, num_rows in product(lengths, ROWS)]


class GraphedNetwork:
    """A network that runs as many batches at once as it is told to, each in a slot.

    There is one slot more than that: so one can record a shape that came again, in a thread of its own, and nobody
    waits for it. What is not recorded runs as it is. A slot that is too small for a batch is replaced by a larger one,
    which starts with nothing recorded.
    """

    has_own_threads = True

    def __init__(
        self, gpu: Gpu, plain: EagerNetwork, extent: Extent, steps: Steps, at_once: int, later: Later | None = None
    ) -> None:
        self._gpu = gpu
        self._plain = plain
        self._steps = steps if extent.is_ragged else None
        self._slots = [Slot(gpu, plain.forward, extent) for _ in range(at_once + 1)]
        self._free: SimpleQueue[Slot] = SimpleQueue()
        for slot in self._slots:
            self._free.put(slot)
        self._later = later or ThreadPoolExecutor(1, "record").submit
        self._recording = Lock()
        self._seen: Counter[Shape] = Counter()
        self._refused: set[Shape] = set()

    @property
    def num_bytes(self) -> int:
        """The weights, what batches are sent to, and what the graphs share."""
        return self._plain.num_bytes + sum(slot.num_bytes for slot in self._slots) + self._gpu.num_bytes

    def padded(self, num_rows: int, longest: int) -> tuple[int, int]:
        """The next of few sizes, that each may be recorded."""
        return pad_rows(num_rows), longest if self._steps is None else self._steps.padded(longest)

    def __call__(self, x: Array, lengths: Array | None) -> Array:
        """(B, O) float32."""
        slot = self._free.get()
        try:
            if not slot.extent.holds(x.shape):
                slot = self._grown(slot, x.shape)
            answers = slot.run(x, lengths)
        except BaseException:
            self._free.put(slot)
            raise
        if self._is_to_record(slot, x.shape):
            self._later(partial(self._record, slot, x.shape))
        else:
            self._free.put(slot)
        return answers

    def prepare(self, shape: Shape) -> None:
        """Record a shape that is to come, before anything runs. Raises NotCaptured."""
        for slot in self._slots:
            slot.capture(shape)

    def _grown(self, slot: Slot, shape: Shape) -> Slot:
        larger = Slot(self._gpu, self._plain.forward, slot.extent.grown(shape))
        self._slots[self._slots.index(slot)] = larger
        return larger

    def _is_to_record(self, slot: Slot, shape: Shape) -> bool:
        """Whether the slot is to record it now: one at a time does, so that there are enough others."""
        if slot.knows(shape) or shape in self._refused:
            return False
        self._seen[shape] += 1
        return self._seen[shape] >= _OFTEN and self._recording.acquire(blocking=False)

    def _record(self, slot: Slot, shape: Shape) -> None:
        try:
            slot.capture(shape)
        except Exception as error:  # noqa: BLE001 - it runs as it is, and a device that is lost says so to the next batch
            log.warning("a size is not recorded as a CUDA graph", extra={"shape": shape, "reason": str(error)})
            self._refused.add(shape)
        finally:
            self._free.put(slot)
            self._recording.release()
