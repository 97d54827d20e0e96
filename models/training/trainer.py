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
from models.training.batches import Array, Batch, Rows, TrainingRows
from models.training.losses import Loss, l1_norm
from models.training.optim import OptimizerConfig, ScheduleConfig
from models.training.resuming import Epoch, Keeper, Position, TrainingState

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
        train: TrainingRows,
        validation: Rows,
        rng: np.random.Generator,
        on_progress: Callable[[Progress], None] = lambda progress: None,
        keeper: Keeper | None = None,
    ) -> History:
        """Train, leave the best epoch's weights in the network (in eval mode), and return how it went.

        With a `keeper` it goes on from the state that is kept, and ends with the weights, byte for byte, that it would
        have had without a break: on the same machine, with as many threads. Raises Diverged when the loss becomes NaN
        or infinite, and Stopped when the keeper is told to stop.
        """
        state = None if keeper is None else keeper.read()
        if state is None:
            at = Position([], copy.deepcopy(self.network.state_dict()))
        else:
            at = state.restore(self.network, self.optimizer, rng, self.device)
        pace = _Pace(-(-len(train) // self.loop.batch_size), self.loop.epochs)
        while len(at.epochs) < self.loop.epochs and not self._is_stale(at.epochs):
            self._epoch(train, at, rng, pace, on_progress, keeper)
            self._close(at, train, validation, pace)
            if keeper is not None:
                keeper.keep(self._state(at, rng))
        self.network.load_state_dict(at.best)
        self.network.eval()
        return History(at.epochs, self._best(at.epochs))

    def _epoch(
        self,
        train: TrainingRows,
        at: Position,
        rng: np.random.Generator,
        pace: "_Pace",
        on_progress: Callable[[Progress], None],
        keeper: Keeper | None,
    ) -> None:
        """Learn from the batches of the next epoch that are still to come."""
        order, started = self._order(train, at, rng), time.monotonic() - at.seconds
        for indices in order[at.batch :]:
            batch = train.batch(indices, rng).to(self.device)
            loss = self._step(batch, self._rate(pace.step(at), pace.num_steps))
            at.loss += loss * len(batch.targets)
            at.batch += 1
            at.seconds = time.monotonic() - started
            on_progress(pace.progress(at, loss))
            if keeper is not None:
                keeper.between_batches(lambda: self._state(at, rng))

    def _close(self, at: Position, train: TrainingRows, validation: Rows, pace: "_Pace") -> None:
        """Measure the epoch whose batches are done, and keep its weights if it is the best."""
        started = time.monotonic()
        validation_loss, metric = self.validate(validation)
        rate = self._rate(pace.step(at) - 1, pace.num_steps)
        seconds = at.seconds + time.monotonic() - started
        at.epochs.append(Epoch(at.loss / len(train), validation_loss, metric, rate, seconds))
        if self._best(at.epochs) == len(at.epochs) - 1 and self._score(at.epochs[-1]) > -np.inf:
            at.best = copy.deepcopy(self.network.state_dict())
        at.batch, at.loss, at.seconds, at.order_rng = 0, 0.0, 0.0, None

    def _order(self, train: TrainingRows, at: Position, rng: np.random.Generator) -> list[Array]:
        if at.order_rng is None:
            at.order_rng = rng.bit_generator.state
            return train.order(self.loop.batch_size, rng)
        # An epoch that was broken off: its order is drawn again, and what comes after it is not.
        now = rng.bit_generator.state
        rng.bit_generator.state = at.order_rng
        order = train.order(self.loop.batch_size, rng)
        rng.bit_generator.state = now
        return order

    def _state(self, at: Position, rng: np.random.Generator) -> TrainingState:
        return TrainingState.capture(at, self.network, self.optimizer, rng, self.device)

    def _rate(self, step: int, num_steps: int) -> float:
        return self.config.learning_rate * self.schedule.factor(step, num_steps)

    def _score(self, epoch: Epoch) -> float:
        return epoch.metric if self.loop.keep_best_by == "metric" else -epoch.validation_loss

    def _best(self, epochs: list[Epoch]) -> int:
        """The index of the first of the best epochs; 0 where none could be measured."""
        best, best_score = 0, -np.inf
        for number, epoch in enumerate(epochs):
            if self._score(epoch) > best_score:
                best, best_score = number, self._score(epoch)
        return best

    def _is_stale(self, epochs: list[Epoch]) -> bool:
        """Whether training has gone on for its patience without getting better."""
        return self.loop.patience is not None and len(epochs) - 1 - self._best(epochs) >= self.loop.patience

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
        loss = self.objective.loss(logits, batch.targets, batch.weights)
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


class _Pace:
    """How far a run is, and how fast: by the steps that this process saw."""

    def __init__(self, steps_per_epoch: int, epochs: int) -> None:
        self.num_steps = steps_per_epoch * epochs
        self._steps_per_epoch = steps_per_epoch
        self._epochs = epochs
        self._started = time.monotonic()
        self._seen = 0

    def step(self, at: Position) -> int:
        """The steps that are done."""
        return len(at.epochs) * self._steps_per_epoch + at.batch

    def progress(self, at: Position, loss: float) -> Progress:
        """What is told after a step."""
        self._seen += 1
        step = self.step(at)
        return Progress(
            epoch=len(at.epochs) + 1,
            epochs=self._epochs,
            step=step,
            num_steps=self.num_steps,
            loss=loss,
            metric=at.epochs[-1].metric if at.epochs else None,
            seconds_left=(time.monotonic() - self._started) / self._seen * (self.num_steps - step),
        )
