"""The composition root of an http process, the one place that names its concrete parts.

`python -m service.runtime --listen-fd N --engine-socket PATH --slot http-0`, started by the supervisor.
"""

import argparse
import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import uvicorn
from fastapi import FastAPI
from prometheus_client import CollectorRegistry

from service.api.app import create_app
from service.api.deps import Services
from service.processes import configure_logging, parent_gone
from service.registry.aliases import AliasFile
from service.registry.catalog import scan
from service.serving.engine_client import EngineClient
from service.serving.pipeline import Limits, Pipeline
from service.serving.router import Router
from service.settings import Settings
from service.telemetry import HttpTelemetry, use_slot
from service.watch.heartbeat import SUPERVISOR, Heartbeat

_TIMES_WATCHDOG = 3


def main() -> None:
    """Serve the inherited listening socket until told to stop, or until the parent is gone."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--listen-fd", type=int, required=True)
    parser.add_argument("--engine-socket", type=Path, required=True)
    parser.add_argument("--slot", required=True)
    arguments = parser.parse_args()
    settings = Settings()
    configure_logging(settings.log_level, settings.log_format, slot=arguments.slot)
    use_slot(arguments.slot)
    app = compose(settings, arguments.engine_socket)
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=75,  # longer than load balancers keep theirs, or they send into a closing connection
        proxy_headers=False,  # nothing here depends on who a proxy says is asking
        timeout_graceful_shutdown=int(settings.drain_seconds),
    )
    uvicorn.Server(config).run(sockets=[socket.socket(fileno=arguments.listen_fd)])


def compose(settings: Settings, engine_socket: Path) -> FastAPI:
    """The app with real parts; nothing is connected before its lifespan starts."""
    telemetry = HttpTelemetry(CollectorRegistry())
    catalog = scan(settings.model_roots, AliasFile(settings.alias_file).read())
    engines = EngineClient(
        engine_socket,
        telemetry,
        max_pending_rows=2 * settings.max_queued_rows,
        max_pending_bytes=2 * settings.max_queued_bytes,
        stale_seconds=settings.watchdog_seconds,
    )
    supervisor = Heartbeat.open(engine_socket.parent / SUPERVISOR)
    threads = ThreadPoolExecutor(settings.decode_threads, thread_name_prefix="decode")
    limits = Limits(settings.max_rows_per_request, settings.default_timeout_seconds, settings.max_timeout_seconds)
    pipeline = Pipeline(Router(catalog), engines, telemetry, threads, limits)

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        watch = asyncio.create_task(_stop_with_parent())
        async with engines:
            yield
        watch.cancel()
        supervisor.close()
        threads.shutdown()

    def is_supervised() -> bool:
        # Patience: where the process that looks after the others is held up, ending them all helps nobody.
        return time.monotonic() - supervisor.last < _TIMES_WATCHDOG * settings.watchdog_seconds

    services = Services(
        pipeline, catalog, engines, telemetry.registry, settings.max_body_bytes, is_supervised=is_supervised
    )
    return create_app(services, lifespan=lifespan, access_log=settings.access_log)


async def _stop_with_parent() -> None:
    await parent_gone()
    raise SystemExit("the supervisor is gone")


if __name__ == "__main__":
    main()
