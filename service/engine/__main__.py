"""An engine process: `python -m service.engine --listen-fd N --slot engine-0`, started by the supervisor."""

import asyncio
import logging
import os
import signal
import socket
import sys
from pathlib import Path

import torch
import uvloop
from prometheus_client import CollectorRegistry

from service.engine.core import Engine
from service.engine.devices import GPU_LANES, open_device, own_device
from service.engine.failures import DeviceLost
from service.engine.loading import Loader
from service.engine.optimized import Cache
from service.engine.plans import Chooser, Planner
from service.engine.replica import Replica
from service.engine.server import EngineServer
from service.engine.threads import ordinary_thread
from service.process.child import child_parser, start_child
from service.process.lifetime import EXIT_DEVICE_LOST, EXIT_MISCONFIGURED, parent_gone, settle
from service.process.tasks import stop_tasks
from service.settings import Settings
from service.telemetry.instruments import EngineTelemetry
from service.watch.blackbox import BlackBox
from service.watch.folder import WatchFolder
from service.watch.heartbeat import Heartbeat
from service.watch.history import History

log = logging.getLogger(__name__)


def main() -> None:
    """Serve the inherited listening socket until told to stop, or until the parent is gone."""
    parser = child_parser()
    parser.add_argument("--device", help="the device that it owns, where that is not the settings'")
    parser.add_argument("--watch", type=Path, required=True, help="where the supervisor looks after this process")
    arguments, settings = start_child(parser)
    listener, folder = socket.socket(fileno=arguments.listen_fd), WatchFolder(arguments.watch)
    try:
        with folder.heartbeat() as heartbeat, folder.black_box() as box:
            device = arguments.device or settings.device
            uvloop.run(_serve(listener, settings, device, heartbeat, box, folder.history()))
    except DeviceLost:
        # Without the usual farewell: what would be called then may wait for the device for ever.
        os._exit(EXIT_DEVICE_LOST)


async def _serve(
    listener: socket.socket, settings: Settings, name: str, heartbeat: Heartbeat, box: BlackBox, history: History
) -> None:
    try:
        device = open_device(name, settings.engine_threads)
    except ValueError as error:
        log.error("the engine can't start", extra={"reason": str(error)})
        sys.exit(EXIT_MISCONFIGURED)
    own = own_device(device, settings.model_memory_bytes)
    log.info("engine starts", extra={"device": own.name, "title": own.title, "budget": own.budget})
    telemetry = EngineTelemetry(CollectorRegistry())
    telemetry.memory_budget.labels(own.name).set(own.budget)
    # What is shown of more than was foreseen would have no place, and the last place is the loader's.
    *lanes, loaders = range(box.lanes)
    threads = min(torch.get_num_threads() if device.type == "cpu" else GPU_LANES, len(lanes))
    engine = Engine(settings.batch_policy, telemetry, show=box.write, threads=threads)
    planner = _planner(device, settings, settings.threads if device.type == "cpu" else threads)
    loader = Loader(
        engine,
        lambda wanted: Replica.load(wanted, device, planner),
        telemetry,
        device=own.name,
        show=lambda running: box.write(running, loaders),
    )
    server = EngineServer(engine, loader, history, heartbeat.beat, own, telemetry)
    loop = asyncio.get_running_loop()
    stopped = asyncio.Event()
    settle()

    def stop() -> None:
        box.stopping()
        stopped.set()

    loop.add_signal_handler(signal.SIGTERM, stop)
    loop.add_signal_handler(signal.SIGINT, lambda: None)  # the supervisor decides when to stop
    listening = await loop.create_unix_server(server.connection, sock=listener)
    tasks = [asyncio.create_task(work) for work in (engine.run(), server.beat(), parent_gone())]
    async with listening:
        await asyncio.wait([asyncio.create_task(stopped.wait()), *tasks], return_when=asyncio.FIRST_COMPLETED)
    # A task that failed ends the process with its traceback, and the supervisor starts another.
    await stop_tasks(*tasks)


def _planner(device: torch.device, settings: Settings, threads: int) -> Planner:
    """To be called in a thread of ordinary priority."""
    starter = ordinary_thread()
    return Chooser(
        Cache.of(settings.optimized, device),
        threads=threads,
        enabled=settings.optimize != "off",
        automatic=settings.optimize == "auto",
        elsewhere=lambda do: starter.submit(do).result(),
    )


if __name__ == "__main__":
    main()
