"""Child processes: how they are started, started again after they ended, and stopped."""

import asyncio
import contextlib
import logging
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, Self

from service.process.command import module_command
from service.process.lifetime import EXIT_MISCONFIGURED
from service.telemetry.instruments import SupervisorTelemetry, forget_gauges
from service.watch.evidence import Cause
from service.watch.keeper import cause_of

log = logging.getLogger(__name__)

_FIRST_DELAY, _LONGEST_DELAY = 0.1, 5.0
_SETTLED_SECONDS = 10.0
_WATCH_AGAIN_SECONDS = 1.0


class Keeper(Protocol):
    """Looks after the processes of a slot, one after the other."""

    def begin(self) -> list[str]:
        """Prepare for the next process; the arguments that it is to be started with."""
        ...

    async def watch(self, process: asyncio.subprocess.Process) -> None:
        """Kill the process once it has to be replaced; until cancelled."""
        ...

    def end(self, code: int) -> Cause:
        """Take in how the process ended; its cause."""
        ...


class Unwatched:
    """The keeper of those that need none."""

    def begin(self) -> list[str]:
        return []

    async def watch(self, process: asyncio.subprocess.Process) -> None:
        pass

    def end(self, code: int) -> Cause:
        return cause_of(code)


UNWATCHED = Unwatched()


@dataclass(frozen=True)
class Child:
    """How a process is started. It inherits `sockets`, and its stdin is a socket at whose end its parent is gone."""

    slot: str
    module: str
    arguments: tuple[str, ...]
    sockets: tuple[socket.socket, ...]
    environment: dict[str, str]
    stop_seconds: float
    """How long it may take to stop before it is killed."""
    keeper: Keeper = UNWATCHED
    stops_in_order: bool = False
    """Whether it calls `process.lifetime.can_stop` once it can end in order; before that it is not asked to."""


class ProcessTree:
    """Use as an async context manager: at its end all children are asked to stop, together, and waited for.

    `give_up` is called with a slot whose process can't start as it is configured: it is not tried again.
    """

    def __init__(self, telemetry: SupervisorTelemetry, give_up: Callable[[str], None]) -> None:
        self._telemetry = telemetry
        self._give_up = give_up
        self._is_ending = False
        self._restarting: list[asyncio.Task[None]] = []
        self._running: set[asyncio.subprocess.Process] = set()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._is_ending = True
        for task in self._restarting:
            task.cancel()
        # Whatever became of one of them, the others are waited for too.
        for error in await asyncio.gather(*self._restarting, return_exceptions=True):
            if isinstance(error, Exception):
                log.error("a process could not be stopped in order", exc_info=error)

    def keep(self, child: Child) -> None:
        """Start a process, and start it again whenever it ends."""
        self._restarting.append(asyncio.create_task(self._restart(child)))

    def kill(self) -> None:
        """End everything at once."""
        for process in self._running:
            with contextlib.suppress(ProcessLookupError):
                process.kill()

    async def _restart(self, child: Child) -> None:
        delay = _FIRST_DELAY
        while True:
            started = time.monotonic()
            try:
                code = await self._run(child)
                if code == EXIT_MISCONFIGURED:
                    self._give_up(child.slot)
                    return
                if time.monotonic() - started > _SETTLED_SECONDS:
                    delay = _FIRST_DELAY
                cause = child.keeper.end(code)
                if not cause.is_own_fault:
                    delay = _FIRST_DELAY  # waiting keeps a process from failing too often; this one did not fail
                facts = {"slot": child.slot, "cause": str(cause), "code": code, "in": delay}
                log.error("a process ended and is started again", extra=facts)
                self._telemetry.restarts.labels(child.slot, str(cause)).inc()
                forget_gauges(child.slot)
            except Exception:
                if self._is_ending:
                    raise
                # A machine that can't start a process now may do so later: the slot is not given up.
                log.exception("a process could not be started or seen off", extra={"slot": child.slot, "in": delay})
            await asyncio.sleep(delay)
            delay = min(2 * delay, _LONGEST_DELAY)

    async def _run(self, child: Child) -> int:
        """Run a process to its end. Cancelled, ask it to stop, wait, and in the end kill it."""
        ours, theirs = socket.socketpair()
        with ours:
            with theirs:
                process = await _start(child, theirs)
            self._running.add(process)
            watching = asyncio.create_task(_watch(child.keeper, process))
            try:
                return await process.wait()
            except asyncio.CancelledError:
                try:
                    await asyncio.wait_for(_stop(process, ours if child.stops_in_order else None), child.stop_seconds)
                except TimeoutError:
                    log.error("a process did not stop in time and is killed", extra={"slot": child.slot})
                    process.kill()
                    await process.wait()
                raise
            finally:
                self._running.discard(process)
                watching.cancel()


async def _start(child: Child, stdin: socket.socket) -> asyncio.subprocess.Process:
    numbers = [str(sock.fileno()) for sock in child.sockets]
    watched = child.keeper.begin()
    return await asyncio.create_subprocess_exec(
        *module_command(child.module, "--slot", child.slot, "--listen-fd", *numbers, *child.arguments, *watched),
        stdin=stdin.fileno(),
        pass_fds=[sock.fileno() for sock in child.sockets],
        env=child.environment,
        start_new_session=True,  # a Ctrl-C is for the supervisor, which stops the others in order
    )


async def _stop(process: asyncio.subprocess.Process, says: socket.socket | None) -> None:
    """Ask a process to stop, where it says when it can only then, and wait for its end.

    One that is ended while it starts leaves connections that the kernel made for it to be reset.
    """
    if says is not None:
        says.setblocking(False)
        await asyncio.get_running_loop().sock_recv(says, 1)  # nothing, where it has ended meanwhile
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
    await process.wait()


async def _watch(keeper: Keeper, process: asyncio.subprocess.Process) -> None:
    """Have a process watched until cancelled, or until it was killed: where that fails, it is begun again."""
    while True:
        try:
            await keeper.watch(process)
            return
        except Exception:  # unwatched, a stuck process would be kept for ever
            log.exception("watching a process failed and is begun again", extra={"pid": process.pid})
        await asyncio.sleep(_WATCH_AGAIN_SECONDS)
