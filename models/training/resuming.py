"""What a training has to remember so that one that was killed ends with the same bytes as one that was not.

A state is one safetensors file: tensors as tensors, the rest as JSON in its metadata. Nothing in it is code.
"""

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_safetensors
from safetensors.torch import save as save_safetensors
from torch import Tensor, nn, optim

from models import durable

Weights = dict[str, Tensor]
RngState = Mapping[str, Any]
"""What numpy says of a bit generator: whole numbers of up to 128 bits by name."""

_SCHEMA = 1


@dataclass(frozen=True, slots=True)
class Epoch:
    """What an epoch reached; `metric` is accuracy (share) or R2, on the validation part."""

    loss: float
    validation_loss: float
    metric: float
    learning_rate: float
    seconds: float


@dataclass(slots=True)
class Position:
    """Where a training stands: `epochs` are done, and `batch` batches of the next one.

    `best` are the weights of the best epoch so far. Of the epoch that was begun: `loss` is summed up over its rows,
    `seconds` were spent on it, and `order_rng` is the generator's state from which its order was drawn.
    """

    epochs: list[Epoch]
    best: Weights
    batch: int = 0
    loss: float = 0.0
    seconds: float = 0.0
    order_rng: RngState | None = None


@dataclass(frozen=True, slots=True)
class TrainingState:
    """All that decides how a training goes on between two batches.

    `optimizer` holds the optimiser's tensors by parameter; `rng` is the numpy generator's state, `torch_rng` those of
    torch's generators by the device's type.
    """

    position: Position
    weights: Weights
    optimizer: dict[int, Weights]
    rng: RngState
    torch_rng: Weights

    @staticmethod
    def capture(
        position: Position,
        network: nn.Module,
        optimizer: optim.Optimizer,
        rng: np.random.Generator,
        device: torch.device,
    ) -> "TrainingState":
        """What it is now. Its tensors are still those of the training: they change with the next batch."""
        kept = {
            number: {name: value for name, value in entry.items() if isinstance(value, Tensor)}
            for number, entry in optimizer.state_dict()["state"].items()
        }
        torch_rng = {"cpu": torch.get_rng_state()}
        if device.type == "cuda":
            torch_rng["cuda"] = torch.cuda.get_rng_state(device)
        return TrainingState(position, network.state_dict(), kept, rng.bit_generator.state, torch_rng)

    def restore(
        self, network: nn.Module, optimizer: optim.Optimizer, rng: np.random.Generator, device: torch.device
    ) -> Position:
        """Bring all of them to this state, and return where it stands."""
        network.load_state_dict(self.weights)
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        state = {
            number: {name: _laid_out_like(parameters[number], value) for name, value in entry.items()}
            for number, entry in self.optimizer.items()
        }
        optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
        rng.bit_generator.state = self.rng
        torch.set_rng_state(self.torch_rng["cpu"])
        if "cuda" in self.torch_rng:
            torch.cuda.set_rng_state(self.torch_rng["cuda"], device)
        return self.position

    def to_bytes(self, key: str) -> bytes:
        """Return the file of this state of the training that `key` names."""
        at = self.position
        tensors = {
            **{f"weights/{name}": value for name, value in self.weights.items()},
            **{f"best/{name}": value for name, value in at.best.items()},
            **{f"rng/{name}": value for name, value in self.torch_rng.items()},
            **{
                f"optimizer/{number}/{name}": value
                for number, entry in self.optimizer.items()
                for name, value in entry.items()
            },
        }
        rest = {
            "schema_version": _SCHEMA,
            "epochs": [asdict(epoch) for epoch in at.epochs],
            "batch": at.batch,
            "loss": at.loss,
            "seconds": at.seconds,
            "order_rng": at.order_rng,
            "rng": self.rng,
        }
        # Copies: weights and best ones may be the same memory, which safetensors refuses.
        copies = {name: value.detach().to("cpu", copy=True).contiguous() for name, value in tensors.items()}
        # json, not orjson: a generator's state has numbers of 128 bits.
        return save_safetensors(copies, metadata={"key": key, "state": json.dumps(rest)})

    @staticmethod
    def from_bytes(data: bytes, key: str) -> "TrainingState":
        """Read a file's bytes. Raises OtherTraining unless it is a state of the training that `key` names."""
        try:
            tensors = load_safetensors(data)
            metadata = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])["__metadata__"]
            if metadata["key"] != key:
                raise OtherTraining("it belongs to other data, another recipe or another machine")
            rest = json.loads(metadata["state"])
            if rest["schema_version"] != _SCHEMA:
                raise OtherTraining(f"it is of schema {rest['schema_version']}, not {_SCHEMA}")
            optimizer: dict[int, Weights] = {}
            for name, value in _below(tensors, "optimizer").items():
                number, _, part = name.partition("/")
                optimizer.setdefault(int(number), {})[part] = value
            position = Position(
                epochs=[Epoch(**epoch) for epoch in rest["epochs"]],
                best=_below(tensors, "best"),
                batch=rest["batch"],
                loss=rest["loss"],
                seconds=rest["seconds"],
                order_rng=rest["order_rng"],
            )
            return TrainingState(position, _below(tensors, "weights"), optimizer, rest["rng"], _below(tensors, "rng"))
        except (SafetensorError, KeyError, TypeError, ValueError) as error:
            if isinstance(error, OtherTraining):
                raise
            raise OtherTraining(f"it can't be read: {error}") from None


class OtherTraining(ValueError):
    """A state that a training must not go on from; the text says why."""


class Stopped(Exception):
    """The training was asked to stop; its state is kept."""


class Keeper:
    """Keeps a training's state in a file: after each epoch, every `every` seconds between two batches, and at a stop.

    `key` names all that decides how the training goes: a state with another is not taken up, and then replaced.
    `is_stopped` is asked between batches.
    """

    def __init__(
        self,
        path: Path,
        key: str,
        *,
        every: float = 30.0,
        is_stopped: Callable[[], bool] = lambda: False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.refused: str | None = None
        """Why the state that was there was not taken up."""
        self._path = path
        self._key = key
        self._every = every
        self._is_stopped = is_stopped
        self._clock = clock
        self._kept_at = clock()

    def read(self) -> TrainingState | None:
        """The state to go on from; None where none is there, or none of this training."""
        try:
            return TrainingState.from_bytes(self._path.read_bytes(), self._key)
        except FileNotFoundError:
            return None
        except OtherTraining as error:
            self.refused = str(error)
            return None

    def between_batches(self, capture: Callable[[], TrainingState]) -> None:
        """Keep the state where it is time to. Raises Stopped, once it is kept, when the training shall stop."""
        is_stopped = self._is_stopped()
        if is_stopped or self._clock() - self._kept_at >= self._every:
            self.keep(capture())
        if is_stopped:
            raise Stopped

    def keep(self, state: TrainingState) -> None:
        """Write the state in the place of the one before, durably."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        durable.replace(self._path, state.to_bytes(self._key))
        self._kept_at = self._clock()

    def forget(self) -> None:
        """Delete the state: the training is over."""
        self._path.unlink(missing_ok=True)


def _below(tensors: Mapping[str, Tensor], part: str) -> Weights:
    return {name.partition("/")[2]: value for name, value in tensors.items() if name.startswith(f"{part}/")}


def _laid_out_like(parameter: Tensor, value: Tensor) -> Tensor:
    """`value` in the parameter's own order in memory: in another one, sums may round otherwise."""
    if value.shape != parameter.shape:
        return value
    return torch.empty_like(parameter, dtype=value.dtype, requires_grad=False).copy_(value)
