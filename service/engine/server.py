"""The engine's end of the socket: frames in, frames out."""

import asyncio
import functools
import logging
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from service.domain import Deadline, Precision, Ref
from service.engine.core import Engine
from service.engine.devices import OwnDevice
from service.engine.failures import DeviceLost
from service.engine.jobs import Order
from service.engine.loading import Loader, LoadFailed
from service.engine.requests import Request
from service.engine.wanted import Wanted
from service.errors import BrokenContract, ServoloopError
from service.inference import InferResult, Outputs, failed_frame, requests_in, result_frames
from service.link import Link
from service.tasks import Background
from service.telemetry import EngineTelemetry
from service.watch.history import History
from service.wire import Frame, Kind

log = logging.getLogger(__name__)

_BEAT_SECONDS = 1.0
Done = Callable[[Frame], None]


class EngineServer:
    """Answers every process that connects, and tells all of them what is loaded: on a change, and once a second."""

    def __init__(
        self,
        engine: Engine,
        loader: Loader,
        history: History,
        heartbeat: Callable[[float], None],
        device: OwnDevice,
        telemetry: EngineTelemetry,
    ) -> None:
        self.engine = engine
        self._loader = loader
        self._history = history
        self._heartbeat = heartbeat
        self._device = device
        self._telemetry = telemetry
        self._memory = device.memory()
        self._connections: set[Connection] = set()
        self._failed: dict[Ref, str] = {}
        self._reload_failed: dict[Ref, str] = {}
        # Orders of one version are carried out in the order of their frames, because tasks begin in that of starts.
        self._orders = Background()

    def connection(self) -> Link:
        """A protocol for one connection."""
        return Connection(self).link

    def opened(self, connection: "Connection") -> None:
        self._connections.add(connection)
        # Once is enough: whoever hears it knows it until it is told another, or this engine is gone.
        connection.link.send(self._status(with_history=True))

    def closed(self, connection: "Connection") -> None:
        self._connections.discard(connection)

    async def beat(self) -> None:
        """Show the supervisor and all connections that this process is alive, until cancelled."""
        while True:
            self._heartbeat(time.monotonic())
            self.engine.tick()
            self._memory = self._device.memory()  # DeviceLost, where the device is, ends this process
            self._telemetry.device_free.labels(self._device.name).set(self._memory.free)
            await asyncio.sleep(_BEAT_SECONDS)
            self._broadcast()

    def load(self, wanted: Wanted, done: Done, request_id: int, *, pardon: bool) -> None:
        """Load without blocking the socket. With a pardon, forget what is held against the version first."""
        ref = wanted.ref
        if pardon:
            self._history = self._history.pardon(ref)
            self._broadcast(with_history=True)
        if (reason := self._history.withdrawn.get(ref)) is not None:
            done(_refusal(request_id, reason))
            self._broadcast()  # whoever asked takes it for loading until it hears what is said of it after that
            return
        self._failed.pop(ref, None)
        self._orders.start(self._load(wanted, done, request_id))

    def unload(self, ref: Ref, done: Done, request_id: int) -> None:
        """Unload without blocking the socket."""
        self._orders.start(self._unload(ref, done, request_id))

    async def _load(self, wanted: Wanted, done: Done, request_id: int) -> None:
        ref = wanted.ref
        try:
            loaded = await self._loader.load(wanted)
        except LoadFailed as error:
            (self._reload_failed if error.still_answers else self._failed)[ref] = str(error)
            done(_refusal(request_id, str(error)))
        except DeviceLost:
            return  # the engine ends of it, and whoever waits hears that
        else:
            self._failed.pop(ref, None)
            self._reload_failed.pop(ref, None)
            if loaded.seconds:
                facts = {"seconds": round(loaded.seconds, 3), "bytes": loaded.num_bytes}
                log.info("loaded", extra={"ref": str(ref), **facts, **asdict(loaded.execution)})
            done(Frame(Kind.LOADED, request_id, meta={"seconds": loaded.seconds, "bytes": loaded.num_bytes}))
        self._broadcast()

    async def _unload(self, ref: Ref, done: Done, request_id: int) -> None:
        num_bytes = await self._loader.unload(ref, self._broadcast)
        self._failed.pop(ref, None)
        self._reload_failed.pop(ref, None)
        log.info("unloaded", extra={"ref": str(ref), "bytes": num_bytes})
        done(Frame(Kind.UNLOADED, request_id, meta={"bytes": num_bytes}))
        self._broadcast()

    def _status(self, *, with_history: bool = False) -> Frame:
        forwards = {str(ref): round(seconds, 3) for ref, seconds in self.engine.since_forward().items()}
        meta = {
            "ready": list(forwards),
            "forwards": forwards,
            "failed": _by_name({**self._history.withdrawn, **self._failed}),
            "reload_failed": _by_name(self._reload_failed),
            "loading": [str(ref) for ref in self._loader.loading],
            "unloading": [str(ref) for ref in self.engine.retiring],
            "device": self._device_meta(),
            "replicas": self._replicas_meta(),
        }
        return Frame(Kind.STATUS, meta={**meta, "history": self._history.to_meta()} if with_history else meta)

    def _device_meta(self) -> dict[str, Any]:
        device = self._device
        return {
            "name": device.name,
            "title": device.title,
            "budget": device.budget,
            "free": self._memory.free,
            "total": self._memory.total,
            "peers": device.peers,
        }

    def _replicas_meta(self) -> dict[str, dict[str, Any]]:
        asked = self.engine.since_asked()
        return {
            str(ref): {
                "bytes": resident.runner.num_bytes,
                "generation": resident.wanted.generation,
                "precision": resident.wanted.precision,
                "optimized": resident.wanted.optimized,
                "execution": asdict(resident.runner.execution),
                "idle": round(asked[ref], 3) if ref in asked else None,
            }
            for ref, resident in self.engine.residents.items()
        }

    def _broadcast(self, *, with_history: bool = False) -> None:
        status = self._status(with_history=with_history)
        for connection in self._connections:
            connection.link.send(status)


def _by_name(reasons: dict[Ref, str]) -> dict[str, str]:
    return {str(ref): reason for ref, reason in reasons.items()}


class Connection:
    """One peer. Answers of one turn of the event loop leave together. When it leaves, its requests are cancelled."""

    def __init__(self, server: EngineServer) -> None:
        self._server = server
        self._open: dict[int, tuple[Ref, Request]] = {}
        self._results: list[InferResult] = []
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
                wanted, pardon = _wanted(frame), frame.meta.get("pardon", False) is True
                self._server.load(wanted, self.link.send, frame.request_id, pardon=pardon)
            case Kind.UNLOAD:
                self._server.unload(_ref(frame), self.link.send, frame.request_id)
            case kind:
                raise BrokenContract("kind of frame", expected="INFER, CANCEL, LOAD or UNLOAD", got=kind)

    def _infer(self, frame: Frame) -> None:
        header, requests = requests_in(frame)
        now = time.monotonic()
        for request_id, time_left, tensors in requests:
            order = Order(request_id, header.priority, header.digest)
            reply = functools.partial(self._reply, request_id)
            deadline = Deadline.after(time_left, now=now)
            request = self._server.engine.submit(header.ref, tensors, deadline, reply, order)
            if request is not None:
                self._open[request_id] = (header.ref, request)

    def _reply(self, request_id: int, answer: Outputs | ServoloopError) -> None:
        self._open.pop(request_id, None)
        if not isinstance(answer, Outputs):
            self.link.send(failed_frame(request_id, answer))
            return
        if not self._results:
            asyncio.get_running_loop().call_soon(self._send_results)
        self._results.append(InferResult(request_id, answer))

    def _send_results(self) -> None:
        results, self._results = self._results, []
        for frame in result_frames(results):
            self.link.send(frame)
        self.link.flush()


def _ref(frame: Frame) -> Ref:
    return Ref(frame.meta["model"], frame.meta["version"])


def _wanted(frame: Frame) -> Wanted:
    """What a LOAD asks for. Raises KeyError, TypeError or ValueError."""
    meta = frame.meta
    return Wanted(
        _ref(frame),
        Path(meta["folder"]),
        meta.get("identity", ""),
        Precision(meta.get("precision", Precision.FLOAT32)),
        int(meta.get("generation", 0)),
        meta.get("optimized", False) is True,
    )


def _refusal(request_id: int, reason: str) -> Frame:
    return Frame(Kind.FAILED, request_id, meta={"error": "broken", "reason": reason})
