"""`servoloop serve`: starts the processes, keeps them running, has versions loaded, and stops all in order."""

import asyncio
import contextlib
import logging
import math
import os
import signal
import socket
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import TypeVar

from prometheus_client import CollectorRegistry

from service.errors import Forced, Misconfigured
from service.process.command import ENGINE_DEFAULTS
from service.process.folders import data_folder, listen_unix, runtime_folder
from service.reconciling.optimizing import Optimizer
from service.reconciling.reconciler import Reconciler
from service.reconciling.stock import Stock
from service.reconciling.trial_process import TrialProcess
from service.registry.catalog import Catalog
from service.registry.scanner import Scanner
from service.settings import Settings
from service.store.base import ControlReader
from service.store.control_client import ControlClient
from service.supervision.engine_processes import EngineProcesses
from service.supervision.listening import listen, reserve_grpc
from service.supervision.process_tree import Child, ProcessTree
from service.telemetry.instruments import MULTIPROCESS_DIR, SupervisorTelemetry, use_slot
from service.watch.beat_keeper import BeatKeeper
from service.watch.heartbeat import Heartbeat

T = TypeVar("T")

log = logging.getLogger(__name__)

# So long nobody wonders what a start waits for.
_SAY_AFTER_SECONDS = 5.0
# A stop takes at most unready_seconds + drain_seconds + this, and then what engines have for theirs.
_KILL_AFTER_SECONDS = 5.0
# It only reads, and has nothing to finish.
_LOOP_SECONDS = 5.0
# How many times as long as an engine the recorder and the loop process may be silent: no prediction waits for them, and
# to end one that is merely slow costs more than to wait. What they do with disks and databases is on threads and keeps
# nobody from beating; but the loop process has a low priority, and the beat lies in a file, whose disk may be the one
# that the recorder waits for. A question to the loop process waits 30 s: by default a successor can answer it yet.
_TIMES_WATCHDOG = 3


class Supervisor:
    """Runs until told to stop. Use `run` once."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._stopping = asyncio.Event()
        self._told_to_stop = 0
        self._trees: list[ProcessTree] = []
        self._misconfigured: str | None = None

    async def run(self, *, on_ready: Callable[[str, Catalog], None]) -> None:
        """Serve until SIGTERM or SIGINT; `on_ready(url, catalog)` is called once, when predictions are answered.

        A second signal ends everything at once. Raises Misconfigured when the service can't start as it is
        configured, and Forced when it was ended before all was finished.
        """
        settings = self._settings
        with contextlib.ExitStack() as stack:
            listeners = stack.enter_context(listen(settings))
            grpc_address = stack.enter_context(reserve_grpc(settings))
            lock = stack.enter_context(data_folder(settings.data_dir))
            folder = stack.enter_context(runtime_folder(lock))
            telemetry = _telemetry(folder.metrics)
            for name in Settings.unknown_variables():
                log.warning("a variable looks like a setting and is none", extra={"variable": name})
            recorder_socket = stack.enter_context(listen_unix(folder.recorder_socket))
            loop_socket = stack.enter_context(listen_unix(folder.loop_socket))
            own_socket = stack.enter_context(listen_unix(folder.supervisor_socket))
            loop = asyncio.get_running_loop()
            for signum in (signal.SIGTERM, signal.SIGINT):
                loop.add_signal_handler(signum, self._stop)

            environment = {**os.environ, **settings.environment(), MULTIPROCESS_DIR: os.environ[MULTIPROCESS_DIR]}
            computing = {**ENGINE_DEFAULTS, **environment}
            stack.callback(asyncio.create_task(_beat(folder.supervisor_beat)).cancel)
            back, front = self._tree(telemetry), self._tree(telemetry)
            engines = EngineProcesses(settings, folder, computing, back, telemetry, stack)
            trials = TrialProcess(settings.optimized, computing, settings.optimize_max_busy)
            drain_seconds = settings.drain_seconds
            silent_seconds = _TIMES_WATCHDOG * settings.watchdog_seconds
            keeper = BeatKeeper("recorder", folder.beat("recorder"), silent_seconds)
            recorder = Child(
                "recorder", "service.store.recorder", (), (recorder_socket,), environment, drain_seconds, keeper
            )
            keeper = BeatKeeper("loop", folder.beat("loop"), silent_seconds)
            measuring = Child("loop", "service.loop", (), (loop_socket,), environment, _LOOP_SECONDS, keeper)
            control = ControlClient(folder.recorder_socket)
            stock = Stock(Scanner(settings.model_roots), control)
            # The engines first, because torch takes longest to import; what they shall load is found meanwhile.
            # The http processes end first: what they still have to log finds its recorder.
            async with back:
                for device in settings.devices:
                    engines.start(device)
                back.keep(recorder)
                catalog = await self._unless_stopped(stock.take())
                if catalog is not None:
                    reconciler = Reconciler(
                        stock,
                        _reader(settings),
                        control,
                        engines,
                        telemetry,
                        Optimizer(trials, max_busy=settings.optimize_max_busy),
                        registered=settings.registered_models,
                        wants_every_gpu=settings.wants_every_gpu,
                    )
                    async with reconciler.serving(own_socket), front:
                        back.keep(measuring)
                        for number, listener in enumerate(listeners):
                            front.keep(_http(number, listener, grpc_address, folder.path, settings, environment))
                        announcing = asyncio.create_task(self._announce(_url(listeners[0]), catalog, on_ready))
                        await self._stopping.wait()
                        announcing.cancel()
        if self._misconfigured is not None:
            raise Misconfigured(self._misconfigured)
        if self._told_to_stop > 1:
            raise Forced

    def _tree(self, telemetry: SupervisorTelemetry) -> ProcessTree:
        tree = ProcessTree(telemetry, self._give_up)
        self._trees.append(tree)
        return tree

    def _give_up(self, slot: str) -> None:
        self._misconfigured = f"{slot} can't start as it is configured; its message is above"
        self._stopping.set()

    def _stop(self) -> None:
        """The first time in order, the second time at once."""
        self._stopping.set()
        self._told_to_stop += 1
        if self._told_to_stop > 1:
            for tree in self._trees:
                tree.kill()

    async def _unless_stopped(self, work: Coroutine[None, None, T]) -> T | None:
        """What `work` gives; None where the service is told to stop before that."""
        task, stopped = asyncio.create_task(work), asyncio.create_task(self._stopping.wait())
        done, _ = await asyncio.wait([task, stopped], return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()
        if task in done:
            return task.result()
        task.cancel()
        return None

    async def _announce(self, url: str, catalog: Catalog, on_ready: Callable[[str, Catalog], None]) -> None:
        import httpx  # here, because it is slow to import and nothing waits for it here

        say_at = time.monotonic() + _SAY_AFTER_SECONDS
        async with httpx.AsyncClient(trust_env=False, timeout=5) as client:
            while True:
                waits_for = "no http process answers yet"
                with contextlib.suppress(httpx.TransportError):
                    response = await client.get(f"{url}/readyz")
                    if response.status_code == 200:
                        break
                    waits_for = response.text
                if time.monotonic() >= say_at:
                    log.warning("the service is not ready yet", extra={"readyz": waits_for})
                    say_at = math.inf
                await asyncio.sleep(0.05)
        on_ready(url, catalog)


async def _beat(path: Path) -> None:
    """Show other processes that this one's event loop works, until cancelled."""
    with Heartbeat.create(path) as heartbeat:
        await heartbeat.keep_beating()


def _http(
    number: int,
    listener: socket.socket,
    grpc_address: str | None,
    folder: Path,
    settings: Settings,
    environment: dict[str, str],
) -> Child:
    seconds = settings.unready_seconds + settings.drain_seconds + _KILL_AFTER_SECONDS
    arguments: tuple[str, ...] = ("--folder", str(folder))
    if grpc_address is not None:
        arguments += ("--grpc-address", grpc_address)
    return Child(f"http-{number}", "service.runtime", arguments, (listener,), environment, seconds, stops_in_order=True)


def _url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


def _reader(settings: Settings) -> ControlReader:
    from service.store.databases import Location, Part  # here, because SQLAlchemy is slow to import
    from service.store.sql_control import SqlControl

    return SqlControl(Location.of(settings).reader(Part.CONTROL))


def _telemetry(metrics: Path) -> SupervisorTelemetry:
    metrics.mkdir()
    os.environ[MULTIPROCESS_DIR] = str(metrics)
    use_slot("supervisor")
    return SupervisorTelemetry(CollectorRegistry())
