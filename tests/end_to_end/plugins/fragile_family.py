"""An architecture as an operator would install it, which ends or fails its process when it reads magic numbers."""

import os
import time
from typing import Any

import torch
from torch import Tensor, nn

from models.architectures.common import FamilyConfig, Network
from models.architectures.registry import Family

ENDS_THE_PROCESS, RAISES, NEEDS_MEMORY = 666.0, 667.0, 668.0


class FragileConfig(FamilyConfig):
    """`seconds_a_row` makes it slow; it may end the process that loads its weights."""

    inputs: int
    seconds_a_row: float = 0.0
    ends_its_loader: bool = False


class Fragile(Network):
    """(B, inputs) -> (B, outputs): the row's sum, through a layer that passes it on."""

    def __init__(self, config: FragileConfig) -> None:
        super().__init__()
        self.config = config
        self.outputs = config.outputs
        self.scale = nn.Parameter(torch.ones(config.outputs))
        if config.ends_its_loader:
            self.register_load_state_dict_pre_hook(_end)

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        first = x[:, 0].tolist()
        if ENDS_THE_PROCESS in first:
            os._exit(3)
        if RAISES in first:
            raise ValueError("a row that it can't compute")
        if NEEDS_MEMORY in first and len(first) > 1:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes.")
        time.sleep(self.config.seconds_a_row * len(first))
        return x.sum(dim=1, keepdim=True) * self.scale


def _end(*_: Any) -> None:
    os._exit(3)


FAMILY = Family(FragileConfig, Fragile)
