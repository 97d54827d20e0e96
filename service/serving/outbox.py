"""Requests on their way to an engine: those that are alike leave together, at the end of a turn of the event loop."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from service.serving.held import Held
from service.wire.frames import Frame
from service.wire.inference import MOST_BYTES, InferRequest, infer_frame


@dataclass(slots=True, eq=False)
class _Group:
    requests: dict[int, Held] = field(default_factory=dict)
    num_bytes: int = 0


class Outbox:
    """`send` is called with every frame, and `flush` after the last of a turn."""

    def __init__(
        self, send: Callable[[Frame], None], flush: Callable[[], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._send = send
        self._flush = flush
        self._clock = clock
        self._groups: dict[object, _Group] = {}

    def add(self, request_id: int, held: Held) -> None:
        """Send in this turn of the event loop; at once what is large. Raises BrokenContract where it is too large."""
        values = held.tensors.values
        if values.nbytes > MOST_BYTES:
            # Here, so that what can't be sent is its caller's trouble, and no other's.
            self._leave(_Group({request_id: held}))
            return
        if not self._groups:
            asyncio.get_running_loop().call_soon(self._leave_all)
        # A suspect has no company, not even that of its like.
        alone = request_id if held.digest else None
        kind = alone, held.header(), values.dtype, values.shape[1:], held.tensors.lengths is None
        group = self._groups.get(kind)
        if group is None:
            group = self._groups[kind] = _Group()
        elif group.num_bytes + values.nbytes > MOST_BYTES:
            self._leave(group)
            group = self._groups[kind] = _Group()
        group.requests[request_id] = held
        group.num_bytes += values.nbytes

    def _leave_all(self) -> None:
        groups, self._groups = self._groups, {}
        for group in groups.values():
            self._leave(group)
        self._flush()

    def _leave(self, group: _Group) -> None:
        if not group.requests:
            return
        now = self._clock()
        first = next(iter(group.requests.values()))
        requests = [
            InferRequest(request_id, max(0.0, held.deadline.remaining(now)), held.tensors)
            for request_id, held in group.requests.items()
        ]
        self._send(infer_frame(first.header(), requests))
