"""What the families share: config base, activations, the dense head, and exact masking of padded sequences.

Shapes: B rows, T steps of the longest row, F features of a step, H width of a hidden state.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Annotated, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

Activation = Literal["relu", "leaky_relu", "elu", "gelu", "silu", "tanh", "sigmoid"]
Probability = Annotated[float, Field(ge=0.0, lt=1.0)]
# The ceilings keep a config from asking for terabytes, or for minutes of building, before the weights are looked at.
Size = Annotated[int, Field(gt=0, le=1 << 24)]
Depth = Annotated[int, Field(gt=0, le=128)]
Sizes = Annotated[tuple[Size, ...], Field(max_length=32)]

ACTIVATIONS: dict[Activation, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "elu": nn.ELU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
}


class FamilyConfig(BaseModel):
    """A family's whole description: with it and the weights a network is complete. Unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    outputs: Size


class Network(nn.Module):
    """Rows in, one line of `outputs` numbers out for each row (logits, or values for a regression).

    Dense input is (B, *shape) float32. Sequences are (B, T) int64 token ids padded with 0, or (B, T, F) float32
    padded with zeros, with `lengths` (B,) int64; None means that every row is full. What is behind a row's length
    never changes its answer. A row of length 0 is read as one padding step.
    """

    outputs: int

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Return (B, outputs) float32. Raises ValueError when the input's shape is not the config's."""
        raise NotImplementedError


def linear_stack(inputs: int, widths: Sequence[int]) -> tuple[nn.ModuleList, int]:
    """Return the linear layers `inputs -> widths[0] -> ...` and the width that comes out of the last one."""
    sizes = [inputs, *widths]
    return nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(sizes)), sizes[-1]


def expect_shape(x: Tensor, *shape: int | None) -> None:
    """Raise ValueError unless `x` has one axis for the rows and then `shape`; None stands for any length."""
    sizes = tuple(x.shape[1:])
    if len(sizes) != len(shape) or any(want not in (None, got) for want, got in zip(shape, sizes, strict=True)):
        wanted = ", ".join("B" if i == 0 else "any" if n is None else str(n) for i, n in enumerate((None, *shape)))
        raise ValueError(f"input must have shape ({wanted}), got {tuple(x.shape)}")


def as_steps(x: Tensor, lengths: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return (B, T >= 1, ...) and lengths (B,) int64 in 1..T. Raises ValueError for lengths that don't fit."""
    if x.shape[1] == 0:
        x = x.new_zeros((x.shape[0], 1, *x.shape[2:]))
    num_steps = x.shape[1]
    if lengths is None:
        return x, torch.full((x.shape[0],), num_steps, dtype=torch.int64, device=x.device)
    if lengths.shape != (x.shape[0],):
        raise ValueError(f"lengths must have shape ({x.shape[0]},), got {tuple(lengths.shape)}")
    # A GPU's are not looked at: that would wait for all that runs there, and could not be part of a CUDA graph.
    if lengths.device.type == "cpu" and lengths.numel() and int(lengths.max()) > num_steps:
        raise ValueError(f"lengths must be at most {num_steps}, got {int(lengths.max())}")
    return x, lengths.to(device=x.device, dtype=torch.int64).clamp(min=1)


def step_mask(lengths: Tensor, num_steps: int) -> Tensor:
    """Return (B, T) bool: True where a step belongs to its row."""
    return torch.arange(num_steps, device=lengths.device)[None, :] < lengths[:, None]


def pool_last(h_BTH: Tensor, lengths: Tensor) -> Tensor:
    """Return (B, H): each row's last own step."""
    return h_BTH[torch.arange(h_BTH.shape[0], device=h_BTH.device), lengths - 1]


def pool_mean(h_BTH: Tensor, mask_BT: Tensor) -> Tensor:
    """Return (B, H): the mean over each row's own steps, summed up in float32."""
    # where, not a product: an Inf behind the row's end times zero would be NaN.
    total = torch.where(mask_BT[..., None], h_BTH.float(), 0.0).sum(dim=1)
    return (total / mask_BT.sum(dim=1, keepdim=True)).to(h_BTH.dtype)


def pool_max(h_BTH: Tensor, mask_BT: Tensor) -> Tensor:
    """Return (B, H): the greatest value over each row's own steps."""
    return h_BTH.masked_fill(~mask_BT[..., None], -torch.inf).amax(dim=1)
