"""The loop process, which measures what is served: `python -m service.loop --listen-fd N --slot loop`.

Started by the supervisor. It only reads the store, and is never in the way of serving: it runs at a lower priority.
"""

import asyncio
import logging
import os
import socket
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import uvloop
from prometheus_client import CollectorRegistry

from service.errors import Misconfigured
from service.learning.drift import DriftPolicy
from service.learning.evaluator import Evaluator
from service.learning.measuring import Measuring, OneThread
from service.learning.monitor import Monitor
from service.learning.references import References
from service.learning.server import LoopServer
from service.process.answering import answer
from service.process.child import child_parser, start_child
from service.process.lifetime import EXIT_MISCONFIGURED, settle
from service.process.tasks import stop_tasks
from service.store.databases import Location, Part
from service.store.sql_control import SqlControl
from service.store.sql_predictions import SqlPredictions
from service.store.sql_truths import SqlTruths
from service.telemetry.quality import LoopTelemetry
from service.watch.heartbeat import beating

log = logging.getLogger(__name__)

_NICENESS = 10
_SECONDS_A_DAY = 86_400.0
_RESTART_SECONDS = 5.0


def main() -> None:
    """Serve the inherited listening socket until told to stop, or until the parent is gone."""
    parser = child_parser()
    parser.add_argument("--heartbeat", type=Path, help="where it shows the supervisor that its event loop works")
    arguments, settings = start_child(parser)
    os.nice(_NICENESS)
    try:
        location = Location.of(settings)
        engine, control = location.reader(Part.PREDICTIONS), location.reader(Part.CONTROL)
    except Misconfigured as error:
        log.error("the loop process can't start", extra={"reason": str(error)})
        sys.exit(EXIT_MISCONFIGURED)
    keep = settings.retention_days * _SECONDS_A_DAY
    predictions = SqlPredictions(engine)
    evaluator = Evaluator(SqlTruths(engine), predictions, SqlControl(control), keep)
    policy = DriftPolicy(
        settings.drift_rows, settings.drift_minimum_rows, settings.drift_psi, settings.drift_jensen_shannon
    )
    references = References(settings.model_roots, time.monotonic)
    monitor = Monitor(references, predictions, evaluator.model, policy, time.time)
    measuring = OneThread(Measuring(evaluator, monitor))
    server = LoopServer(measuring, LoopTelemetry(CollectorRegistry()))
    companions: list[Companion] = []
    settle()
    uvloop.run(_serve(socket.socket(fileno=arguments.listen_fd), server, companions, arguments.heartbeat))
    measuring.shutdown()


class Companion(Protocol):
    """Something that runs beside the answering of questions."""

    async def run(self) -> None:
        """Run until it is cancelled, and then end in order within seconds."""
        ...


async def _serve(
    listener: socket.socket, server: LoopServer, companions: Sequence[Companion], heartbeat: Path | None
) -> None:
    async with beating(heartbeat):
        tasks = [asyncio.create_task(_kept_running(one)) for one in companions]
        await answer(listener, server)
        await stop_tasks(*tasks)


async def _kept_running(companion: Companion) -> None:
    """Each by itself: what is wrong with one must not keep the others from their work."""
    while True:
        try:
            await companion.run()
        except Exception:  # whatever it is, the log says it, and it may pass
            log.exception("a part of the loop process failed", extra={"part": type(companion).__name__})
        await asyncio.sleep(_RESTART_SECONDS)


if __name__ == "__main__":
    main()
