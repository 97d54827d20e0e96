"""Requests that wait for an engine's answer, and how many rows and bytes they may be together."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from models.preprocess import Tensors
from service.domain import Deadline, Ref
from service.errors import BrokenContract, PredictionFailed, QuarantinedInput, QueueFull
from service.inference import InferHeader, Outputs


class MovesOn(Exception):
    """A request's engine is gone, and another one has the version: it is to be sent there."""

    def __init__(self, sends: int) -> None:
        super().__init__(sends)
        self.sends = sends
        """To how many engines it was sent so far."""


@dataclass(slots=True, eq=False)
class Held:
    """A request on its way. With a `digest`, its only row is suspected, and runs alone."""

    ref: Ref
    tensors: Tensors
    deadline: Deadline
    priority: int
    future: asyncio.Future[Outputs]
    digest: bytes = b""
    sends: int = 0
    sent_to: int = 0
    """The incarnation of the engine that it was last sent to."""
    elsewhere: Callable[[], bool] | None = None
    """Whether another engine would take it now; None where it stays, whatever becomes of its engine."""

    def header(self) -> InferHeader:
        return InferHeader(self.ref, self.priority, self.digest)

    def resolve(self, outputs: Outputs) -> None:
        """Take the engine's answer."""
        if len(outputs.values) != len(self.tensors):
            error = BrokenContract("rows of an answer", expected=len(self.tensors), got=len(outputs.values))
            self.future.set_exception(error)
            return
        self.future.set_result(outputs)


@dataclass(slots=True)
class Bounds:
    """What may be held at once of each version. Raises QueueFull beyond it."""

    max_rows: int
    max_bytes: int
    num_rows: int = field(default=0, init=False)
    """Of all versions together."""
    _held: dict[Ref, tuple[int, int]] = field(default_factory=dict, init=False)

    def enter(self, ref: Ref, tensors: Tensors) -> None:
        rows, num_bytes = self._held.get(ref, (0, 0))
        more_rows, more_bytes = len(tensors), tensors.values.nbytes
        if rows + more_rows > self.max_rows:
            raise QueueFull(ref, queued=rows, limit=self.max_rows)
        if rows and num_bytes + more_bytes > self.max_bytes:
            raise QueueFull(ref, queued=num_bytes, limit=self.max_bytes, unit="bytes")
        self._held[ref] = rows + more_rows, num_bytes + more_bytes
        self.num_rows += more_rows

    def leave(self, ref: Ref, tensors: Tensors) -> None:
        rows, num_bytes = self._held[ref]
        gone = len(tensors)
        self.num_rows -= gone
        if rows == gone:
            del self._held[ref]
        else:
            self._held[ref] = rows - gone, num_bytes - tensors.values.nbytes


def joined(ref: Ref, outcomes: Sequence[Outputs | BaseException]) -> Outputs:
    """One answer from those to a request's rows. Raises what keeps the request from being answered."""
    failures: dict[int, str] = {}
    quarantined = set()
    for index, outcome in enumerate(outcomes):
        match outcome:
            case Outputs(failures=failed):
                failures |= dict.fromkeys([index] if failed else [], failed.get(0, ""))
            case QuarantinedInput():
                failures[index] = str(outcome)
                quarantined.add(index)
            case PredictionFailed(reason=reason):
                failures[index] = reason
            case BaseException():
                raise outcome
    if len(quarantined) == len(outcomes):
        raise QuarantinedInput(ref)
    answers = [outcome for outcome in outcomes if isinstance(outcome, Outputs)]
    good = {index: outcome.values for index, outcome in enumerate(outcomes) if isinstance(outcome, Outputs)}
    shape = next((values.shape[1:] for index, values in good.items() if index not in failures), (0,))
    values = np.zeros((len(outcomes), *shape), np.float32)
    for index, row in good.items():
        if index not in failures:
            values[index] = row[0]
    return Outputs(
        values,
        failures,
        max((answer.queue_seconds for answer in answers), default=0.0),
        max((answer.compute_seconds for answer in answers), default=0.0),
        frozenset(quarantined),
    )
