"""The other end of an engine's socket, and the engine that it finds there."""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from models.preprocess import Tensors
from models.preprocess.tensors import Array
from service.domain import Ref
from service.engine.devices import OwnDevice
from service.engine.memory import Memory
from service.watch.history import History
from service.wire.frames import Frame, Kind
from service.wire.inference import InferHeader, InferRequest, InferResult, infer_frame, results_in
from service.wire.link import Link
from service.wire.report import DeviceReport, Report, Wanted, load_frame, unload_frame
from tests.patience import PATIENCE

REF = Ref("m", 1)
WANTED = Wanted(REF, Path("good"))
LABELS = {"model": "m", "version": "1"}
GONE, KEPT = Ref("gone", 3), Ref("kept", 1)
HISTORY = History(2, {1: frozenset({(7, 0)})}, {b"d" * 16: GONE, b"k" * 16: KEPT}, {GONE: "it was taken out"})
DEVICE = OwnDevice("cpu", "a processor", 1000, ("cpu",), lambda: Memory(free=400, total=2000))
NOTHING = Report(DeviceReport("cpu", 1000, ("cpu",)), {}, frozenset(), frozenset(), {}, {GONE: "it was taken out"})


class Peer:
    """The other end of an engine's socket."""

    def __init__(self) -> None:
        self._frames: asyncio.Queue[Frame] = asyncio.Queue()
        self.link = Link(self._frames.put_nowait)

    async def next(self, kind: Kind | None = None) -> Frame:
        """The next frame, or the next of a kind."""
        while True:
            frame = await asyncio.wait_for(self._frames.get(), PATIENCE)
            if kind in (None, frame.kind):
                return frame

    async def report(self) -> Report:
        """What the next STATUS says."""
        return Report.from_frame(await self.next(Kind.STATUS))

    def load(self, request_id: int, folder: str = "good", *, pardon: bool = False, **more: Any) -> None:
        wanted = replace(WANTED, folder=Path(folder), **more)
        self.link.send(load_frame(request_id, wanted, pardon=pardon))

    def unload(self, request_id: int) -> None:
        self.link.send(unload_frame(request_id, REF))

    def infer(
        self,
        request_id: int,
        values: Array,
        lengths: Array | None = None,
        *,
        time_left: float = PATIENCE,
        ref: Ref = REF,
    ) -> None:
        self.link.send(infer_frame(InferHeader(ref), [InferRequest(request_id, time_left, Tensors(values, lengths))]))

    async def answer(self) -> InferResult:
        """The only answer of the next RESULT."""
        (answer,) = results_in(await self.next(Kind.RESULT))
        return answer


Connect = Callable[[], Awaitable[Peer]]


async def loaded(connect: Connect) -> Peer:
    peer = await connect()
    peer.load(1)
    await peer.next(Kind.LOADED)
    return peer


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not true():
            await asyncio.sleep(0)


class Gate:
    """Batches run only while it is open."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.open.set()
        self.num_entered = 0

    def enter(self) -> None:
        self.num_entered += 1
        self.open.wait(PATIENCE)
