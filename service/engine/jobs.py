"""A request's way through the engine: its rows, the answers so far, and where they go."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from models.preprocess.tensors import Array
from service.domain import DEFAULT_PRIORITY
from service.engine.isolation import RowFailure
from service.engine.requests import Request
from service.errors import ServoloopError
from service.inference import Outputs

Reply = Callable[[Outputs | ServoloopError], None]
"""Takes what was computed, with the times of the request's last batch, or why nothing was."""


class Order(NamedTuple):
    """How a request wants to be treated, beside its deadline.

    `request_id` names it to processes other than this one. `digest` is there when the request's only row is suspected
    of having ended an engine: then it runs alone.
    """

    request_id: int = 0
    priority: int = DEFAULT_PRIORITY
    digest: bytes = b""
    is_canary: bool = False

    @property
    def alone(self) -> bool:
        return bool(self.digest) or self.is_canary


@dataclass(slots=True, eq=False)
class Job:
    """What the engine keeps of a request until it is answered."""

    rows: list[Array]
    ragged: bool
    order: Order
    reply: Reply
    outputs: Array | None = None
    failures: dict[int, str] = field(default_factory=dict)
    answered_rows: int = 0
    closed: bool = False

    def close(self, result: Outputs | ServoloopError) -> None:
        """Answer, once: what comes after a timeout or a cancel is dropped."""
        if not self.closed:
            self.closed = True
            self.reply(result)

    def deliver(self, request: Request, index: int, result: Array | RowFailure, started: float, seconds: float) -> bool:
        """Take a row's result; answer, and say so, when it was the last one."""
        if isinstance(result, RowFailure):
            self.failures[index] = result.reason
        elif request.num_rows == 1:
            self.outputs = result[None]
        else:
            if self.outputs is None:
                self.outputs = np.zeros((request.num_rows, *result.shape), np.float32)
            self.outputs[index] = result
        self.answered_rows += 1
        if self.answered_rows < request.num_rows:
            return False
        outputs = np.zeros((request.num_rows, 0), np.float32) if self.outputs is None else self.outputs
        self.close(Outputs(outputs, self.failures, started - request.arrived, seconds))
        return True
