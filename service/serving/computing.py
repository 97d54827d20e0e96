"""What turns rows into outputs, and what remembers them: as whoever has predictions made sees it."""

from collections.abc import Iterable
from typing import Protocol

from models.preprocess import RawRows, Tensors
from service.domain import Deadline, Ref
from service.errors import UnprocessableInput
from service.serving.router import Target
from service.store.base import Input, Record
from service.wire.inference import Outputs


class Engines(Protocol):
    """What computes."""

    async def infer(self, ref: Ref, tensors: Tensors, deadline: Deadline, priority: int) -> Outputs: ...


class Log(Protocol):
    """What remembers predictions."""

    def record(self, records: Iterable[Record], inputs: Iterable[Input]) -> None:
        """Takes no time and never fails. `inputs`: of some of the records, to be kept with them."""
        ...


def preprocess(rows: RawRows, target: Target) -> Tensors:
    """Rows as this version's network takes them. Raises UnprocessableInput."""
    try:
        return target.preprocess(rows)
    except ValueError as error:
        raise UnprocessableInput(f"preprocessing refused it: {error}", field="instances") from error
