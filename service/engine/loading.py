"""Versions come to an engine and go: each one's orders in turn, and one load at a time."""

import asyncio
import logging
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from models.manifest import BrokenCheckpoint
from service.domain import Execution, Ref
from service.engine.core import Clock, Engine
from service.engine.device_memory import free_memory
from service.engine.failures import DeviceLost, Failure, failure_of
from service.engine.runner import Runner
from service.engine.showing import shown
from service.engine.threads import loader_thread
from service.telemetry.instruments import EngineTelemetry
from service.watch.blackbox import Doing, Running
from service.wire.report import Wanted

log = logging.getLogger(__name__)


class LoadFailed(Exception):
    """A version could not be loaded; the text says why. Where `still_answers`, what was loaded before goes on."""

    def __init__(self, reason: str, *, still_answers: bool) -> None:
        super().__init__(reason)
        self.still_answers = still_answers


@dataclass(frozen=True, slots=True)
class Loaded:
    """What a version takes of the device, the seconds that loading it took (0 where it was loaded already), and how it
    computes.
    """

    num_bytes: int
    seconds: float
    execution: Execution


class Loader:
    """Brings replicas to an engine in a thread of its own, so that batches go on meanwhile.

    `load` runs in that thread: it reads, checks and builds. `show` is called there too, with what it does from then
    on. `free` is called once nothing holds a replica any more.
    """

    def __init__(
        self,
        engine: Engine,
        load: Callable[[Wanted], Runner],
        telemetry: EngineTelemetry,
        *,
        device: str = "cpu",
        show: Callable[[Running | None], None] = lambda _: None,
        free: Callable[[], None] = free_memory,
        clock: Clock = time.monotonic,
    ) -> None:
        self._engine = engine
        self._load = load
        self._telemetry = telemetry
        self._device = device
        self._show = show
        self._free = free
        self._clock = clock
        # One lock a version for as long as the process lives: an engine sees few versions, and a lock is small.
        self._turns: defaultdict[Ref, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._one_load = asyncio.Lock()
        self._to_load: Counter[Ref] = Counter()
        self._thread = loader_thread()

    @property
    def loading(self) -> list[Ref]:
        """The versions that are being loaded, or will be."""
        return list(self._to_load)

    async def load(self, wanted: Wanted) -> Loaded:
        """Load a version, or replace what is loaded by what is wanted; at once where that is loaded already.

        Raises LoadFailed, and DeviceLost.
        """
        async with self._counted(wanted.ref), self._turns[wanted.ref]:
            resident = self._engine.residents.get(wanted.ref)
            if resident is not None and wanted.is_met_by(resident.wanted):
                return Loaded(resident.runner.num_bytes, 0.0, resident.runner.execution)
            del resident
            async with self._one_load:
                return await self._replace(wanted)

    async def unload(self, ref: Ref, began: Callable[[], None] = lambda: None) -> int:
        """Answer what waits for a version, then let go of it; the bytes that this frees, 0 where it isn't loaded.

        `began` is called once it takes no requests any more.
        """
        async with self._turns[ref]:
            if ref not in self._engine.residents:
                return 0
            self._engine.close(ref)
            began()
            num_bytes = (await self._engine.drain(ref)).runner.num_bytes
            await self._give_back()
            self._telemetry.unloads.labels(ref.model, ref.version).inc()
            self._show_bytes(ref, 0)
            return num_bytes

    async def _replace(self, wanted: Wanted) -> Loaded:
        ref, started = wanted.ref, self._clock()
        labels = (ref.model, str(ref.version))
        runner, reason = None, ""
        try:
            runner = await self._warm(wanted)
        except DeviceLost:
            raise
        except Exception as error:  # noqa: BLE001 - whatever keeps one version from loading, others serve
            reason = _reason(ref, error)
        if runner is None:  # outside of the handler: while the exception is handled it holds what was built
            self._telemetry.loads.labels(*labels, "failed").inc()
            await self._give_back()
            raise LoadFailed(reason, still_answers=ref in self._engine.residents)
        replaced = self._engine.install(wanted, runner) is not None
        seconds = self._clock() - started
        self._telemetry.load_duration.labels(*labels).observe(seconds)
        self._telemetry.loads.labels(*labels, "reloaded" if replaced else "ok").inc()
        self._show_bytes(ref, runner.num_bytes)
        if replaced:
            await self._give_back()
        return Loaded(runner.num_bytes, seconds, runner.execution)

    async def _warm(self, wanted: Wanted) -> Runner:
        # Handed over like this, because a thread goes on holding what it returned until it gets to run again.
        loaded: list[Runner] = []
        try:
            await asyncio.get_running_loop().run_in_executor(self._thread, self._build, wanted, loaded)
        except DeviceLost as error:
            raise self._engine.lose_device() from error
        await self._engine.warm_up(wanted.ref, loaded[0])
        return loaded.pop()

    def _build(self, wanted: Wanted, loaded: list[Runner]) -> None:
        """Load, in the loader's thread. Raises DeviceLost, and what `load` raises."""
        with shown(self._show, Running(Doing.LOAD, wanted.ref, self._clock())):
            try:
                loaded.append(self._load(wanted))
            except Exception as error:
                if failure_of(error) is Failure.DEVICE:
                    raise DeviceLost from error
                raise

    async def _give_back(self) -> None:
        """Free what replicas left that are gone, once no batch runs on them any more."""
        await self._engine.let_pass()
        await asyncio.to_thread(self._free)  # not in the loader's thread, where the next load may be under way

    @asynccontextmanager
    async def _counted(self, ref: Ref) -> AsyncIterator[None]:
        self._to_load[ref] += 1
        try:
            yield
        finally:
            self._to_load[ref] -= 1
            if not self._to_load[ref]:
                del self._to_load[ref]

    def _show_bytes(self, ref: Ref, num_bytes: int) -> None:
        self._telemetry.resident_bytes.labels(ref.model, ref.version, self._device).set(num_bytes)


def _reason(ref: Ref, error: Exception) -> str:
    """Why a load failed, in words that may be told; the log has the rest."""
    if isinstance(error, BrokenCheckpoint):
        log.error("can't serve a checkpoint", extra={"ref": str(ref), "reason": str(error)})
        return str(error)
    log.error("loading failed", extra={"ref": str(ref)}, exc_info=error)
    if failure_of(error) is Failure.MEMORY:
        return "the device's memory does not suffice for it"
    return "loading failed"
