"""The training loop: epochs over batches, validation after each, the best weights kept.

Everything random draws from the seed, so the same run on the same machine gives the same weights, bit for bit.
"""

import copy
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from models.architectures import Network
from models.training.batches import Batch, Rows
from models.training.losses import Loss, l1_norm
from models.training.optim import OptimizerConfig, ScheduleConfig

EVALUATION_BATCH = 256


class LoopConfig(BaseModel):
    """How long and in what portions a network learns, and which epoch is kept."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    epochs: Annotated[int, Field(ge=1)]
    batch_size: Annotated[int, Field(ge=1)]
    precision: Literal["float32", "bfloat16"] = "float32"
    """Of the forward pass in training; weights, their updates and every evaluation are float32."""
    patience: Annotated[int, Field(ge=1)] | None = None
    """Stop after this many epochs without a better validation loss or metric; None trains all epochs."""
    keep_best_by: Literal["loss", "metric"] = "metric"


@dataclass(frozen=True, slots=True)
class Epoch:
    """What an epoch reached; `metric` is accuracy (share) or R2, on the validation part."""

    loss: float
    validation_loss: float
    metric: float
    learning_rate: float
    seconds: float


@dataclass(frozen=True, slots=True)
class History:
    """All epochs of a run; `best` is the index of the one whose weights were kept: the first of the best."""

    epochs: list[Epoch]
    best: int


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a run stands, after each batch. `metric` is that of the last whole epoch."""

    epoch: int
    epochs: int
    step: int
    num_steps: int
    loss: float
    metric: float | None
    seconds_left: float


@dataclass(frozen=True, slots=True)
class Objective:
    """What is lowered, and what is measured: metric(logits (n, outputs), targets (n,)) -> the higher the better."""

    loss: Loss
    metric: Callable[[Tensor, Tensor], float]


class Diverged(ArithmeticError):
    """The loss is no longer a finite number."""


@contextmanager
def reproducible(seed: int) -> Iterator[np.random.Generator]:
    """Seed torch, allow only deterministic kernels, and yield a numpy generator; torch's own state is put back."""
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        torch.use_deterministic_algorithms(True, warn_only=True)
        try:
            yield np.random.default_rng(seed)
        finally:
            torch.use_deterministic_algorithms(before[0], warn_only=before[1])


class Trainer:
    """Trains one network in place."""

    def __init__(
        self,
        network: Network,
        objective: Objective,
        loop: LoopConfig,
        optimizer: OptimizerConfig,
        schedule: ScheduleConfig,
        device: torch.device,
    ) -> None:
        # Convolutions run several times faster on this layout, and nothing else notices.
        self.network: Network = network.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.objective = objective
        self.loop = loop
        self.config = optimizer
        self.device = device
        self.optimizer = optimizer.build(network)
        self.schedule = schedule

    def fit(
        self,
        train: Rows,
        validation: Rows,
        rng: np.random.Generator,
        on_progress: Callable[[Progress], None] = lambda progress: None,
    ) -> History:
        """Train, leave the best epoch's weights in the network (in eval mode), and return how it went.

        Raises Diverged when the loss becomes NaN or infinite.
        """
        steps_per_epoch = -(-len(train) // self.loop.batch_size)
        num_steps = steps_per_epoch * self.loop.epochs
        epochs: list[Epoch] = []
        best, best_score, best_at = copy.deepcopy(self.network.state_dict()), -np.inf, 0
        started = time.monotonic()
        for number in range(self.loop.epochs):
            epoch_started, total = time.monotonic(), 0.0
            rate = 0.0
            for i, batch in enumerate(train.epoch(self.loop.batch_size, rng)):
                step = number * steps_per_epoch + i
                rate = self.config.learning_rate * self.schedule.factor(step, num_steps)
                loss = self._step(batch.to(self.device), rate)
                total += loss * len(batch.targets)
                per_step = (time.monotonic() - started) / (step + 1)
                metric = epochs[-1].metric if epochs else None
                on_progress(
                    Progress(
                        number + 1,
                        self.loop.epochs,
                        step + 1,
                        num_steps,
                        loss,
                        metric,
                        per_step * (num_steps - step - 1),
                    )
                )
            validation_loss, metric = self.validate(validation)
            seconds = time.monotonic() - epoch_started
            epochs.append(Epoch(total / len(train), validation_loss, metric, rate, seconds))
            score = metric if self.loop.keep_best_by == "metric" else -validation_loss
            if score > best_score:
                best, best_score, best_at = copy.deepcopy(self.network.state_dict()), score, number
            elif self.loop.patience is not None and number - best_at >= self.loop.patience:
                break
        self.network.load_state_dict(best)
        self.network.eval()
        return History(epochs, best_at)

    def validate(self, rows: Rows) -> tuple[float, float]:
        """Return loss and metric of the network as it stands, in float32."""
        self.network.eval()
        logits, targets = [], []
        with torch.inference_mode():
            for _, batch in rows.in_order_of_length(EVALUATION_BATCH):
                here = batch.to(self.device)
                logits.append(self.network(here.x, here.lengths))
                targets.append(here.targets)
            all_logits, all_targets = torch.cat(logits), torch.cat(targets)
            return float(self.objective.loss(all_logits, all_targets)), self.objective.metric(all_logits, all_targets)

    def _step(self, batch: Batch, rate: float) -> float:
        self.network.train()
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.loop.precision == "bfloat16"):
            logits = self.network(batch.x, batch.lengths)
        loss = self.objective.loss(logits, batch.targets)
        value = float(loss.detach())
        if not np.isfinite(value):
            raise Diverged(f"the loss became {value}; a lower learning rate or gradient clipping may help")
        if self.config.l1:
            loss = loss + self.config.l1 * l1_norm(self.network.parameters())
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        if self.config.gradient_clip is not None:
            torch.nn.utils.clip_grad_norm_(self.network.parameters(), self.config.gradient_clip)
        self.optimizer.step()
        return value
