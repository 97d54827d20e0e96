"""Makes what is the same as what shall be: follows store, model roots and engines, and commands loads and unloads."""

import asyncio
import contextlib
import logging
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from pathlib import Path
from typing import Protocol

from models.checkpoint_files import CheckpointFiles
from models.manifest import BrokenCheckpoint
from service.domain import Loading, Ref
from service.errors import ServoloopError
from service.process.aside import in_daemon_thread
from service.process.tasks import stop_tasks
from service.reconciling.decision import Decision, Facts, decide
from service.reconciling.engine_link import EngineLink
from service.reconciling.optimizing import Optimizer
from service.reconciling.placement import Claim
from service.reconciling.progress import Untried
from service.reconciling.publisher import Publisher
from service.reconciling.removal import remove_files
from service.reconciling.steps import Load, Unload
from service.reconciling.stock import Stock
from service.reconciling.usage import Usage
from service.registry.catalog import CHANGED, Catalog
from service.registry.fleet import VersionState
from service.store.base import ControlReader, State
from service.store.following import StateFollower
from service.telemetry.instruments import SupervisorTelemetry

log = logging.getLogger(__name__)

_SCAN_SECONDS = 1.0


class EngineSlots(Protocol):
    """The engine processes: each slot is held by one after the other."""

    @property
    def slots(self) -> Collection[str]: ...

    def path(self, slot: str) -> Path:
        """Where the engine in this slot answers."""
        ...

    def start(self, device: str) -> str:
        """Have an engine run on a device, from now on; its slot."""
        ...

    def pardon(self, slot: str, ref: Ref) -> None:
        """Hold nothing against a version any more that the deaths in this slot were evidence of."""
        ...


class Removals(Protocol):
    """How the store is told of what was done."""

    async def note_removed(self, ref: Ref) -> None: ...


class Reconciler:
    """Use `serving` once, when stock was taken. `registered` is the model root whose files may be removed."""

    def __init__(
        self,
        stock: Stock,
        store: ControlReader,
        removals: Removals,
        engines: EngineSlots,
        telemetry: SupervisorTelemetry,
        optimizer: Optimizer,
        *,
        registered: Path,
        wants_every_gpu: bool,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._stock = stock
        self._removals = removals
        self._engines = engines
        self._telemetry = telemetry
        self._optimizer = optimizer
        self._registered = registered
        self._wants_every_gpu = wants_every_gpu
        self._clock = clock
        self._follower = StateFollower(store, self._use_state)
        self._state: State | None = None
        self._links: dict[str, EngineLink] = {}
        self._devices: set[str] = set()
        self._usage = Usage()
        self._pardoned: set[tuple[str, Ref, int]] = set()
        self._checks: dict[Ref, asyncio.Task[None]] = {}
        self._news = asyncio.Event()
        self._publisher = Publisher(self._want)

    @contextlib.asynccontextmanager
    async def serving(self, listener: socket.socket) -> AsyncIterator[None]:
        """Reconcile inside the block, and tell http processes of it on the socket."""
        loop = asyncio.get_running_loop()
        listening = await loop.create_unix_server(self._publisher.connection, sock=listener)
        for slot in self._engines.slots:
            self._connect(slot)
        async with listening, self._follower:
            tasks = [
                asyncio.create_task(self._run()),
                asyncio.create_task(_again_and_again("looking through the model roots", self._look)),
                asyncio.create_task(_again_and_again("removing the files of deleted versions", self._remove)),
                asyncio.create_task(self._optimizer.run(self._news.set)),
            ]
            try:
                yield
            finally:
                await stop_tasks(*tasks)
                for link in self._links.values():
                    await link.stop()

    def _connect(self, slot: str) -> None:
        link = self._links[slot] = EngineLink(slot, self._engines.path(slot), self._news.set, self._clock)
        link.start()

    def _use_state(self, state: State) -> None:
        self._state = state
        self._news.set()

    def _want(self, ref: Ref) -> None:
        if self._stock.catalog.version(ref) is None:
            return
        self._usage.want(ref, self._clock())
        self._news.set()

    async def _run(self) -> None:
        while True:
            await self._news.wait()
            self._news.clear()
            try:
                self._start_engines()
                self._reconcile()
            except Exception:  # whatever one report holds, the next is looked at
                log.exception("reconciling failed")

    def _start_engines(self) -> None:
        """One for each GPU, once the first engine tells which there are."""
        reports = [link.report for link in self._links.values() if link.report is not None]
        self._devices.update(report.device.name for report in reports)
        peers = dict.fromkeys(peer for report in reports for peer in report.device.peers)
        for device in peers if self._wants_every_gpu else ():
            if device not in self._devices:
                self._connect(self._engines.start(device))
                self._devices.add(device)

    def _reconcile(self) -> None:
        if self._state is None:
            return
        now = self._clock()
        state, catalog = self._state, self._stock.catalog.without(self._state.deleted).with_aliases(self._state.aliases)
        identities = {version.ref: version.identity for version in catalog.versions()}
        engines = [link.facts(identities, now) for link in self._links.values()]
        reports = [(link.report, link.heard) for link in self._links.values() if link.report is not None]
        self._usage.learn(reports, identities, now)
        for ref, wish in state.wishes.items():
            if wish.loading is Loading.UNLOADED:
                for link in self._links.values():
                    link.failures.forget(ref)
        facts = Facts(
            now=now,
            scan=self._stock.number,
            catalog=catalog,
            wishes=state.wishes,
            engines=engines,
            asked=self._usage.asked,
            owed=self._usage.owed,
            loaded_at=self._usage.loaded_at,
            measured=self._usage.measured,
            trials=dict(self._optimizer.progress),
        )
        decision = decide(facts)
        for command in decision.commands:
            self._execute(command, decision, catalog)
        self._publisher.publish(decision.view)
        wanted = {claim.identity for claim in decision.claims.values()}
        self._optimizer.update(
            [] if decision.commands or facts.loads_anything else self._untried(decision, catalog), wanted
        )

    def _untried(self, decision: Decision, catalog: Catalog) -> list[Untried]:
        """What answers, and may do so faster."""
        return [
            Untried(
                ref,
                standing.identity,
                catalog.models[ref.model].versions[ref.version].folder,
                standing.execution,
                self._usage.asked.get(ref, 0.0),
                decision.claims[ref].is_aliased,
            )
            for ref, standing in decision.view.versions.items()
            if standing.state is VersionState.LOADED and standing.execution is not None and standing.execution.pending
        ]

    def _execute(self, command: Load | Unload, decision: Decision, catalog: Catalog) -> None:
        link, ref = self._links[command.slot], command.ref
        if isinstance(command, Unload):
            if ref in decision.evicted:
                log.info("a version makes room for others", extra={"ref": str(ref), "slot": link.slot})
                self._telemetry.evictions.labels(ref.model, ref.version).inc()
            if ref in decision.replaced:
                self._check_before_unload(link, decision.claims[ref], catalog)
            else:
                link.unload(ref)
            return
        claim = decision.claims[ref]
        # Once, when it is asked to be loaded anew: what comes to light after that counts again.
        pardon = claim.generation > 0 and (link.slot, ref, claim.generation) not in self._pardoned
        if pardon:
            self._pardoned.add((link.slot, ref, claim.generation))
            self._engines.pardon(link.slot, ref)
        link.load(claim, catalog.models[ref.model].versions[ref.version].folder, pardon=pardon)

    def _check_before_unload(self, link: EngineLink, claim: Claim, catalog: Catalog) -> None:
        """What answers goes only once its successor's files are seen to be whole."""
        folder = catalog.models[claim.ref.model].versions[claim.ref.version].folder

        async def check() -> None:
            try:
                await in_daemon_thread(lambda: _verify(folder, claim.identity))
            except (BrokenCheckpoint, OSError) as error:
                link.failures.note(claim, str(error), self._clock())
            else:
                link.unload(claim.ref)
            finally:
                self._checks.pop(claim.ref, None)
                self._news.set()

        if claim.ref not in self._checks:
            self._checks[claim.ref] = asyncio.create_task(check())

    async def _look(self) -> None:
        """Look through the model roots once."""
        self._news.set()  # the clock alone may change a decision
        if await self._stock.look():
            self._news.set()

    async def _remove(self) -> None:
        """Remove the files of deleted versions that no engine has any more."""
        for ref in self._state.to_remove if self._state is not None else ():
            if any(ref in link.held for link in self._links.values()):
                continue
            try:
                await asyncio.to_thread(remove_files, self._registered, ref)
                await self._removals.note_removed(ref)
            except (ServoloopError, OSError) as error:
                what = {"ref": str(ref), "reason": str(error)}
                log.error("a deleted version's files can't be removed yet", extra=what)
            else:
                log.info("a deleted version's files are removed", extra={"ref": str(ref)})


def _verify(folder: Path, identity: str) -> None:
    """Raises BrokenCheckpoint or OSError."""
    files = CheckpointFiles(folder)
    if files.identity != identity:
        raise BrokenCheckpoint(CHANGED)
    files.verify()


async def _again_and_again(what: str, work: Callable[[], Awaitable[None]]) -> None:
    """Do it every second. Where it fails, the log says what did, and it is tried again."""
    while True:
        await asyncio.sleep(_SCAN_SECONDS)
        try:
            await work()
        except (ServoloopError, OSError) as error:
            log.error("what is done every second can't be done yet", extra={"what": what, "reason": str(error)})
        except Exception:
            log.exception("what is done every second failed", extra={"what": what})
