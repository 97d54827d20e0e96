"""`servoloop serve`: starts the processes, keeps them running, has versions loaded, and stops all in order."""

import asyncio
import contextlib
import fcntl
import logging
import os
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO, TypeVar

from prometheus_client import CollectorRegistry

from service.errors import Forced, Misconfigured, StoreUnavailable
from service.link import Link
from service.listening import listen
from service.processes import EXIT_MISCONFIGURED
from service.registry.catalog import Catalog
from service.registry.scanner import scan
from service.settings import Settings
from service.store.control_client import ControlClient
from service.telemetry import MULTIPROCESS_DIR, SupervisorTelemetry, forget_gauges, use_slot
from service.watch.heartbeat import SUPERVISOR, Heartbeat
from service.watch.keeper import EngineKeeper, cause_of
from service.wire import Frame, Kind

T = TypeVar("T")

log = logging.getLogger(__name__)

_FIRST_DELAY, _LONGEST_DELAY = 0.1, 5.0
_SETTLED_SECONDS = 10.0
_RUNTIME_PREFIX = "servoloop-"
# A stop takes at most unready_seconds + drain_seconds + twice this.
_KILL_AFTER_SECONDS = 5.0
# How an engine's libraries use memory and cores, unless the operator's environment says otherwise.
_ENGINE_DEFAULTS = {
    # glibc gives memory back after every large tensor and asks for it again with the next. Keeping it takes a batch of
    # 32 of the shipped CNN from 34 to 23 ms (medians of three alternating runs, two cores of an AMD EPYC, 2026-11-22).
    "MALLOC_TRIM_THRESHOLD_": str(1 << 30),
    "MALLOC_MMAP_THRESHOLD_": str(1 << 25),
    # Threads that spin while they wait for one another starve, on a busy machine, the very thread they wait for:
    # a small batch then takes tens of milliseconds instead of one.
    "OMP_WAIT_POLICY": "PASSIVE",
}


@dataclass(frozen=True)
class Child:
    """How a process is started. It inherits `sockets`, and reads its parent's death from stdin."""

    slot: str
    module: str
    arguments: tuple[str, ...]
    sockets: tuple[socket.socket, ...]
    environment: dict[str, str]
    stop_seconds: float
    """How long it may take to stop before it is killed."""
    keeper: EngineKeeper | None = None


class Supervisor:
    """Runs until told to stop. Use `run` once."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._stopping = asyncio.Event()
        self._told_to_stop = 0
        self._running: set[asyncio.subprocess.Process] = set()
        self._misconfigured: str | None = None

    async def run(self, *, on_ready: Callable[[str, Catalog], None]) -> None:
        """Serve until SIGTERM or SIGINT; `on_ready(url, catalog)` is called once, when predictions are answered.

        A second signal ends everything at once. Raises Misconfigured when the service can't start as it is
        configured, and Forced when it was ended before all was finished.
        """
        with contextlib.ExitStack() as stack:
            listeners = stack.enter_context(listen(self._settings))
            lock = stack.enter_context(_data_dir(self._settings.data_dir))
            folder = stack.enter_context(_runtime_dir(lock))
            telemetry = _telemetry(folder)
            for name in Settings.unknown_variables():
                log.warning("a variable looks like a setting and is none", extra={"variable": name})
            engine_path, recorder_path = folder / "engine-0.sock", folder / "recorder.sock"
            engine_socket = stack.enter_context(_listen_unix(engine_path))
            recorder_socket = stack.enter_context(_listen_unix(recorder_path))
            loop = asyncio.get_running_loop()
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.add_signal_handler(number, self._stop)

            environment = {**os.environ, **self._settings.environment(), MULTIPROCESS_DIR: os.environ[MULTIPROCESS_DIR]}
            keeper = EngineKeeper(
                folder / "engine-0", self._settings.max_batch_rows, self._settings.watchdog_seconds, telemetry
            )
            stack.callback(asyncio.create_task(_beat(folder / SUPERVISOR)).cancel)
            engine_environment = {**_ENGINE_DEFAULTS, **environment}
            # Once the http processes have ended nobody waits for an engine, so it has nothing to finish.
            engine = Child(
                "engine-0", "service.engine", (), (engine_socket,), engine_environment, _KILL_AFTER_SECONDS, keeper
            )
            drain_seconds = self._settings.drain_seconds
            recorder = Child("recorder", "service.store.recorder", (), (recorder_socket,), environment, drain_seconds)
            http_arguments = ("--engine-socket", str(engine_path), "--recorder-socket", str(recorder_path))
            http_seconds = self._settings.unready_seconds + drain_seconds + _KILL_AFTER_SECONDS
            https = [
                Child(f"http-{number}", "service.runtime", http_arguments, (listener,), environment, http_seconds)
                for number, listener in enumerate(listeners)
            ]
            # The engine first, because torch takes longest to import; what it shall load is found meanwhile.
            # The http processes end first: what they still have to log finds its recorder.
            async with self._keep([engine, recorder], telemetry):
                catalog = await self._unless_stopped(take_stock(self._settings, ControlClient(recorder_path)))
                if catalog is not None:
                    loader = asyncio.create_task(keep_loaded(engine_path, catalog))
                    async with self._keep(https, telemetry):
                        host, port = listeners[0].getsockname()[:2]
                        url = f"http://{f'[{host}]' if ':' in host else host}:{port}"
                        announcing = asyncio.create_task(self._announce(url, catalog, on_ready))
                        await self._stopping.wait()
                        announcing.cancel()
                    loader.cancel()
        if self._misconfigured is not None:
            raise Misconfigured(self._misconfigured)
        if self._told_to_stop > 1:
            raise Forced

    def _stop(self) -> None:
        """The first time in order, the second time at once."""
        self._stopping.set()
        self._told_to_stop += 1
        if self._told_to_stop > 1:
            for process in self._running:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()

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

        async with httpx.AsyncClient(trust_env=False, timeout=5) as client:
            while True:
                with contextlib.suppress(httpx.TransportError):
                    if (await client.get(f"{url}/readyz")).status_code == 200:
                        break
                await asyncio.sleep(0.05)
        on_ready(url, catalog)

    @contextlib.asynccontextmanager
    async def _keep(self, children: Sequence[Child], telemetry: SupervisorTelemetry) -> AsyncIterator[None]:
        """Keep processes running inside the block; at its end, stop them all together and wait."""
        keepers = [asyncio.create_task(self._restart(child, telemetry)) for child in children]
        try:
            yield
        finally:
            for keeper in keepers:
                keeper.cancel()
            for keeper in keepers:
                with contextlib.suppress(asyncio.CancelledError):
                    await keeper

    async def _restart(self, child: Child, telemetry: SupervisorTelemetry) -> None:
        delay = _FIRST_DELAY
        while True:
            started = time.monotonic()
            code = await _run_child(child, self._running)
            forget_gauges(child.slot)
            if code == EXIT_MISCONFIGURED:
                self._misconfigured = f"{child.slot} can't start as it is configured; its message is above"
                self._stopping.set()
                return
            if time.monotonic() - started > _SETTLED_SECONDS:
                delay = _FIRST_DELAY
            cause = cause_of(code) if child.keeper is None else child.keeper.end(code)
            if not cause.is_own_fault:
                delay = _FIRST_DELAY  # waiting keeps a process from failing too often; this one did not fail
            log.error("a process ended and is started again", extra={"slot": child.slot, "code": code, "in": delay})
            telemetry.restarts.labels(child.slot, str(cause)).inc()
            await asyncio.sleep(delay)
            delay = min(2 * delay, _LONGEST_DELAY)


async def _run_child(child: Child, running: set[asyncio.subprocess.Process]) -> int:
    """Run a process to its end, in `running` meanwhile. Cancelled, ask it to stop, wait, and in the end kill it."""
    numbers = [str(sock.fileno()) for sock in child.sockets]
    watched = child.keeper.begin() if child.keeper is not None else []
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-P",  # a folder named `models` where the operator stands must not be taken for ours
        *("-m", child.module, "--slot", child.slot, "--listen-fd", *numbers, *child.arguments, *watched),
        stdin=asyncio.subprocess.PIPE,
        pass_fds=[sock.fileno() for sock in child.sockets],
        env=child.environment,
        start_new_session=True,  # a Ctrl-C is for the supervisor, which stops the others in order
    )
    running.add(process)
    watching = asyncio.create_task(child.keeper.watch(process)) if child.keeper is not None else None
    try:
        return await process.wait()
    except asyncio.CancelledError:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        try:
            await asyncio.wait_for(process.wait(), child.stop_seconds)
        except TimeoutError:
            log.error("a process did not stop in time and is killed", extra={"slot": child.slot})
            process.kill()
            await process.wait()
        raise
    finally:
        running.discard(process)
        if watching is not None:
            watching.cancel()


async def _beat(path: Path) -> None:
    """Show other processes that this one's event loop works, until cancelled."""
    with Heartbeat.create(path) as heartbeat:
        while True:
            heartbeat.beat(time.monotonic())
            await asyncio.sleep(1.0)


async def take_stock(settings: Settings, control: ControlClient) -> Catalog:
    """Scan the model roots, and have the first version of each new model become its champion.

    Waits for the store as long as it takes: without it nobody knows which versions answer.
    """
    catalog = await asyncio.to_thread(scan, settings.model_roots, {})
    for entry in catalog.broken:
        what = {"ref": f"{entry.model}/{entry.version}", "reason": entry.reason}
        log.error("a checkpoint is broken and not served", extra=what)
    found = {
        name: {number: version.manifest.digest for number, version in model.versions.items()}
        for name, model in catalog.models.items()
    }
    while True:
        try:
            return catalog.with_aliases(await control.crown_new_models(found))
        except StoreUnavailable as error:
            log.error("waiting for the store", extra={"reason": error.reason})
            await asyncio.sleep(_FIRST_DELAY)


async def keep_loaded(path: Path, catalog: Catalog) -> None:
    """Have the engine load every version, champions first, each time anew when it was restarted; until cancelled."""
    champions = [model.champion for model in catalog.models.values() if model.champion is not None]
    others = [version for version in catalog.versions() if version not in champions]
    loop = asyncio.get_running_loop()
    while True:
        with contextlib.suppress(OSError):
            # What became of a load is in the engine's status and log; nothing is done about it here.
            _, link = await loop.create_unix_connection(lambda: Link(lambda _: None), str(path))
            for number, version in enumerate([*champions, *others]):
                meta = {"model": version.ref.model, "version": version.ref.version, "folder": str(version.folder)}
                link.send(Frame(Kind.LOAD, number, meta=meta))
            try:
                await link.lost
            finally:
                link.close()
        await asyncio.sleep(_FIRST_DELAY)


@contextlib.contextmanager
def _listen_unix(path: Path) -> Iterator[socket.socket]:
    """The supervisor owns the engine's socket: while an engine is replaced, connections wait in its backlog."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(path))
        listener.listen(128)
        yield listener


@contextlib.contextmanager
def _data_dir(path: Path) -> Iterator[TextIO]:
    """Make the data directory, and let only one service use it; gives its lock, a file whose text is ours to use."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        lock = (path / "lock").open("a+")
    except OSError as error:
        raise Misconfigured(f"the data directory {path} can't be used: {error.strerror}") from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise Misconfigured(
                f"another service uses the data directory {path}; give this one its own with SERVOLOOP_DATA_DIR"
            ) from None
        yield lock


@contextlib.contextmanager
def _runtime_dir(lock: TextIO) -> Iterator[Path]:
    """A folder for sockets and metrics that only this user may enter.

    `lock` remembers its name: a supervisor that was killed could not remove it, so the next one does.
    """
    lock.seek(0)
    left_behind = Path(lock.read().strip())
    if left_behind.name.startswith(_RUNTIME_PREFIX) and left_behind.parent == Path(tempfile.gettempdir()):
        shutil.rmtree(left_behind, ignore_errors=True)
    path = Path(tempfile.mkdtemp(prefix=_RUNTIME_PREFIX))
    lock.truncate(0)
    lock.write(str(path))
    lock.flush()
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def _telemetry(folder: Path) -> SupervisorTelemetry:
    metrics = folder / "metrics"
    metrics.mkdir()
    os.environ[MULTIPROCESS_DIR] = str(metrics)
    use_slot("supervisor")
    return SupervisorTelemetry(CollectorRegistry())
