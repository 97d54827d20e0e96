"""What a prediction's record costs in CPU time: the recorder that writes it, and the http process that sends it.

`python -m benchmarks.recording [--postgres URL] [--rate N ...] [--records N] [--json FILE]`. A real recorder process,
fed over the real wire by the log of an http process, with as many one-row requests a second as `--rate` says. Records
go to SQLite in a temporary folder and, where a URL is given, to PostgreSQL too, whose server is not measured.
"""

import argparse
import asyncio
import contextlib
import json
import os
import platform
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

import uvloop
from prometheus_client import CollectorRegistry
from rich.console import Console
from rich.table import Table
from uuid_utils import uuid7

from benchmarks.application import NoLog
from service.process.logs import configure_logging
from service.store.base import Record
from service.store.prediction_log import PredictionLog
from service.telemetry.instruments import MULTIPROCESS_DIR, HttpTelemetry, use_slot

# So often a batch is answered, and each of its rows is recorded by itself.
_BATCH_SECONDS = 0.01
_WARM_UP_RECORDS = 500
_SLOT = "http-0"


class Log(Protocol):
    """What takes records."""

    def record(self, records: Iterable[Record]) -> None: ...


@dataclass(frozen=True)
class Cost:
    """CPU microseconds a record. `http`: without what making the records takes, which is part of every request."""

    store: str
    records: int
    records_per_second: int
    recorder: float
    http: float


@contextlib.contextmanager
def recorder(folder: Path, url: str | None) -> Iterator[tuple[int, Path]]:
    """A recorder process on a store of its own; its id and where it listens."""
    path = folder / "recorder.sock"
    environment = {**os.environ, "SERVOLOOP_DATA_DIR": str(folder), "PYTHONPATH": str(Path(__file__).parent.parent)}
    environment |= {"SERVOLOOP_LOG_LEVEL": "warning"} | ({"SERVOLOOP_STORE_URL": url} if url else {})
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        command = [sys.executable, "-P", "-m", "service.store.recorder", "--slot", "recorder"]
        process = subprocess.Popen(
            [*command, "--listen-fd", str(listener.fileno())],
            stdin=subprocess.PIPE,
            pass_fds=[listener.fileno()],
            env=environment,
        )
    try:
        yield process.pid, path
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


def cpu_seconds(pid: int) -> float:
    """What a process has used so far, with its threads."""
    # The process's CPU clock (clock_getcpuclockid(3)): /proc/<pid>/stat counts in ticks of 10 ms.
    return time.clock_gettime((~pid << 3) | 2)


async def feed(log: Log, count: int, rate: int) -> float:
    """Record `count` predictions, so many a second; what of this process's CPU time it took."""
    batch = max(1, round(rate * _BATCH_SECONDS))
    loop = asyncio.get_running_loop()
    began, due = time.process_time(), loop.time()
    for _ in range(0, count, batch):
        for _ in range(batch):
            log.record([_record()])
        due += batch / rate
        await asyncio.sleep(due - loop.time())
    return time.process_time() - began


def _record() -> Record:
    return Record(
        id=str(uuid7()),
        model="fashion",
        version=1,
        digest="d" * 64,
        outputs={"label": "Ankle boot", "index": 9, "probability": 0.987654321},
        latency=0.00123456789,
        principal="anonymous",
        request_id="01890a5d-ac96-774b-bcce-b302099a8057",
        tags={},
    )


async def measure(store: str, url: str | None, count: int, rate: int) -> Cost:
    """One store at one rate."""
    with tempfile.TemporaryDirectory(prefix="sl-") as home, recorder(Path(home), url) as (pid, path):
        async with PredictionLog(path, HttpTelemetry(CollectorRegistry())) as log:
            await feed(log, _WARM_UP_RECORDS, rate)
            while len(log._queue):
                await asyncio.sleep(0.05)
            before = cpu_seconds(pid)
            sent = await feed(log, count, rate)
            while len(log._queue):
                await asyncio.sleep(0.05)
            took = cpu_seconds(pid) - before
        made = await feed(NoLog(), count // 4, rate) * 4
    return Cost(store, count, rate, round(took * 1e6 / count, 1), round((sent - made) * 1e6 / count, 1))


async def everything(stores: dict[str, str | None], count: int, rates: list[int]) -> list[Cost]:
    """All costs."""
    return [await measure(name, url, count, rate) for name, url in stores.items() for rate in rates]


def main() -> None:
    """Measure and print; with --json also keep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--postgres", metavar="URL", help="a database to write to; a test's, for its records stay there"
    )
    parser.add_argument("--rate", type=int, nargs="+", default=[1_000, 4_000], help="records a second")
    parser.add_argument("--records", type=int, default=10_000)
    parser.add_argument("--json", type=Path, help="write the figures to this file too")
    arguments = parser.parse_args()
    stores = {"sqlite": None} | ({"postgres": arguments.postgres} if arguments.postgres else {})
    with tempfile.TemporaryDirectory(prefix="sl-") as metrics:
        os.environ[MULTIPROCESS_DIR] = metrics  # as the supervisor has it
        use_slot(_SLOT)
        configure_logging("warning", "json", slot=_SLOT)
        costs = uvloop.run(everything(stores, arguments.records, arguments.rate))
    table = Table("store", "records", "records/s", "recorder CPU us a record", "http CPU us a record")
    for cost in costs:
        table.add_row(*map(str, asdict(cost).values()))
    Console().print(table)
    if arguments.json:
        machine = {"machine": platform.processor() or platform.machine(), "cores": os.cpu_count()}
        kept = {"date": datetime.now(UTC).isoformat(timespec="seconds"), **machine, "load": os.getloadavg()}
        arguments.json.write_text(json.dumps({**kept, "figures": [asdict(cost) for cost in costs]}, indent=2) + "\n")


if __name__ == "__main__":
    main()
