"""The recorder process, the only one that writes: `python -m service.store.recorder --listen-fd N --slot recorder`.

Started by the supervisor.
"""

import logging
import socket
import sys

import uvloop
from prometheus_client import CollectorRegistry

from service.errors import Misconfigured, StoreUnavailable
from service.process.answering import answer
from service.process.child import child_parser, start_child
from service.process.lifetime import EXIT_MISCONFIGURED, settle
from service.store.alias_file import import_alias_file
from service.store.base import Stores
from service.store.databases import Location, Part
from service.store.migrate import migrate
from service.store.server import RecorderServer, Retention
from service.store.sql_control import SqlControl
from service.store.sql_erasure import SqlErasure
from service.store.sql_feedback import SqlFeedback
from service.store.sql_predictions import SqlPredictions
from service.store.sql_reports import SqlReports
from service.telemetry.instruments import RecorderTelemetry

log = logging.getLogger(__name__)

_SECONDS_AN_HOUR, _SECONDS_A_DAY = 3_600.0, 86_400.0


def main() -> None:
    """Serve the inherited listening socket until told to stop, or until the parent is gone."""
    arguments, settings = start_child(child_parser())
    try:
        location = Location.of(settings)
        migrate(location)
        control = SqlControl(location.writer(Part.CONTROL))
        import_alias_file(settings.data_dir / "aliases.json", control)
    except Misconfigured as error:
        log.error("the recorder can't start", extra={"reason": str(error)})
        sys.exit(EXIT_MISCONFIGURED)
    except StoreUnavailable as error:
        # The supervisor starts another one in a moment.
        log.error("the store can't be reached", extra={"reason": error.reason})
        sys.exit(1)
    engine = location.writer(Part.PREDICTIONS)
    feedback = SqlFeedback(engine)
    predictions = SqlPredictions(engine, feedback)
    telemetry = RecorderTelemetry(CollectorRegistry())
    retention = Retention(
        keep=settings.retention_days * _SECONDS_A_DAY,
        pending=settings.pending_feedback_hours * _SECONDS_AN_HOUR,
        keep_inputs=settings.input_retention_days * _SECONDS_A_DAY,
        max_input_bytes=settings.max_input_bytes,
    )
    erasure = SqlErasure(engine, predictions.counts)
    stores = Stores(control, predictions, feedback, erasure, SqlReports(engine))
    server = RecorderServer(stores, telemetry, retention)
    settle()
    uvloop.run(answer(socket.socket(fileno=arguments.listen_fd), server))


if __name__ == "__main__":
    main()
