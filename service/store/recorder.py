"""The recorder process, the only one that writes: `python -m service.store.recorder --listen-fd N --slot recorder`.

Started by the supervisor.
"""

import asyncio
import logging
import socket
import sys
from pathlib import Path

import uvloop
from prometheus_client import CollectorRegistry

from service.errors import Misconfigured, StoreUnavailable
from service.process.answering import answer
from service.process.child import child_parser, start_child
from service.process.lifetime import EXIT_MISCONFIGURED, settle
from service.settings import Settings
from service.store.alias_file import import_alias_file
from service.store.base import Stores
from service.store.databases import Location, Part
from service.store.migrate import migrate
from service.store.server import RecorderServer, Retention
from service.store.sql_control import SqlControl
from service.store.sql_erasure import SqlErasure
from service.store.sql_feedback import SqlFeedback
from service.store.sql_jobs import SqlJobs
from service.store.sql_predictions import SqlPredictions
from service.store.sql_reports import SqlReports
from service.telemetry.instruments import RecorderTelemetry
from service.watch.heartbeat import beating

log = logging.getLogger(__name__)

_SECONDS_AN_HOUR, _SECONDS_A_DAY = 3_600.0, 86_400.0


def main() -> None:
    """Serve the inherited listening socket until told to stop, or until the parent is gone."""
    parser = child_parser()
    parser.add_argument("--heartbeat", type=Path, help="where it shows the supervisor that its event loop works")
    arguments, settings = start_child(parser)
    uvloop.run(_serve(socket.socket(fileno=arguments.listen_fd), settings, arguments.heartbeat))


async def _serve(listener: socket.socket, settings: Settings, heartbeat: Path | None) -> None:
    retention = Retention(
        keep=settings.retention_days * _SECONDS_A_DAY,
        pending=settings.pending_feedback_hours * _SECONDS_AN_HOUR,
        keep_inputs=settings.input_retention_days * _SECONDS_A_DAY,
        max_input_bytes=settings.max_input_bytes,
    )
    async with beating(heartbeat):
        try:
            stores = await asyncio.to_thread(_open, settings)
        except Misconfigured as error:
            log.error("the recorder can't start", extra={"reason": str(error)})
            sys.exit(EXIT_MISCONFIGURED)
        except StoreUnavailable as error:
            # The supervisor starts another one in a moment.
            log.error("the store can't be reached", extra={"reason": error.reason})
            sys.exit(1)
        server = RecorderServer(stores, RecorderTelemetry(CollectorRegistry()), retention)
        settle()
        await answer(listener, server)


def _open(settings: Settings) -> Stores:
    """The store, brought up to date, however long that takes. Raises Misconfigured and StoreUnavailable."""
    location = Location.of(settings)
    migrate(location)
    controlling = location.writer(Part.CONTROL)
    control = SqlControl(controlling)
    import_alias_file(settings.data_dir / "aliases.json", control)
    engine = location.writer(Part.PREDICTIONS)
    feedback = SqlFeedback(engine)
    predictions = SqlPredictions(engine, feedback)
    erasure = SqlErasure(engine, predictions.counts)
    return Stores(control, predictions, feedback, erasure, SqlReports(engine), SqlJobs(controlling))


if __name__ == "__main__":
    main()
