"""A reconciler with a real store, real files and real engines but for their networks."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry

from models.manifest import WEIGHTS, BrokenCheckpoint
from service.domain import BatchPolicy, Ref
from service.engine.core import Engine
from service.engine.devices import OwnDevice
from service.engine.loading import Loader
from service.engine.memory import Memory
from service.engine.server import EngineServer
from service.process.folders import listen_unix
from service.reconciling.optimizing import Optimizer, TrialFailed, TryOut
from service.reconciling.progress import Untried
from service.reconciling.reconciler import Reconciler
from service.reconciling.stock import Stock
from service.registry.fleet import Standing, VersionState, View
from service.registry.scanner import Scanner
from service.serving.fleet_client import FleetClient
from service.store.base import Aliases, Contracts, Found
from service.telemetry.instruments import EngineTelemetry, SupervisorTelemetry
from service.watch.history import History
from service.watch.keeper import EngineKeeper
from service.wire.report import Wanted
from tests.fakes import FakeRunner
from tests.patience import PATIENCE
from tests.stores import OpenStore, open_store

SENSORS, RENT = Ref("sensors", 1), Ref("rent", 1)
LARGE = 1 << 40


class SizedRunner(FakeRunner):
    """Takes as many bytes as its file has."""

    def __init__(self, wanted: Wanted) -> None:
        super().__init__()
        self.num_bytes = (wanted.folder / WEIGHTS).stat().st_size


class PatientLoader(Loader):
    """Unloads once it may."""

    def __init__(self, may_unload: asyncio.Event, *parts: Any, **options: Any) -> None:
        super().__init__(*parts, **options)
        self._may_unload = may_unload

    async def unload(self, ref: Ref, began: Callable[[], None] = lambda: None) -> int:
        await self._may_unload.wait()
        return await super().unload(ref, began)


class ToldOptimizer(Optimizer):
    """Remembers what it was told may be tried."""

    def __init__(self, told: list[Sequence[Untried]], try_out: TryOut) -> None:
        super().__init__(try_out, max_busy=1.0)
        self._told = told

    def update(self, untried: Sequence[Untried], wanted: Collection[str]) -> None:
        self._told.append(untried)
        super().update(untried, wanted)


class Engines:
    """Engines in this process, one for each device that is started."""

    def __init__(self, folder: Path, peers: tuple[str, ...], budget: int) -> None:
        self.folder = folder
        self.peers = peers
        self.budget = budget
        self.started: list[str] = []
        self.loads: list[Wanted] = []
        self.broken: set[Ref] = set()
        self.may_load = threading.Event()
        self.may_load.set()
        self.may_unload = asyncio.Event()
        self.may_unload.set()
        self.keepers: dict[str, EngineKeeper] = {}
        self.is_automatic = False
        """Whether what nothing was tried for says that it will be."""
        self.optimized: set[Path] = set()
        self.can_optimize = asyncio.Event()
        self.unfit: set[Path] = set()
        self.abandoned: list[Path] = []
        self.told: list[Sequence[Untried]] = []
        """What the optimizer was told, each time."""
        self.told_before: dict[Ref, int] = {}
        """How often it had been told when a version was pardoned, which is when its load is commanded."""
        self._tasks: list[asyncio.Task[None]] = []
        self._servers: dict[str, EngineServer] = {}

    @property
    def slots(self) -> Collection[str]:
        return self.keepers.keys()

    def path(self, slot: str) -> Path:
        return self.folder / f"{slot}.sock"

    def start(self, device: str) -> str:
        slot = f"engine-{len(self.started)}"
        self.started.append(device)
        telemetry = SupervisorTelemetry(CollectorRegistry())
        self.keepers[slot] = EngineKeeper(self.folder / slot, 8, 2, 5.0, telemetry)
        self._tasks.append(asyncio.create_task(self._serve(slot, device)))
        return slot

    def pardon(self, slot: str, ref: Ref) -> None:
        self.told_before[ref] = len(self.told)
        self.keepers[slot].evidence.pardon(ref)

    def restart(self, slot: str) -> None:
        """As the supervisor would have it after a kill."""
        self._tasks.pop().cancel()
        for connection in list(self._servers[slot]._connections):
            connection.link.close()
        self.path(slot).unlink()
        self._tasks.append(asyncio.create_task(self._serve(slot, "cpu")))

    async def close(self) -> None:
        self.may_load.set()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, slot: str, device: str) -> None:
        telemetry = EngineTelemetry(CollectorRegistry())
        engine = Engine(BatchPolicy(), telemetry)
        own = OwnDevice(device, "a device", self.budget, self.peers, lambda: Memory(free=1, total=2))
        loader = PatientLoader(self.may_unload, engine, self._load, telemetry, device=device)
        server = EngineServer(engine, loader, History(), lambda _: None, own, telemetry)
        self._servers[slot] = server
        listening = await asyncio.get_running_loop().create_unix_server(server.connection, str(self.path(slot)))
        async with listening:
            await asyncio.gather(engine.run(), server.beat())

    def _load(self, wanted: Wanted) -> FakeRunner:
        self.loads.append(wanted)
        self.may_load.wait(PATIENCE)
        if wanted.ref in self.broken:
            raise BrokenCheckpoint("it is broken today")
        runner = SizedRunner(wanted)
        if self.is_automatic and wanted.folder in self.optimized:
            runner.execution = replace(runner.execution, backend="fast", reason="it was measured")
        elif self.is_automatic:
            runner.execution = replace(runner.execution, pending=True)
        return runner

    async def optimize(self, folder: Path) -> Mapping[str, Any]:
        """As the process that tries back ends, and keeps what it found."""
        try:
            await self.can_optimize.wait()
        except asyncio.CancelledError:
            self.abandoned.append(folder)
            raise
        if folder in self.unfit:
            raise TrialFailed("it holds no rows")
        self.optimized.add(folder)
        return {"backend": "fast", "precision": "float32", "threads": 1}


class Service:
    """What a test drives: files, store and engines, and what http processes are told."""

    def __init__(self, root: Path, store: OpenStore, changes: "Changes", engines: Engines, fleet: FleetClient) -> None:
        self.changes = changes
        self.root = root
        self.store = store
        self.engines = engines
        self.fleet = fleet

    @property
    def view(self) -> View:
        return self.fleet.view

    async def come(self, expected: Mapping[Ref, VersionState]) -> Mapping[Ref, Standing]:
        await self.until(lambda: {ref: found.state for ref, found in self.view.versions.items()} == expected)
        return self.view.versions

    async def until(self, condition: Callable[[], object]) -> None:
        try:
            async with asyncio.timeout(PATIENCE):
                while not condition():
                    await asyncio.sleep(0.002)
        except TimeoutError:
            raise AssertionError(f"it did not come about; the view is {self.view}") from None


class Changes:
    """The recorder's part, done at once."""

    def __init__(self, store: OpenStore) -> None:
        self._control = store.control
        self.fails: list[Exception] = []

    async def crown_new_models(self, found: Found, contracts: Contracts) -> Aliases:
        if self.fails:
            raise self.fails.pop()
        return self._control.crown_new_models(found, contracts)

    async def note_removed(self, ref: Ref) -> None:
        self._control.note_removed(ref)


@asynccontextmanager
async def running(
    folder: Path,
    *,
    peers: tuple[str, ...] = ("cpu",),
    budget: int = LARGE,
    every_gpu: bool = True,
    is_automatic: bool = False,
) -> AsyncIterator[Service]:
    root = folder / "models"
    (folder / "store").mkdir()
    store = open_store(folder / "store")
    engines = Engines(folder, peers, budget)
    engines.is_automatic = is_automatic
    engines.start(peers[0])
    changes = Changes(store)
    stock = Stock(Scanner([root]), changes)
    await stock.take()
    reconciler = Reconciler(
        stock,
        store.control,
        changes,
        engines,
        SupervisorTelemetry(CollectorRegistry()),
        ToldOptimizer(engines.told, engines.optimize),
        registered=root,
        wants_every_gpu=every_gpu,
    )
    try:
        with listen_unix(folder / "supervisor.sock") as listener:
            async with reconciler.serving(listener), FleetClient(folder / "supervisor.sock") as fleet:
                yield Service(root, store, changes, engines, fleet)
    finally:
        await engines.close()
        store.close()
