"""The engine's end of the socket: frames in, frames out."""

import asyncio
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from models.manifest import BrokenCheckpoint
from models.preprocess import Tensors
from service.domain import DEFAULT_PRIORITY, LOWEST_PRIORITY, Deadline, Ref
from service.engine.core import Engine
from service.engine.jobs import Answer, Order
from service.engine.requests import Request
from service.errors import BrokenContract, DeadlineExceeded, NotReady, Overloaded, QueueFull, ServoloopError
from service.link import Link
from service.watch.history import History
from service.wire import Frame, Kind

log = logging.getLogger(__name__)

_BEAT_SECONDS = 1.0


class EngineServer:
    """Answers every process that connects, and tells all of them what is loaded: on a change, and once a second."""

    def __init__(self, engine: Engine, history: History, heartbeat: Callable[[float], None]) -> None:
        self.engine = engine
        self._history = history
        self._heartbeat = heartbeat
        self._connections: set[Connection] = set()
        self._failed = {str(ref): reason for ref, reason in history.withdrawn.items()}
        self._loading: set[asyncio.Task[None]] = set()

    def connection(self) -> Link:
        """A protocol for one connection."""
        return Connection(self).link

    def opened(self, connection: "Connection") -> None:
        self._connections.add(connection)
        status = self._status()
        # Once is enough: whoever hears it knows it until this engine is gone.
        connection.link.send(Frame(Kind.STATUS, meta={**status.meta, "history": self._history.to_meta()}))

    def closed(self, connection: "Connection") -> None:
        self._connections.discard(connection)

    async def beat(self) -> None:
        """Show the supervisor and all connections that this process is alive, until cancelled."""
        while True:
            self._heartbeat(time.monotonic())
            self.engine.tick()
            await asyncio.sleep(_BEAT_SECONDS)
            self._broadcast()

    def start_loading(self, ref: Ref, folder: Path, done: Callable[[Frame], None], request_id: int) -> None:
        """Load without blocking the socket."""
        if (reason := self._history.withdrawn.get(ref)) is not None:
            done(Frame(Kind.FAILED, request_id, meta={"error": "broken", "reason": reason}))
            return
        task = asyncio.create_task(self._load(ref, folder, done, request_id))
        self._loading.add(task)
        task.add_done_callback(self._loading.discard)

    async def _load(self, ref: Ref, folder: Path, done: Callable[[Frame], None], request_id: int) -> None:
        started = time.monotonic()
        try:
            await self.engine.load(ref, folder)
        except BrokenCheckpoint as error:
            log.error("can't serve a checkpoint", extra={"ref": str(ref), "reason": str(error)})
            self._fail(ref, str(error), done, request_id)
        except Exception:  # whatever keeps one version from loading, others serve
            log.exception("loading failed", extra={"ref": str(ref)})
            self._fail(ref, "loading failed", done, request_id)
        else:
            self._failed.pop(str(ref), None)
            seconds = time.monotonic() - started
            log.info("loaded", extra={"ref": str(ref), "seconds": round(seconds, 3)})
            done(Frame(Kind.LOADED, request_id, meta={"seconds": seconds}))
        self._broadcast()

    def _fail(self, ref: Ref, reason: str, done: Callable[[Frame], None], request_id: int) -> None:
        self._failed[str(ref)] = reason
        done(Frame(Kind.FAILED, request_id, meta={"error": "broken", "reason": reason}))

    def _status(self) -> Frame:
        forwards = {str(ref): round(seconds, 3) for ref, seconds in self.engine.since_forward().items()}
        return Frame(Kind.STATUS, meta={"ready": list(forwards), "forwards": forwards, "failed": self._failed})

    def _broadcast(self) -> None:
        status = self._status()
        for connection in self._connections:
            connection.link.send(status)


class Connection:
    """One peer. When it leaves, its requests are cancelled."""

    def __init__(self, server: EngineServer) -> None:
        self._server = server
        self._open: dict[int, tuple[Ref, Request]] = {}
        self.link = Link(self._receive, opened=lambda: server.opened(self), closed=self._closed)

    def _closed(self) -> None:
        self._server.closed(self)
        for ref, request in self._open.values():
            self._server.engine.cancel(ref, request)
        self._open.clear()

    def _receive(self, frame: Frame) -> None:
        match frame.kind:
            case Kind.INFER:
                self._infer(frame)
            case Kind.CANCEL:
                if (entry := self._open.pop(frame.request_id, None)) is not None:
                    self._server.engine.cancel(*entry)
            case Kind.LOAD:
                ref = Ref(frame.meta["model"], frame.meta["version"])
                self._server.start_loading(ref, Path(frame.meta["folder"]), self.link.send, frame.request_id)
            case kind:
                raise BrokenContract("kind of frame", expected="INFER, CANCEL or LOAD", got=kind)

    def _infer(self, frame: Frame) -> None:
        ref = Ref(frame.meta["model"], frame.meta["version"])
        values, *lengths = frame.arrays
        tensors = Tensors(values, lengths[0] if lengths else None)
        if not len(tensors) or frame.time_left < 0:
            raise BrokenContract("INFER", expected="rows and a time left", got=(len(tensors), frame.time_left))
        deadline = Deadline.after(frame.time_left, now=time.monotonic())
        request_id = frame.request_id
        priority = frame.meta.get("priority", DEFAULT_PRIORITY)
        if priority not in range(LOWEST_PRIORITY + 1):
            raise BrokenContract("priority", expected=f"0 to {LOWEST_PRIORITY}", got=priority)
        order = Order(request_id, priority, bytes.fromhex(frame.meta.get("alone", "")))
        if order.digest and len(tensors) > 1:
            raise BrokenContract("rows to run alone", expected=1, got=len(tensors))

        def reply(result: Answer | ServoloopError) -> None:
            self._open.pop(request_id, None)
            self.link.send(_answer_frame(request_id, result))

        request = self._server.engine.submit(ref, tensors, deadline, reply, order)
        if request is not None:
            self._open[request_id] = (ref, request)


def _answer_frame(request_id: int, result: Answer | ServoloopError) -> Frame:
    if isinstance(result, Answer):
        meta: dict[str, Any] = {"queue": result.queue_seconds, "compute": result.compute_seconds}
        if result.failures:
            meta["failures"] = {str(index): reason for index, reason in result.failures.items()}
        return Frame(Kind.RESULT, request_id, meta=meta, arrays=[np.ascontiguousarray(result.outputs)])
    return Frame(Kind.FAILED, request_id, meta=_facts(result))


def _facts(error: ServoloopError) -> dict[str, Any]:
    match error:
        case QueueFull():
            facts = {"queued": error.queued, "limit": error.limit, "unit": error.unit, "wait": error.wait}
            return {"error": "queue_full", **facts}
        case Overloaded():
            return {"error": "overloaded", "wait": error.wait}
        case DeadlineExceeded():
            return {"error": "deadline", "where": error.where}
        case NotReady():
            return {"error": "not_ready", "reason": error.reason}
        case _:
            return {"error": "internal"}
