"""The supervisor's part in having versions loaded: a real store, real files and real engines but for their networks."""

import asyncio
import shutil
import threading
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from models.manifest import WEIGHTS, BrokenCheckpoint
from service.domain import BatchPolicy, Loading, Ref
from service.engine.core import Engine
from service.engine.devices import OwnDevice
from service.engine.loading import Loader
from service.engine.memory import Memory
from service.engine.server import EngineServer
from service.errors import StoreUnavailable
from service.process.folders import listen_unix
from service.reconciling import optimizing
from service.reconciling.optimizing import Optimizer, TrialFailed
from service.reconciling.reconciler import Reconciler
from service.reconciling.stock import Stock
from service.registry.fleet import Standing, VersionState, View
from service.registry.scanner import Scanner
from service.serving.fleet_client import FleetClient
from service.store.base import Aliases, Found, WishChange
from service.telemetry.instruments import EngineTelemetry, SupervisorTelemetry
from service.watch.evidence import Cause, Death
from service.watch.history import History
from service.watch.keeper import EngineKeeper
from service.wire.report import Wanted
from tests import checkpoints
from tests.fakes import FakeRunner
from tests.stores import OpenStore, open_store

PATIENCE = 20.0
SENSORS, RENT = Ref("sensors", 1), Ref("rent", 1)
LARGE = 1 << 40


class SizedRunner(FakeRunner):
    """Takes as many bytes as its file has."""

    def __init__(self, wanted: Wanted) -> None:
        super().__init__()
        self.num_bytes = (wanted.folder / WEIGHTS).stat().st_size


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
        self.keepers: dict[str, EngineKeeper] = {}
        self.is_automatic = False
        """Whether what nothing was tried for says that it will be."""
        self.optimized: set[Path] = set()
        self.can_optimize = asyncio.Event()
        self.unfit: set[Path] = set()
        self.abandoned: list[Path] = []
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
        loader = Loader(engine, self._load, telemetry, device=device)
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

    async def crown_new_models(self, found: Found) -> Aliases:
        if self.fails:
            raise self.fails.pop()
        return self._control.crown_new_models(found)

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
        Optimizer(engines.optimize, max_busy=1.0),
        registered=root,
        wants_every_gpu=every_gpu,
    )
    with listen_unix(folder / "supervisor.sock") as listener:
        async with reconciler.serving(listener), FleetClient(folder / "supervisor.sock") as fleet:
            yield Service(root, store, changes, engines, fleet)
    await engines.close()
    store.close()


@pytest.fixture(autouse=True)
def _quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.reconciling.reconciler._SCAN_SECONDS", 0.02)
    monkeypatch.setattr(optimizing, "LOOK_SECONDS", 0.0)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    checkpoints.write_vector(tmp_path / "models")
    checkpoints.write_columns(tmp_path / "models")
    return tmp_path


async def test_everything_found_is_loaded_as_what_it_is(folder: Path) -> None:
    async with running(folder) as service:
        versions = await service.come({SENSORS: VersionState.LOADED, RENT: VersionState.LOADED})
        loads = {wanted.ref: wanted for wanted in service.engines.loads}
        assert {ref: wanted.identity for ref, wanted in loads.items()} == {
            ref: standing.identity for ref, standing in versions.items()
        }
        assert loads[SENSORS].folder == folder / "models" / "sensors" / "1"
        assert versions[SENSORS].num_bytes == (folder / "models" / "sensors" / "1" / WEIGHTS).stat().st_size
        assert [(engine.slot, engine.device) for engine in service.view.engines] == [("engine-0", "cpu")]


async def test_there_is_an_engine_for_every_gpu_and_a_version_lies_where_there_is_room(folder: Path) -> None:
    largest = max(path.stat().st_size for path in folder.glob(f"models/*/*/{WEIGHTS}"))
    async with running(folder, peers=("cuda:0", "cuda:1"), budget=largest + 8) as service:
        versions = await service.come({SENSORS: VersionState.LOADED, RENT: VersionState.LOADED})
        assert service.engines.started == ["cuda:0", "cuda:1"]
        assert {standing.slots for standing in versions.values()} == {("engine-0",), ("engine-1",)}


async def test_where_one_gpu_is_named_no_other_is_taken(folder: Path) -> None:
    async with running(folder, peers=("cuda:0", "cuda:1"), every_gpu=False) as service:
        await service.come({SENSORS: VersionState.LOADED, RENT: VersionState.LOADED})
        assert service.engines.started == ["cuda:0"]


async def test_what_is_put_into_a_root_is_loaded_and_moves_no_alias(folder: Path) -> None:
    async with running(folder) as service:
        await service.come({SENSORS: VersionState.LOADED, RENT: VersionState.LOADED})
        scan = service.view.scan
        checkpoints.write_vector(service.root, version=2)
        checkpoints.write_text(service.root)
        await service.until(lambda: len(service.view.versions) == 4)
        await service.come(dict.fromkeys([SENSORS, RENT, Ref("sensors", 2), Ref("mood", 1)], VersionState.LOADED))
        assert service.view.scan > scan
        assert service.store.control.aliases() == {
            "sensors": {"champion": 1},
            "rent": {"champion": 1},
            "mood": {"champion": 1},
        }
        shutil.rmtree(service.root / "sensors" / "2")
        await service.come(dict.fromkeys([SENSORS, RENT, Ref("mood", 1)], VersionState.LOADED))


async def test_what_an_operator_wants_comes_about(folder: Path) -> None:
    checkpoints.write_vector(folder / "models", version=2)
    second = Ref("sensors", 2)
    loaded = dict.fromkeys([SENSORS, RENT, second], VersionState.LOADED)
    async with running(folder) as service:
        await service.come(loaded)
        service.store.control.change_wish(second, WishChange(loading=Loading.UNLOADED))
        await service.come({**loaded, second: VersionState.UNLOADED})
        service.store.control.change_wish(second, WishChange(loading=Loading.AUTO))
        await service.come(loaded)
        service.store.control.change_wish(second, WishChange(reload=True))
        await service.until(lambda: service.view.versions[second].generation == 1)
        assert [wanted.generation for wanted in service.engines.loads if wanted.ref == second] == [0, 0, 1]


async def test_where_there_is_no_room_a_version_comes_when_it_is_wanted(folder: Path) -> None:
    sizes = [path.stat().st_size for path in folder.glob(f"models/*/*/{WEIGHTS}")]
    async with running(folder, budget=max(sizes) + 8) as service:
        await service.until(lambda: VersionState.LOADED in [found.state for found in service.view.versions.values()])
        for _ in range(3):
            [idle] = [ref for ref, found in service.view.versions.items() if found.state is not VersionState.LOADED]
            [other] = service.view.versions.keys() - {idle}
            service.fleet.want(idle)
            await service.come({idle: VersionState.LOADED, other: VersionState.ON_DEMAND})


async def test_a_reload_pardons_a_version_once(folder: Path) -> None:
    async with running(folder) as service:
        await service.come({SENSORS: VersionState.LOADED, RENT: VersionState.LOADED})
        evidence = service.engines.keepers["engine-0"].evidence
        evidence.verdicts.withdrawn[SENSORS] = "it was taken out"
        service.engines.broken.add(SENSORS)
        service.store.control.change_wish(SENSORS, WishChange(reload=True))
        await service.until(lambda: service.view.versions[SENSORS].reason)
        standing = service.view.versions[SENSORS]
        assert (standing.state, standing.generation, standing.reason) == (VersionState.LOADED, 0, "it is broken today")
        assert not evidence.verdicts.withdrawn
        evidence.weigh(Death(1, Cause.OUTSIDE, None, 0.0))


async def test_what_answers_does_not_go_for_files_that_are_broken(folder: Path) -> None:
    shutil.rmtree(folder / "models" / "rent")
    size = (folder / "models" / "sensors" / "1" / WEIGHTS).stat().st_size
    async with running(folder, budget=size + 8) as service:
        await service.come({SENSORS: VersionState.LOADED})
        weights = folder / "models" / "sensors" / "1" / WEIGHTS
        whole = weights.read_bytes()
        weights.write_bytes(whole[:-1] + b"x")
        service.store.control.change_wish(SENSORS, WishChange(reload=True))
        await service.until(lambda: service.view.versions[SENSORS].reason)
        standing = service.view.versions[SENSORS]
        assert (standing.state, standing.generation) == (VersionState.LOADED, 0)
        weights.write_bytes(whole)
        service.store.control.change_wish(SENSORS, WishChange(reload=True))
        await service.until(lambda: service.view.versions[SENSORS].generation == 2)


async def test_what_failed_is_tried_again_once_it_was_unloaded_in_between(folder: Path) -> None:
    checkpoints.write_vector(folder / "models", version=2)
    second = Ref("sensors", 2)
    async with running(folder) as service:
        service.engines.broken.add(second)
        await service.until(lambda: VersionState.FAILED in [found.state for found in service.view.versions.values()])
        service.engines.broken.clear()
        service.store.control.change_wish(second, WishChange(loading=Loading.UNLOADED))
        await service.until(lambda: service.view.versions[second].state is VersionState.UNLOADED)
        service.store.control.change_wish(second, WishChange(loading=Loading.AUTO))
        await service.until(lambda: service.view.versions[second].state is VersionState.LOADED)


async def test_files_are_not_removed_while_an_engine_may_read_them(folder: Path) -> None:
    for version in (2, 3):
        checkpoints.write_vector(folder / "models", version=version)
    second, third = Ref("sensors", 2), Ref("sensors", 3)
    async with running(folder) as service:
        await service.come(dict.fromkeys([SENSORS, RENT, second, third], VersionState.LOADED))
        service.engines.may_load.clear()
        service.store.control.change_wish(second, WishChange(reload=True))
        await service.until(lambda: [wanted.ref for wanted in service.engines.loads].count(second) == 2)
        for ref in (second, third):
            service.store.control.delete_version(ref)
        await service.until(lambda: service.store.control.state().to_remove == {second})
        assert (service.root / "sensors" / "2").exists()
        service.engines.may_load.set()
        await service.until(lambda: not (service.root / "sensors" / "2").exists())


async def test_what_comes_to_light_after_a_pardon_counts_again(folder: Path) -> None:
    async with running(folder) as service:
        await service.come({SENSORS: VersionState.LOADED, RENT: VersionState.LOADED})
        service.store.control.change_wish(SENSORS, WishChange(reload=True))
        await service.until(lambda: service.view.versions[SENSORS].generation == 1)
        evidence = service.engines.keepers["engine-0"].evidence
        evidence.verdicts.withdrawn[SENSORS] = "it was taken out"
        before = len(service.engines.loads)
        service.engines.restart("engine-0")
        await service.until(lambda: SENSORS in {wanted.ref for wanted in service.engines.loads[before:]})
        assert evidence.verdicts.withdrawn


async def test_files_of_one_version_that_can_not_be_removed_keep_no_others(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for version in (2, 3):
        checkpoints.write_vector(folder / "models", version=version)
    removed = []

    def remove(root: Path, ref: Ref) -> None:
        if ref.version == 2:
            raise PermissionError(1, "not allowed")
        removed.append(ref)

    monkeypatch.setattr("service.reconciling.reconciler.remove_files", remove)
    async with running(folder) as service:
        for version in (2, 3):
            service.store.control.delete_version(Ref("sensors", version))
        await service.until(lambda: Ref("sensors", 3) in removed)
        await service.until(lambda: service.store.control.state().to_remove == {Ref("sensors", 2)})


async def test_a_store_that_is_away_is_told_later_of_what_was_found(folder: Path) -> None:
    async with running(folder) as service:
        await service.come({SENSORS: VersionState.LOADED, RENT: VersionState.LOADED})
        service.changes.fails = [StoreUnavailable("it is away"), RuntimeError("a fault of ours")]
        checkpoints.write_vector(service.root, version=2)
        await service.come(dict.fromkeys([SENSORS, RENT, Ref("sensors", 2)], VersionState.LOADED))
        assert not service.changes.fails


async def test_a_deleted_version_goes_everywhere_and_then_its_files(folder: Path) -> None:
    checkpoints.write_vector(folder / "models", version=2)
    second = Ref("sensors", 2)
    async with running(folder) as service:
        await service.until(lambda: len(service.view.versions) == 3)
        service.store.control.delete_version(second)
        await service.come({SENSORS: VersionState.LOADED, RENT: VersionState.LOADED})
        await service.until(lambda: not (service.root / "sensors" / "2").exists())
        await service.until(lambda: not service.store.control.state().to_remove)
        checkpoints.write_vector(service.root, version=2)
        checkpoints.write_vector(service.root, version=3)
        await service.come(dict.fromkeys([SENSORS, RENT, Ref("sensors", 3)], VersionState.LOADED))


# What runs a version best


def backends(service: Service) -> dict[Ref, str]:
    return {ref: how.backend for ref, found in service.view.versions.items() if (how := found.execution) is not None}


async def test_what_nothing_was_tried_for_is_tried_and_loaded_anew_once(folder: Path) -> None:
    async with running(folder, is_automatic=True) as service:
        await service.until(lambda: "other back ends are being tried on it" in reasons(service).values())
        assert set(backends(service).values()) == {"fake"}
        service.engines.can_optimize.set()
        await service.until(lambda: backends(service) == {SENSORS: "fast", RENT: "fast"})
        assert set(reasons(service).values()) == {"it was measured"}
        loads = [(wanted.ref, wanted.generation, wanted.optimized) for wanted in service.engines.loads]
        assert sorted(loads) == sorted((ref, 0, is_new) for ref in (SENSORS, RENT) for is_new in (False, True))


async def test_an_operators_reload_and_ours_are_both_done(folder: Path) -> None:
    async with running(folder, is_automatic=True) as service:
        await service.until(lambda: "other back ends are being tried on it" in reasons(service).values())
        [tried] = [ref for ref, said in reasons(service).items() if said == "other back ends are being tried on it"]
        service.engines.may_load.clear()
        service.store.control.change_wish(tried, WishChange(reload=True))
        await service.until(lambda: len(service.engines.loads) == 3)
        service.engines.can_optimize.set()
        await service.until(lambda: service.engines.optimized)
        service.engines.may_load.set()
        await service.until(lambda: set(backends(service).values()) == {"fast"})
        assert service.view.versions[tried].generation == 1
        before = len(service.engines.loads)
        service.store.control.change_wish(tried, WishChange(reload=True))
        await service.until(lambda: service.view.versions[tried].generation == 2)
        assert [wanted.generation for wanted in service.engines.loads[before:]] == [2]


async def test_an_engine_that_is_restarted_has_at_once_what_was_found(folder: Path) -> None:
    async with running(folder, is_automatic=True) as service:
        service.engines.can_optimize.set()
        await service.until(lambda: backends(service) == {SENSORS: "fast", RENT: "fast"})
        before = len(service.engines.loads)
        service.engines.restart("engine-0")
        await service.until(lambda: len(service.engines.loads) >= before + 2)
        await service.come({SENSORS: VersionState.LOADED, RENT: VersionState.LOADED})
        assert sorted(wanted.ref for wanted in service.engines.loads[before:]) == [RENT, SENSORS]


async def test_what_can_not_be_tried_answers_on_and_says_why(folder: Path) -> None:
    async with running(folder, is_automatic=True) as service:
        service.engines.unfit.add(folder / "models" / "rent" / "1")
        service.engines.can_optimize.set()
        await service.until(lambda: backends(service) == {SENSORS: "fast", RENT: "fake"})
        await service.until(lambda: reasons(service)[RENT] == "trying other back ends failed: it holds no rows")
        how = service.view.versions[RENT].execution
        assert how is not None
        assert not how.pending
        assert [wanted.ref for wanted in service.engines.loads].count(RENT) == 1


async def test_what_is_unloaded_is_not_tried_any_more(folder: Path) -> None:
    async with running(folder, is_automatic=True) as service:
        service.engines.can_optimize.set()
        await service.until(lambda: backends(service) == {SENSORS: "fast", RENT: "fast"})
        service.engines.can_optimize.clear()
        second = Ref("sensors", 2)
        checkpoints.write_vector(service.root, version=2)
        await service.until(lambda: reasons(service).get(second) == "other back ends are being tried on it")
        service.store.control.change_wish(second, WishChange(loading=Loading.UNLOADED))
        await service.until(lambda: service.engines.abandoned == [service.root / "sensors" / "2"])
        service.store.control.change_wish(second, WishChange(loading=Loading.AUTO))
        service.engines.can_optimize.set()
        await service.until(lambda: backends(service).get(second) == "fast")


def reasons(service: Service) -> dict[Ref, str]:
    return {ref: how.reason for ref, found in service.view.versions.items() if (how := found.execution) is not None}
