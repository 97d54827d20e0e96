"""The composition root of an http process, the one place that names its concrete parts.

`python -m service.runtime --listen-fd N --engine-socket PATH --slot http-0`, started by the supervisor.
"""

import argparse
import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from fastapi import FastAPI
from prometheus_client import CollectorRegistry

from service.api.app import create_app
from service.api.connection import Draining
from service.api.deps import Services
from service.api.server import DrainPolicy, HttpServer
from service.processes import configure_logging, parent_gone
from service.registry.aliases import AliasFile
from service.registry.catalog import scan
from service.serving.engine_client import EngineClient
from service.serving.pipeline import Limits, Pipeline
from service.serving.router import Router
from service.settings import Settings
from service.telemetry import HttpTelemetry, use_slot


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
    draining = Draining()
    app = compose(settings, arguments.engine_socket, draining)
    server = HttpServer(app, draining, DrainPolicy(settings.unready_seconds, settings.drain_seconds))
    server.run(sockets=[socket.socket(fileno=arguments.listen_fd)])


def compose(settings: Settings, engine_socket: Path, draining: Draining) -> FastAPI:
    """The app with real parts; nothing is connected before its lifespan starts."""
    telemetry = HttpTelemetry(CollectorRegistry())
    catalog = scan(settings.model_roots, AliasFile(settings.alias_file).read())
    engines = EngineClient(engine_socket, telemetry, max_pending_rows=2 * settings.max_queued_rows)
    threads = ThreadPoolExecutor(settings.decode_threads, thread_name_prefix="decode")
    limits = Limits(settings.max_rows_per_request, settings.default_timeout_seconds, settings.max_timeout_seconds)
    pipeline = Pipeline(Router(catalog), engines, telemetry, threads, limits)

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        watch = asyncio.create_task(_stop_with_parent())
        async with engines:
            yield
        watch.cancel()
        threads.shutdown()

    services = Services(pipeline, catalog, engines, telemetry.registry, settings.max_body_bytes, draining)
    return create_app(services, lifespan=lifespan, access_log=settings.access_log)


async def _stop_with_parent() -> None:
    await parent_gone()
    raise SystemExit("the supervisor is gone")


if __name__ == "__main__":
    main()
