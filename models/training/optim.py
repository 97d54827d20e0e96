"""How weights move: the optimiser and the course of its learning rate."""

import math
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field
from torch import nn, optim

NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Momentum = Annotated[float, Field(ge=0, lt=1)]


class OptimizerConfig(BaseModel):
    """SGD, Adam or AdamW. Penalties touch weights only, never biases and norms (fewer than two axes)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["sgd", "adam", "adamw"] = "adamw"
    learning_rate: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1e-3
    momentum: Momentum = 0.9
    """SGD's momentum, Adam's first beta."""
    nesterov: bool = False
    second_beta: Momentum = 0.999
    l1: NonNegative = 0.0
    """Times the sum of absolute weights, added to the loss."""
    l2: NonNegative = 0.0
    """Weight decay: half of it times the sum of squares in the loss (sgd, adam), decoupled from it in adamw."""
    gradient_clip: Annotated[float, Field(gt=0)] | None = None
    """Greatest norm of the whole gradient."""

    def build(self, network: nn.Module) -> optim.Optimizer:
        """Return the optimiser over all of the network's parameters."""
        parameters = list(network.parameters())
        groups = [
            {"params": [p for p in parameters if p.dim() > 1], "weight_decay": self.l2},
            {"params": [p for p in parameters if p.dim() <= 1], "weight_decay": 0.0},
        ]
        betas = (self.momentum, self.second_beta)
        match self.kind:
            case "sgd":
                return optim.SGD(groups, lr=self.learning_rate, momentum=self.momentum, nesterov=self.nesterov)
            case "adam":
                return optim.Adam(groups, lr=self.learning_rate, betas=betas)
            case "adamw":
                return optim.AdamW(groups, lr=self.learning_rate, betas=betas)


class ScheduleConfig(BaseModel):
    """The learning rate's factor over the run, counted in optimiser steps."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["constant", "step", "cosine", "one_cycle"] = "constant"
    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of the run in which the rate rises: in a straight line, with one_cycle along a cosine."""
    step_at: tuple[Annotated[float, Field(gt=0, lt=1)], ...] = (0.5, 0.75)
    """Shares of the run after which `step` multiplies the rate by `step_factor`."""
    step_factor: Annotated[float, Field(gt=0, lt=1)] = 0.1
    floor: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """The factor at the end of cosine and one_cycle."""

    def factor(self, step: int, num_steps: int) -> float:
        """Return the factor for optimiser step 0..num_steps-1; above 0 and at most 1 (0 only at the floor's end)."""
        warmup_steps = self.warmup * num_steps
        if step < warmup_steps:
            part = (step + 1) / (warmup_steps + 1)
            return part if self.kind != "one_cycle" else _cosine(1 - part, floor=1 / 25)
        part = (step - warmup_steps) / max(1.0, num_steps - warmup_steps)
        match self.kind:
            case "constant":
                return 1.0
            case "step":
                passed = sum(step >= share * num_steps for share in self.step_at)
                return float(self.step_factor**passed)
            case "cosine" | "one_cycle":
                return _cosine(part, self.floor)


def _cosine(part: float, floor: float) -> float:
    """Fall from 1 at part 0 to `floor` at part 1."""
    return floor + (1 - floor) * (1 + math.cos(math.pi * part)) / 2
