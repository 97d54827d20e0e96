"""The composition root of an http process, the one place that names its concrete parts.

`python -m service.runtime --listen-fd N --folder PATH --slot http-0`, started by the supervisor.
"""

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from fastapi import FastAPI
from prometheus_client import CollectorRegistry

from service.api.app import Application, create_app
from service.api.buffers import BodyBudget
from service.api.deps import FeedbackParts, Services, Terms
from service.api.draining import Draining, DrainPolicy
from service.api.server import Companion, HttpServer
from service.domain import Ref
from service.errors import Misconfigured, StoreUnavailable
from service.learning.intake import Intake
from service.learning.items import Listener
from service.learning.loop_client import LoopClient
from service.process.child import child_parser, start_child
from service.process.folders import RuntimeFolder
from service.process.lifetime import EXIT_MISCONFIGURED, can_stop, parent_gone, settle
from service.registry.fleet import EngineInfo
from service.registry.scanner import Scanner
from service.serving.admission import PendingBounds
from service.serving.capture import Capture, CapturePolicy, Sampler
from service.serving.computing import Engines
from service.serving.engine_client import EngineClient
from service.serving.engine_pool import EnginePool
from service.serving.fleet_client import FleetClient
from service.serving.following import VersionFollower
from service.serving.mirroring import Mirror
from service.serving.pipeline import Limits, Pipeline
from service.serving.result_cache import ResultCache
from service.serving.router import Router
from service.serving.single_flight import SingleFlight
from service.serving.trials import Trials
from service.settings import Settings
from service.store.base import State
from service.store.control_client import ControlClient
from service.store.databases import Location, Part
from service.store.feedback_client import FeedbackClient
from service.store.following import StateFollower
from service.store.prediction_log import PredictionLog
from service.store.sql_control import SqlControl
from service.store.sql_feedback import SqlFeedback
from service.store.sql_jobs import SqlJobs
from service.store.sql_predictions import SqlPredictions
from service.store.sql_reports import SqlReports
from service.telemetry.instruments import HttpTelemetry
from service.watch.heartbeat import Heartbeat

_TIMES_WATCHDOG = 3

log = logging.getLogger(__name__)


def main() -> None:
    """Serve the inherited listening socket until told to stop, or until the parent is gone."""
    parser = child_parser()
    parser.add_argument("--folder", type=Path, required=True, help="where it finds the other processes")
    parser.add_argument("--grpc-address", help="where it serves gRPC too")
    arguments, settings = start_child(parser)
    draining = Draining()
    try:
        app = compose(settings, RuntimeFolder(arguments.folder), draining)
    except Misconfigured as error:
        log.error("the http process can't start", extra={"reason": str(error)})
        sys.exit(EXIT_MISCONFIGURED)
    except StoreUnavailable as error:
        # The supervisor starts another one in a moment.
        log.error("the aliases can't be read", extra={"reason": error.reason})
        sys.exit(1)
    companions = [_grpc_server(arguments.grpc_address, app, settings)] if arguments.grpc_address else []
    server = HttpServer(app, draining, DrainPolicy(settings.unready_seconds, settings.drain_seconds), companions)
    signal.signal(signal.SIGTERM, server.handle_exit)  # as uvicorn does itself, but only in a moment
    can_stop()
    settle()
    try:
        server.run(sockets=[socket.socket(fileno=arguments.listen_fd)])
    except Misconfigured as error:
        log.error("the http process can't start", extra={"reason": str(error)})
        sys.exit(EXIT_MISCONFIGURED)


def _grpc_server(address: str, app: Application, settings: Settings) -> Companion:
    # What its core writes to stderr by itself is no line of our log.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    # Here, because nothing of gRPC need be installed where it is not served.
    from service.grpc_api.server import GrpcServer

    return GrpcServer(address, app.state.services, _limits(settings), log_all=settings.access_log)


def compose(settings: Settings, folder: RuntimeFolder, draining: Draining) -> Application:
    """The app with real parts; connections to other processes are made when its lifespan starts.

    Raises Misconfigured, or StoreUnavailable where the aliases can't be read.
    """
    telemetry = HttpTelemetry(CollectorRegistry())
    location = Location.of(settings)
    controlling = location.reader(Part.CONTROL)
    control = SqlControl(controlling)
    log_reader = location.reader(Part.PREDICTIONS)
    predictions = SqlPredictions(log_reader)
    state = control.state()
    scanner = Scanner(settings.model_roots)
    router = Router(scanner.scan())

    def use_state(state: State) -> None:
        router.use_state(state)
        telemetry.show_rollouts(state.rollouts.values())

    use_state(state)
    changes = ControlClient(folder.recorder_socket)
    follower = StateFollower(control, use_state, known=state)
    fleet = FleetClient(folder.supervisor_socket)
    versions = VersionFollower(scanner, fleet, router)
    prediction_log = PredictionLog(folder.recorder_socket, telemetry)
    feedback = FeedbackClient(folder.recorder_socket)
    evaluation = LoopClient(folder.loop_socket)
    intake = Intake(Listener(settings.feedback_trust), feedback, telemetry.refused_feedback.inc)
    max_rows, max_bytes = 2 * settings.max_queued_rows, 2 * settings.max_queued_bytes

    def connect(engine: EngineInfo, tell: Callable[[], None]) -> EngineClient:
        return EngineClient(
            Path(engine.socket),
            telemetry,
            max_pending_rows=max_rows,
            max_pending_bytes=max_bytes,
            stale_seconds=settings.watchdog_seconds,
            tell=tell,
        )

    engines = EnginePool(connect, fleet, PendingBounds(max_rows, max_bytes))
    supervisor = Heartbeat.open(folder.supervisor_beat)
    threads = ThreadPoolExecutor(settings.decode_threads, thread_name_prefix="decode")
    computing: Engines = engines
    caches_answers = settings.single_flight == "on" and settings.result_cache_rows > 0
    if settings.single_flight == "on":
        cache = ResultCache(settings.result_cache_rows, settings.result_cache_bytes) if caches_answers else None
        computing = SingleFlight(engines, fleet, telemetry, cache)
    share = settings.capture_rows_per_second / settings.num_http_processes
    capture = Capture(Sampler(CapturePolicy(settings.capture, share)))
    mirror = Mirror(computing, prediction_log, telemetry, threads, is_draining=lambda: draining.begun)
    trials = Trials(engines.is_ready, mirror, telemetry)
    pipeline = Pipeline(router, computing, prediction_log, capture, trials, telemetry, threads, _limits(settings))

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        watch = asyncio.create_task(_stop_with_parent())
        async with fleet, engines, versions, prediction_log, mirror, feedback, evaluation, follower:
            yield
        watch.cancel()
        supervisor.close()
        threads.shutdown()

    def is_supervised() -> bool:
        # Patience: where the process that looks after the others is held up, ending them all helps nobody.
        return time.monotonic() - supervisor.last < _TIMES_WATCHDOG * settings.watchdog_seconds

    def is_removable(ref: Ref) -> bool:
        version = router.catalog.version(ref)
        if version is not None:
            return version.folder.is_relative_to(settings.registered_models.resolve())
        others = [root for root in settings.model_roots if root != settings.registered_models]
        return not any((root / ref.model / str(ref.version)).exists() for root in others)

    services = Services(
        pipeline,
        lambda: router.catalog,
        router.choose,
        Terms(settings.max_rows_per_request, settings.max_queue_delay_seconds, caches_answers),
        engines,
        telemetry.registry,
        settings.max_body_bytes,
        follower,
        control,
        predictions,
        FeedbackParts(intake, SqlFeedback(log_reader), evaluation, SqlReports(log_reader)),
        BodyBudget(max(settings.max_buffered_bytes, settings.max_body_bytes)),
        fleet,
        changes,
        is_removable,
        draining,
        is_supervised,
        jobs=SqlJobs(controlling),
    )
    # Without `does_jobs`: the loop process takes no jobs yet, and one that was asked for would wait for ever.
    return create_app(services, lifespan=lifespan, access_log=settings.access_log)


def _limits(settings: Settings) -> Limits:
    return Limits(
        settings.max_rows_per_request,
        settings.default_timeout_seconds,
        settings.max_timeout_seconds,
        settings.max_waiting_decodes,
        2 * settings.max_queued_rows,
    )


async def _stop_with_parent() -> None:
    await parent_gone()
    log.error("the supervisor is gone, so this process ends too")
    os._exit(1)  # nobody is left who would wait for an orderly end, or start another process


if __name__ == "__main__":
    main()
