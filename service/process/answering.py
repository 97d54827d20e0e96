"""A process that answers others on a socket which it inherited, until it is told to stop."""

import asyncio
import signal
import socket
from typing import Protocol

from service.process.lifetime import parent_gone
from service.process.tasks import stop_tasks


class Answering(Protocol):
    """What answers: `run` ends some time after `stop`."""

    def connection(self) -> asyncio.Protocol: ...

    async def run(self) -> None: ...

    def stop(self) -> None: ...


async def answer(listener: socket.socket, server: Answering) -> None:
    """Until SIGTERM, or until the parent is gone. A run that fails ends the process: the supervisor starts another."""
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, server.stop)
    loop.add_signal_handler(signal.SIGINT, lambda: None)  # the supervisor decides when to stop
    listening = await loop.create_unix_server(server.connection, sock=listener)
    orphaned = asyncio.create_task(parent_gone())
    orphaned.add_done_callback(lambda _: server.stop())
    async with listening:
        await server.run()
    await stop_tasks(orphaned)
