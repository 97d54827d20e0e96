"""A request's way through the engine: its rows, where they wait, the answers so far, and where they go."""

import heapq
from collections.abc import Callable
from dataclasses import InitVar, dataclass, field
from itertools import islice
from typing import NamedTuple

import numpy as np

from models.preprocess import Tensors
from models.preprocess.tensors import Array
from service.domain import DEFAULT_PRIORITY, MIDDLE_PRIORITY, Deadline, Ref, priority_level
from service.errors import ServoloopError
from service.wire.inference import Outputs

# What a step of priority is worth. Because it is a head start and not a rank, a low priority is late but never starves.
PRIORITY_SECONDS = 1.0

Reply = Callable[[Outputs | ServoloopError], None]
"""Takes what was computed, with the times of the request's last batch, or why nothing was."""


@dataclass(frozen=True, slots=True)
class RowFailure:
    """Why a row has no answer, in words that tell a client nothing of our insides."""

    reason: str


@dataclass(slots=True, eq=False)
class Request:
    """Rows that came together for a version, and what is known of their answers.

    `request_id` names it to processes other than this one. `digest` is there when its only row is suspected of having
    ended an engine.
    """

    ref: Ref
    tensors: InitVar[Tensors]
    deadline: Deadline
    arrived: float
    reply: Reply
    request_id: int = 0
    priority: int = DEFAULT_PRIORITY
    digest: bytes = b""
    is_canary: bool = False

    rows: list[Array] = field(init=False)
    lengths: list[int] | None = field(init=False)
    """Of sequences; None for dense rows."""
    num_rows: int = field(init=False)
    num_bytes: int = field(init=False)
    level: int = field(init=False)
    """Its priority, whether it said one or not."""
    alone: bool = field(init=False)
    """Whether its rows share their batches with nobody, not even with one another."""

    first_row: int = field(default=-1, init=False)
    """The queue's number of row 0, set when it is put."""
    row_seconds: float = field(default=0.0, init=False)
    """What a row of it was expected to take when it was put."""

    outputs: Array | None = field(default=None, init=False)
    failures: dict[int, str] = field(default_factory=dict, init=False)
    answered_rows: int = field(default=0, init=False)
    closed: bool = field(default=False, init=False)
    """Whether it was answered, or nobody waits for its answer any more."""

    def __post_init__(self, tensors: Tensors) -> None:
        self.rows = tensors.rows()
        self.lengths = None if tensors.lengths is None else tensors.lengths.tolist()
        self.num_rows = len(self.rows)
        self.num_bytes = tensors.values.nbytes
        self.level = priority_level(self.priority)
        self.alone = bool(self.digest) or self.is_canary

    def length(self, index: int) -> int:
        return 1 if self.lengths is None else self.lengths[index]

    @property
    def longest(self) -> int:
        return 1 if self.lengths is None else max(self.lengths)

    @property
    def turn(self) -> float:
        """When it would have come to have its place among requests of the middle priority."""
        return self.arrived + PRIORITY_SECONDS * (self.level - MIDDLE_PRIORITY)

    def close(self, result: Outputs | ServoloopError) -> None:
        """Answer, once: what comes after a timeout or a cancel is dropped."""
        if not self.closed:
            self.closed = True
            self.reply(result)

    def deliver(self, index: int, result: Array | RowFailure, started: float, seconds: float) -> bool:
        """Take a row's result; answer, and say so, when it was the last one."""
        if isinstance(result, RowFailure):
            self.failures[index] = result.reason
        elif self.num_rows == 1:
            self.outputs = result[None]
        else:
            if self.outputs is None:
                self.outputs = np.zeros((self.num_rows, *result.shape), np.float32)
            self.outputs[index] = result
        self.answered_rows += 1
        if self.answered_rows < self.num_rows:
            return False
        outputs = np.zeros((self.num_rows, 0), np.float32) if self.outputs is None else self.outputs
        self.close(Outputs(outputs, self.failures, started - self.arrived, seconds))
        return True


class Row(NamedTuple):
    """A row of a request by its position there, waiting in a queue."""

    request: Request
    position: int

    @property
    def length(self) -> int:
        return self.request.length(self.position)


class Waiting:
    """The rows of one queue, by number and in the order of their turns.

    Rows of one priority have their turns in the order of arrival, so a lane for each priority keeps all in order
    without sorting. Rows to be run alone have lanes of their own.
    """

    def __init__(self) -> None:
        self._rows: dict[int, Row] = {}
        self._lanes: dict[tuple[int, bool], dict[int, Row]] = {}

    def __len__(self) -> int:
        return len(self._rows)

    def add(self, number: int, row: Row) -> None:
        request = row.request
        self._rows[number] = row
        self._lanes.setdefault((request.level, request.alone), {})[number] = row

    def pop(self, number: int) -> Row | None:
        row = self._rows.pop(number, None)
        if row is not None:
            del self._lanes[row.request.level, row.request.alone][number]
        return row

    def get(self, number: int) -> Row | None:
        return self._rows.get(number)

    def first(self) -> tuple[int, Row]:
        """The row whose turn it is. There must be one."""
        heads = [next(iter(lane.items())) for lane in self._lanes.values() if lane]
        return heads[0] if len(heads) == 1 else min(heads, key=_turn)

    def first_together(self, count: int) -> list[int]:
        """The numbers of the rows whose turns come first, but for those that run alone."""
        lanes = [lane for (_, alone), lane in self._lanes.items() if lane and not alone]
        if len(lanes) == 1:
            return list(islice(lanes[0], count))
        merged = heapq.merge(*(lane.items() for lane in lanes), key=_turn)
        return [number for number, _ in islice(merged, count)]

    def oldest(self) -> float | None:
        """When the row that waits longest arrived."""
        return min((next(iter(lane.values())).request.arrived for lane in self._lanes.values() if lane), default=None)


def _turn(item: tuple[int, Row]) -> tuple[float, int]:
    number, row = item
    return row.request.turn, number
