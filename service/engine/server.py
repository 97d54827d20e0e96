"""The engine's end of the socket: frames in, frames out."""

import asyncio
import functools
import logging
import time
from collections.abc import Callable
from dataclasses import asdict

from service.domain import Deadline, Ref
from service.engine.core import Engine
from service.engine.devices import OwnDevice
from service.engine.failures import DeviceLost
from service.engine.loading import Loader, LoadFailed
from service.engine.requests import Request
from service.errors import BrokenContract, ServoloopError
from service.process.tasks import Background
from service.telemetry.instruments import EngineTelemetry
from service.watch.history import History
from service.wire.frames import Frame, Kind
from service.wire.inference import InferResult, Outputs, failed_frame, requests_in, result_frames
from service.wire.link import Link
from service.wire.report import DeviceReport, ReplicaReport, Report, Wanted, load_in, unload_in
from service.wire.statistics import Statistics, counted_frame

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
        self._connections: set[Connection] = set()
        self._failed: dict[Ref, str] = {}
        # Orders of one version are carried out in the order of their frames, because tasks begin in that of starts.
        self._orders = Background()

    def connection(self) -> Link:
        """A protocol for one connection."""
        return Connection(self).link

    def opened(self, connection: "Connection") -> None:
        self._connections.add(connection)
        connection.link.send(self._status(with_history=True))

    def closed(self, connection: "Connection") -> None:
        self._connections.discard(connection)

    async def beat(self) -> None:
        """Show the supervisor and all connections that this process is alive, until cancelled."""
        while True:
            self._heartbeat(time.monotonic())
            self.engine.tick()
            memory = self._device.memory()  # DeviceLost, where the device is, ends this process
            self._telemetry.device_free.labels(self._device.name).set(memory.free)
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

    def statistics(self) -> dict[Ref, Statistics]:
        """What was counted of each version, with what its replica takes."""
        found = self.engine.statistics
        for ref, resident in self.engine.residents.items():
            found[ref].num_bytes = {self._device.name: resident.runner.num_bytes}
        return found

    async def _load(self, wanted: Wanted, done: Done, request_id: int) -> None:
        ref = wanted.ref
        try:
            loaded = await self._loader.load(wanted)
        except LoadFailed as error:
            if not error.still_answers:
                self._failed[ref] = str(error)
            done(_refusal(request_id, str(error)))
        except DeviceLost:
            return  # the engine ends of it, and whoever waits hears that
        else:
            self._failed.pop(ref, None)
            if loaded.seconds:
                facts = {"seconds": round(loaded.seconds, 3), "bytes": loaded.num_bytes}
                log.info("loaded", extra={"ref": str(ref), **facts, **asdict(loaded.execution)})
            done(Frame(Kind.LOADED, request_id))
        self._broadcast()

    async def _unload(self, ref: Ref, done: Done, request_id: int) -> None:
        num_bytes = await self._loader.unload(ref, self._broadcast)
        self._failed.pop(ref, None)
        log.info("unloaded", extra={"ref": str(ref), "bytes": num_bytes})
        done(Frame(Kind.UNLOADED, request_id))
        self._broadcast()

    def _status(self, *, with_history: bool = False) -> Frame:
        device, asked = self._device, self.engine.since_asked()
        replicas = {
            ref: ReplicaReport(
                resident.runner.num_bytes,
                resident.wanted.generation,
                resident.wanted.precision,
                asked.get(ref),
                resident.runner.execution,
                resident.wanted.optimized,
            )
            for ref, resident in self.engine.residents.items()
        }
        report = Report(
            DeviceReport(device.name, device.budget, device.peers),
            replicas,
            frozenset(self._loader.loading),
            frozenset(self.engine.retiring),
            self.engine.since_forward(),
            {**self._history.withdrawn, **self._failed},
            self._history if with_history else None,
        )
        return report.to_frame()

    def _broadcast(self, *, with_history: bool = False) -> None:
        status = self._status(with_history=with_history)
        for connection in self._connections:
            connection.link.send(status)


class Connection:
    """One peer. Answers of one turn of the event loop leave together. When it leaves, its requests are cancelled."""

    def __init__(self, server: EngineServer) -> None:
        self._server = server
        self._open: dict[int, Request] = {}
        self._results: list[InferResult] = []
        self.link = Link(self._receive, opened=lambda: server.opened(self), closed=self._closed)

    def _closed(self) -> None:
        self._server.closed(self)
        for request in self._open.values():
            self._server.engine.cancel(request)
        self._open.clear()

    def _receive(self, frame: Frame) -> None:
        match frame.kind:
            case Kind.INFER:
                self._infer(frame)
            case Kind.CANCEL:
                if (request := self._open.pop(frame.request_id, None)) is not None:
                    self._server.engine.cancel(request)
            case Kind.LOAD:
                wanted, pardon = load_in(frame)
                self._server.load(wanted, self.link.send, frame.request_id, pardon=pardon)
            case Kind.UNLOAD:
                self._server.unload(unload_in(frame), self.link.send, frame.request_id)
            case Kind.COUNT:
                self.link.send(counted_frame(frame.request_id, self._server.statistics()))
            case kind:
                raise BrokenContract("kind of frame", expected="INFER, CANCEL, LOAD, UNLOAD or COUNT", got=kind)

    def _infer(self, frame: Frame) -> None:
        header, requests = requests_in(frame)
        now = self._server.engine.now()
        for request_id, time_left, tensors in requests:
            reply = functools.partial(self._reply, request_id)
            deadline = Deadline.after(time_left, now=now)
            request = Request(header.ref, tensors, deadline, now, reply, request_id, header.priority, header.digest)
            if self._server.engine.submit(request):
                self._open[request_id] = request

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


def _refusal(request_id: int, reason: str) -> Frame:
    return Frame(Kind.FAILED, request_id, meta={"reason": reason})
