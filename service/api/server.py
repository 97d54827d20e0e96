"""uvicorn's server, with an end that loses no request: unready, answer what comes, stop listening, finish, close."""

import asyncio
import contextlib
import logging
import signal
import socket
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from types import FrameType
from typing import Protocol

import uvicorn
from starlette.types import ASGIApp

from service.api.app import Application
from service.api.connection import Connection, HttpServerState
from service.api.draining import Draining, DrainPolicy
from service.api.handshakes import begin_again, begin_no_more

log = logging.getLogger(__name__)

_POLL_SECONDS = 0.02
# A client that asks again and again sees `Connection: close` within this time; then idle connections are closed.
_IDLE_SECONDS = 0.5
_CANCEL_SECONDS = 1.0
# In which a client's last packet of a handshake arrives: its round trip, at most.
_HANDSHAKE_SECONDS = 0.1


class Companion(Protocol):
    """Another server of the same process: it begins and ends with this one, while what they use is open."""

    async def start(self) -> None:
        """Begin to serve. Raises Misconfigured."""
        ...

    async def drain(self, policy: DrainPolicy) -> None:
        """End, within the policy's seconds."""
        ...


class HttpServer(uvicorn.Server):
    """Serves `app` on listening sockets that it is handed. Use `run(sockets=...)`.

    The sockets belong to the supervisor too, so closing them here would not stop them from listening.
    """

    def __init__(
        self, app: ASGIApp, draining: Draining, policy: DrainPolicy, companions: Sequence[Companion] = ()
    ) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                http=Connection,
                ws="none",
                log_config=None,
                access_log=False,
                server_header=False,
                timeout_keep_alive=75,  # longer than load balancers keep theirs, or they send into a closing connection
                proxy_headers=False,  # nothing here depends on who a proxy says is asking
                reset_contextvars=True,  # or one that was sent behind another begins with that one's id in the log
            )
        )
        predict = app.predict if isinstance(app, Application) else None
        self.server_state: HttpServerState = HttpServerState(draining, predict)
        self._draining = draining
        self._policy = policy
        self._companions = companions
        self._loop: asyncio.AbstractEventLoop | None = None
        self._listeners: list[socket.socket] = []

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to serve."""
        self._loop = asyncio.get_running_loop()
        # uvicorn's servers close theirs before the last connections are taken, when there may be no descriptor left.
        self._listeners = [sock.dup() for sock in sockets or []]
        for listener in self._listeners:
            begin_again(listener)  # whoever listened before may have been told to stop, and this one follows
        await super().startup(sockets)
        if self.started:
            for companion in self._companions:
                await companion.start()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """On SIGTERM: unready from now on. The supervisor alone decides on SIGINT, and kills where force is needed."""
        if sig == signal.SIGTERM:
            self.should_exit = True
            if self._loop is None:
                self._draining.begun = True
            else:
                # Soon: requests that have arrived are answered before `shutdown` is begun. But not here, where an
                # answer may be half written: it would end its connection without having said so.
                self._loop.call_soon_threadsafe(self._begin_drain)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Drain, within the policy's seconds."""
        started = time.monotonic()
        self._begin_drain()
        others = [asyncio.create_task(companion.drain(self._policy)) for companion in self._companions]
        await asyncio.sleep(self._policy.unready)
        await self._stop_listening()
        ends = time.monotonic() + self._policy.finish
        await _until(lambda: not self.server_state.connections, min(ends, time.monotonic() + _IDLE_SECONDS))
        while not await _until(lambda: not self.server_state.connections, time.monotonic() + _POLL_SECONDS):
            for connection in [one for one in self._connections() if one.idle]:
                connection.shutdown()
            if time.monotonic() > ends:
                break
        await self._cancel_rest()
        await asyncio.gather(*others)
        log.info("drained", extra={"seconds": round(time.monotonic() - started, 3)})
        await self.lifespan.shutdown()
        self._loop = None  # a second signal may come when it is closed

    def _connections(self) -> list[Connection]:
        connections: Iterable[Connection] = self.server_state.connections  # type: ignore[assignment]
        return list(connections)

    def _begin_drain(self) -> None:
        """Be unready, and say so on all connections: together, or one is told the first and not the second."""
        self._draining.begun = True
        for connection in self._connections():
            connection.announce_close()

    async def _stop_listening(self) -> None:
        """Take the connections that have begun, and have the kernel refuse all further ones."""
        for listener in self._listeners:
            begin_no_more(listener)
        await asyncio.sleep(_HANDSHAKE_SECONDS)
        for server in self.servers:
            server.close()
        await asyncio.sleep(0)
        loop = asyncio.get_running_loop()
        for listener in self._listeners:
            for accepted in _waiting(listener):
                await loop.connect_accepted_socket(self._connection, accepted)
            with contextlib.suppress(OSError):  # it is no longer listening
                listener.shutdown(socket.SHUT_RDWR)
            listener.close()
        self._listeners = []

    def _connection(self) -> Connection:
        return Connection(config=self.config, server_state=self.server_state, app_state=self.lifespan.state)

    async def _cancel_rest(self) -> None:
        """Requests that outlast the time to finish are told so."""
        tasks = list(self.server_state.tasks)
        if not tasks:
            return
        log.error("requests were not finished in time", extra={"requests": len(tasks)})
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks, timeout=_CANCEL_SECONDS)


def _waiting(listener: socket.socket) -> Iterator[socket.socket]:
    """The connections that wait to be accepted. Those for which there is no descriptor are lost, and that is logged."""
    listener.setblocking(False)
    while True:
        try:
            accepted, _ = listener.accept()
        except BlockingIOError:
            return
        except OSError as error:
            log.error("connections that waited are not accepted", extra={"reason": str(error)})
            return
        accepted.setblocking(False)
        yield accepted


async def _until(condition: Callable[[], bool], ends: float) -> bool:
    """Wait until the condition holds or it is `ends` on the monotonic clock; whether it holds."""
    while not condition():
        if time.monotonic() >= ends:
            return False
        await asyncio.sleep(_POLL_SECONDS)
    return True
