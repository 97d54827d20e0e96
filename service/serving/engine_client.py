"""This process's end of an engine's socket: sends rows, waits for their outputs, survives the engine's death."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from models.preprocess import Tensors
from models.preprocess.tensors import Array
from service.domain import Deadline, Ref
from service.errors import (
    BrokenContract,
    DeadlineExceeded,
    EngineLost,
    NotReady,
    PredictionFailed,
    QueueFull,
    ServoloopError,
)
from service.link import Link
from service.telemetry import HttpTelemetry
from service.wire import Frame, Kind

log = logging.getLogger(__name__)

_RECONNECT_SECONDS = 0.05
# The engine drops what is late; this is for an engine that doesn't answer at all.
_GRACE_SECONDS = 0.05
_MAX_SENDS = 2
STALE_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Outputs:
    """What an engine computed: (n, k) float32, why rows failed, and its times in seconds."""

    values: Array
    failures: Mapping[int, str]
    queue_seconds: float
    compute_seconds: float


@dataclass(slots=True, eq=False)
class _Pending:
    ref: Ref
    tensors: Tensors
    deadline: Deadline
    future: asyncio.Future[Outputs]
    sends: int = 0


@dataclass(slots=True)
class EngineStatus:
    """What an engine last said of itself; `heard` on the monotonic clock."""

    heard: float = -1e9
    ready: frozenset[Ref] = frozenset()
    failed: Mapping[Ref, str] = field(default_factory=dict)


class EngineClient:
    """Use as an async context manager: it keeps one connection, and opens it anew when the engine is replaced.

    What an engine held when it died is sent once more to its successor; what arrives while there is none waits, both
    within their deadlines.
    """

    def __init__(
        self,
        path: Path,
        telemetry: HttpTelemetry,
        *,
        max_pending_rows: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._path = path
        self._telemetry = telemetry
        self._max_pending_rows = max_pending_rows
        self._clock = clock
        self._pending: dict[int, _Pending] = {}
        self._pending_rows = 0
        self._next_id = 0
        self._link: Link | None = None
        self._keeper: asyncio.Task[None] | None = None
        self.status = EngineStatus()

    async def __aenter__(self) -> "EngineClient":
        self._keeper = asyncio.create_task(self._keep_connected())
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._keeper is not None
        self._keeper.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._keeper
        if self._link is not None:
            self._link.close()

    def is_ready(self, ref: Ref) -> bool:
        """Whether the engine said lately that this version is loaded and warm."""
        return ref in self.status.ready and self._clock() - self.status.heard < STALE_SECONDS

    async def infer(self, ref: Ref, tensors: Tensors, deadline: Deadline) -> Outputs:
        """Compute rows on the engine.

        Raises QueueFull, NotReady, EngineLost, DeadlineExceeded or PredictionFailed.
        """
        if ref in self.status.failed:
            raise NotReady(ref, "it could not be loaded")
        if self._pending_rows + len(tensors) > self._max_pending_rows:
            raise QueueFull(ref, queued=self._pending_rows, limit=self._max_pending_rows)
        loop = asyncio.get_running_loop()
        self._next_id += 1
        request_id = self._next_id
        pending = self._pending[request_id] = _Pending(ref, tensors, deadline, loop.create_future())
        self._pending_rows += len(tensors)
        late = loop.call_later(deadline.remaining(self._clock()) + _GRACE_SECONDS, self._give_up, request_id)
        try:
            self._send(request_id, pending)
            return await pending.future
        finally:
            late.cancel()
            self._pending_rows -= len(tensors)
            if self._pending.pop(request_id, None) is not None and self._link is not None:
                # Nobody waits for this answer any more: the caller was cancelled, or the time is up.
                self._link.send(Frame(Kind.CANCEL, request_id))

    def _send(self, request_id: int, pending: _Pending) -> None:
        """Send now if the engine can take it; otherwise it goes when the engine says that it can."""
        if self._link is None or pending.ref not in self.status.ready:
            return
        pending.sends += 1
        lengths = () if pending.tensors.lengths is None else (pending.tensors.lengths,)
        meta = {"model": pending.ref.model, "version": pending.ref.version}
        time_left = max(0.0, pending.deadline.remaining(self._clock()))
        self._link.send(Frame(Kind.INFER, request_id, time_left, meta, (pending.tensors.values, *lengths)))

    def _give_up(self, request_id: int) -> None:
        pending = self._pending.get(request_id)
        if pending is None or pending.future.done():
            return
        if pending.sends:
            pending.future.set_exception(DeadlineExceeded(pending.ref, "the engine"))
        else:
            pending.future.set_exception(NotReady(pending.ref, "its engine is starting"))

    async def _keep_connected(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            with contextlib.suppress(OSError):
                _, link = await loop.create_unix_connection(lambda: Link(self._receive), str(self._path))
                self._link = link
                await link.lost
                self._lose()
            await asyncio.sleep(_RECONNECT_SECONDS)

    def _lose(self) -> None:
        self._link = None
        self.status = EngineStatus()
        held = [pending for pending in self._pending.values() if pending.sends and not pending.future.done()]
        log.warning("the engine is gone", extra={"held_requests": len(held)})
        for pending in held:
            if pending.sends >= _MAX_SENDS:
                pending.future.set_exception(EngineLost(pending.ref))

    def _receive(self, frame: Frame) -> None:
        if frame.kind is Kind.STATUS:
            self._update(frame.meta)
            return
        pending = self._pending.get(frame.request_id)
        if pending is None or pending.future.done():
            return
        if frame.kind is Kind.RESULT:
            _resolve(pending, frame)
        else:
            pending.future.set_exception(_error(pending.ref, frame.meta))
        # Only now: where the frame can't be read the link is cut, and the request is one of those that it held.
        del self._pending[frame.request_id]

    def _update(self, meta: Mapping[str, Any]) -> None:
        before = self.status.ready
        failed = {_ref(name): reason for name, reason in meta["failed"].items()}
        self.status = EngineStatus(self._clock(), frozenset(map(_ref, meta["ready"])), failed)
        fresh = self.status.ready - before
        for request_id, pending in list(self._pending.items()) if fresh or failed else ():
            if pending.future.done():
                continue
            if pending.ref in fresh:
                if pending.sends:
                    self._telemetry.resent.inc()
                self._send(request_id, pending)
            elif pending.ref in failed:
                pending.future.set_exception(NotReady(pending.ref, "it could not be loaded"))


def _resolve(pending: _Pending, frame: Frame) -> None:
    (values,) = frame.arrays
    if len(values) != len(pending.tensors):
        error = BrokenContract("rows of an answer", expected=len(pending.tensors), got=len(values))
        pending.future.set_exception(error)
        return
    failures = {int(index): reason for index, reason in frame.meta.get("failures", {}).items()}
    pending.future.set_result(Outputs(values, failures, frame.meta["queue"], frame.meta["compute"]))


def _error(ref: Ref, facts: Mapping[str, Any]) -> ServoloopError:
    match facts.get("error"):
        case "queue_full":
            return QueueFull(ref, queued=facts["queued"], limit=facts["limit"])
        case "deadline":
            return DeadlineExceeded(ref, facts["where"])
        case "not_ready":
            return NotReady(ref, facts["reason"])
        case _:
            return PredictionFailed(ref, "the engine failed")


def _ref(name: str) -> Ref:
    model, version = name.split("/")
    return Ref(model, int(version))
