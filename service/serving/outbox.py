"""Requests on their way to an engine: those that are alike leave together, at the end of a turn of the event loop."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from service.inference import Asked, infer_frame
from service.serving.held import Held
from service.wire import Frame

# A frame is copied together, and read as one piece: large requests have nothing to gain from company.
_MOST_BYTES = 1 << 20


@dataclass(slots=True, eq=False)
class _Group:
    requests: dict[int, Held] = field(default_factory=dict)
    num_bytes: int = 0


class Outbox:
    """`send` is called with every frame, and `flush` after the last of a turn."""

    def __init__(self, send: Callable[[Frame], None], flush: Callable[[], None]) -> None:
        self._send = send
        self._flush = flush
        self._groups: dict[object, _Group] = {}

    def add(self, request_id: int, held: Held) -> None:
        """Send in this turn of the event loop."""
        if not self._groups:
            asyncio.get_running_loop().call_soon(self._leave_all)
        values = held.tensors.values
        kind = held.asking(), values.dtype, values.shape[1:], held.tensors.lengths is None
        group = self._groups.get(kind)
        if group is None:
            group = self._groups[kind] = _Group()
        elif group.num_bytes + values.nbytes > _MOST_BYTES:
            self._leave(group)
            group = self._groups[kind] = _Group()
        group.requests[request_id] = held
        group.num_bytes += values.nbytes

    def remove(self, request_id: int) -> bool:
        """Take a request back; whether it was still here."""
        return any(group.requests.pop(request_id, None) is not None for group in self._groups.values())

    def clear(self) -> None:
        """Take back all."""
        for group in self._groups.values():
            group.requests.clear()

    def _leave_all(self) -> None:
        groups, self._groups = self._groups, {}
        for group in groups.values():
            self._leave(group)
        self._flush()

    def _leave(self, group: _Group) -> None:
        if not group.requests:
            return
        now = time.monotonic()
        first = next(iter(group.requests.values()))
        asked = [
            Asked(request_id, max(0.0, held.deadline.remaining(now)), held.tensors)
            for request_id, held in group.requests.items()
        ]
        self._send(infer_frame(first.asking(), asked))
