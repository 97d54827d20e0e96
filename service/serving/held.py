"""A request that waits for an engine's answer."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from models.preprocess import Tensors
from service.domain import Deadline, Ref
from service.errors import BrokenContract
from service.wire.inference import InferHeader, Outputs


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
