"""PyTorch as it is: what every network runs on, and what any other back end falls back to."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from copy import deepcopy
from dataclasses import dataclass

import torch
from torch import nn

from models.architectures import Network
from models.manifest import Manifest
from models.preprocess import Tensors
from models.preprocess.tensors import Array
from service.domain import Precision
from service.engine.backends.base import Compiled, Place, Typical, none_shipped
from service.engine.device_memory import resident_bytes
from service.engine.threads import use_threads

DTYPES = {
    Precision.FLOAT32: torch.float32,
    Precision.BFLOAT16: torch.bfloat16,
    Precision.FLOAT16: torch.float16,
}


@dataclass(frozen=True, slots=True)
class Eager:
    """The network as it was loaded; with a lower precision autocast chooses what is computed with it.

    With `cast` the weights, and all that it computes, have that precision.
    """

    precision: Precision = Precision.FLOAT32
    name: str = "eager"
    cast: bool = False

    def why_not(self, device: torch.device) -> str | None:
        """float16 is for GPUs."""
        if self.precision is Precision.FLOAT16 and device.type != "cuda":
            return f"float16 needs a GPU, and this engine's device is {device}; choose bfloat16"
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
        """Place the network on the device, pictures with their channels last."""
        if self.cast:
            return EagerNetwork(deepcopy(network).to(DTYPES[self.precision]), place, Precision.FLOAT32)
        return EagerNetwork(network, place, self.precision)


class EagerNetwork:
    """A network on a device. `autocast` is the precision that PyTorch may choose; float32 is none."""

    has_own_threads = False  # PyTorch keeps some for each thread that calls it

    def __init__(self, network: Network, place: Place, autocast: Precision) -> None:
        self.network = network.to(place.device).eval()
        self._device = place.device
        self._threads = place.threads
        self._autocast = None if autocast is Precision.FLOAT32 else DTYPES[autocast]
        self._takes = next((p.dtype for p in network.parameters() if p.is_floating_point()), torch.float32)
        self._image_like = any(isinstance(module, nn.Conv2d) for module in network.modules())
        if self._image_like:
            self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    @property
    def num_bytes(self) -> int:
        """The weights and buffers as they lie on the device."""
        return resident_bytes(self.network, self._device)

    def padded(self, num_rows: int, longest: int) -> tuple[int, int]:
        """Any size is as good as another."""
        return num_rows, longest

    def __call__(self, x: Array, lengths: Array | None) -> Array:
        """(B, O) float32."""
        outputs = self.forward(torch.from_numpy(x), None if lengths is None else torch.from_numpy(lengths))
        logits: Array = outputs.cpu().numpy()
        return logits

    def forward(self, x: torch.Tensor, lengths: torch.Tensor | None) -> torch.Tensor:
        """(B, O) float32 on the device, from wherever the inputs are."""
        use_threads(self._threads)
        with torch.inference_mode(), self._precision():
            return self._run(self._place(x), None if lengths is None else lengths.to(self._device)).float()

    def _run(self, x: torch.Tensor, lengths: torch.Tensor | None) -> torch.Tensor:
        outputs: torch.Tensor = self.network(x, lengths)
        return outputs

    def _precision(self) -> AbstractContextManager[object]:
        return nullcontext() if self._autocast is None else torch.autocast(self._device.type, self._autocast)

    def _place(self, x: torch.Tensor) -> torch.Tensor:
        dtype = self._takes if x.is_floating_point() else x.dtype
        if self._image_like and x.ndim == 4:
            return x.to(self._device, dtype, memory_format=torch.channels_last)
        return x.to(self._device, dtype)
