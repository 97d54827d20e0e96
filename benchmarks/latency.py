"""Latencies that are promised: of refusals, of the prediction log, and of a model beside a busy one.

Starts services of its own on this machine. `python -m benchmarks.latency [refusals] [log] [neighbours] [--json FILE]`
"""

import argparse
import json
import os
import platform
import selectors
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.scraped import Difference, Snapshot
from benchmarks.throughput import Measured, Payload, measure, payloads
from tests.end_to_end.service import Homes, Service
from tests.faults import slow
from tests.faults.report import percentile

Figures = list[dict[str, Any]]

# What keeps a core busy for some 10 ms, through a queue that is full at once.
_SLOW_STEPS = 2_000
_SHORT_QUEUE = {"shipped_checkpoints": "", "max_queued_rows": 16, "max_batch_rows": 4, "engine_threads": 1}


@dataclass(frozen=True)
class Refusals:
    """Of bursts: `clients` send at the same instant. Milliseconds from sending to the last byte of a 503.

    The p50 and the slowest are of one burst, the median of all bursts; the p99 is of all refusals together.
    """

    clients: int
    bursts: int
    refused: int
    p50_ms: float
    p99_ms: float
    slowest_of_a_burst_ms: float


def refusals(homes: Homes, seconds: int) -> Figures:
    """Bursts against a slow model with a short queue, from a client that only sends and waits."""
    home = homes()
    slow.write(home / "data" / "models")
    figures = []
    with Service(home, **_SHORT_QUEUE) as service:
        service.wait_ready()
        request = slow.ask(_SLOW_STEPS)
        for clients in (25, 50, 100):
            with ExitStack() as stack:
                address = ("127.0.0.1", service.port)
                sockets = [stack.enter_context(socket.create_connection(address)) for _ in range(clients)]
                _burst(sockets, request)  # warms up
                bursts = [_burst(sockets, request) for _ in _for_seconds(seconds, pause=0.5)]
            everything = [one for burst in bursts for one in burst]
            figures.append(
                Refusals(
                    clients,
                    len(bursts),
                    len(everything),
                    _ms(percentile([percentile(burst, 0.5) for burst in bursts], 0.5)),
                    _ms(percentile(everything, 0.99)),
                    _ms(percentile([max(burst) for burst in bursts], 0.5)),
                )
            )
    return [asdict(one) for one in figures]


def _burst(sockets: list[socket.socket], request: bytes) -> list[float]:
    """Have every connection ask once, all together; the seconds of those that were refused."""
    answers = dict.fromkeys(sockets, b"")
    sent, refused = {}, []
    with selectors.DefaultSelector() as selector:
        for one in sockets:
            selector.register(one, selectors.EVENT_READ)
        for one in sockets:
            sent[one] = time.monotonic()
            one.sendall(request)
        while selector.get_map():
            for key, _ in selector.select():
                ready = key.fileobj
                assert isinstance(ready, socket.socket)
                answers[ready] += (received := ready.recv(1 << 16))
                if not received:
                    raise SystemExit("the service closed a connection")
                if answers[ready].endswith(b"}"):
                    if answers[ready].startswith(b"HTTP/1.1 503"):
                        refused.append(time.monotonic() - sent[ready])
                    selector.unregister(ready)
    return refused


@dataclass(frozen=True)
class LogLag:
    """From a prediction's answer to its being durable, for the oldest of each group that is sent to the recorder."""

    model: str
    rows: int
    connections: int
    requests_per_second: float
    records_per_second: float
    mean_ms: float
    over_50_ms_percent: float
    over_100_ms_percent: float
    dropped: int


def log_lag(homes: Homes, seconds: int) -> Figures:
    """Full load over 32 connections, with one and with many predictions a request."""
    image = next(one for one in payloads() if one.content_type == "application/json")
    figures = []
    with Service(homes()) as service:
        service.wait_ready()
        for rows, payload in [(1, image), *((rows, _flats(rows)) for rows in (1, 4, 16))]:
            measure(service.url, payload, 32, seconds=2)  # warms up
            before = Snapshot(service.samples())
            measured = measure(service.url, payload, 32, seconds)
            time.sleep(1)  # until all is written
            lag = Difference(before, Snapshot(service.samples()))
            name = "servoloop_log_lag_seconds"
            figures.append(
                LogLag(
                    payload.model,
                    rows,
                    measured.connections,
                    measured.requests_per_second,
                    round(lag.value("servoloop_log_written_records_total") / seconds, 1),
                    lag.mean_ms(name),
                    lag.percent_over(name, 0.05),
                    lag.percent_over(name, 0.1),
                    int(lag.value("servoloop_log_dropped_records_total")),
                )
            )
    return [asdict(one) for one in figures]


def _flats(rows: int) -> Payload:
    instances = [{"columns": {"lotsize": 3000 + index}} for index in range(rows)]
    return Payload("house-price", "application/json", json.dumps({"instances": instances}).encode())


@dataclass(frozen=True)
class Neighbour:
    """How long a CNN's one client waits, and where, while `neighbour` is asked over `connections`.

    `queue_over_50_ms_percent` and `queue_over_100_ms_percent` are of the CNN's rows in the engine, and the
    neighbour's batches are those that they may have to wait for.
    """

    neighbour: str
    connections: int
    neighbour_requests_per_second: float
    neighbour_batch_mean_ms: float
    neighbour_batch_over_100_ms_percent: float
    p50_ms: float
    p99_ms: float
    queue_mean_ms: float
    queue_over_50_ms_percent: float
    queue_over_100_ms_percent: float


def neighbours(homes: Homes, seconds: int) -> Figures:
    """`fashion` alone, beside a model whose batches take next to nothing, and beside the Transformer."""
    image = next(one for one in payloads() if one.content_type == "application/json")
    review = next(one for one in payloads() if one.model == "sentiment")
    with Service(homes()) as service:
        service.wait_ready()
        for payload in (image, review, _flats(1)):
            measure(service.url, payload, 8, seconds=2)  # warms up
        figures = [_beside(service, image, None, 0, seconds)]
        for connections in (8, 64):
            figures += [_beside(service, image, busy, connections, seconds) for busy in (_flats(1), review)]
    return [asdict(one) for one in figures]


def _beside(service: Service, image: Payload, busy: Payload | None, connections: int, seconds: int) -> Neighbour:
    asked: list[Measured] = []

    def ask() -> None:
        assert busy is not None
        asked.append(measure(service.url, busy, connections, seconds + 2))

    thread = threading.Thread(target=ask)
    if busy is not None:
        thread.start()
        time.sleep(1)
    before = Snapshot(service.samples())
    measured = measure(service.url, image, 1, seconds)
    took = Difference(before, Snapshot(service.samples()))
    if busy is not None:
        thread.join()
    name = busy.model if busy is not None else ""
    queue = {"model": image.model, "stage": "queue"}
    stage, batch = "servoloop_stage_duration_seconds", "servoloop_batch_duration_seconds"
    return Neighbour(
        name or "none",
        connections,
        asked[0].requests_per_second if asked else 0.0,
        took.mean_ms(batch, model=name),
        took.percent_over(batch, 0.1, model=name),
        measured.p50_ms,
        measured.p99_ms,
        took.mean_ms(stage, **queue),
        took.percent_over(stage, 0.05, **queue),
        took.percent_over(stage, 0.1, **queue),
    )


def _for_seconds(seconds: float, *, pause: float) -> Iterator[None]:
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        time.sleep(pause)
        yield


def _ms(seconds: float) -> float:
    return round(1000 * seconds, 1)


PARTS: dict[str, Callable[[Homes, int], Figures]] = {"refusals": refusals, "log": log_lag, "neighbours": neighbours}


def main() -> None:
    """Measure and print; with --json also keep."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.latency", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"{', '.join(PARTS)}; all where none is named")
    parser.add_argument("--seconds", type=int, default=10, help="of each measurement")
    parser.add_argument("--json", type=Path, help="write the figures to this file too")
    arguments = parser.parse_args()
    if unknown := set(arguments.parts) - PARTS.keys():
        parser.error(f"there is no part {sorted(unknown)[0]!r}; there are: {', '.join(PARTS)}")
    console, kept, homes = Console(), {}, Homes()
    try:
        for part in arguments.parts or PARTS:
            with console.status(part):
                figures = kept[part] = PARTS[part](homes, arguments.seconds)
            table = Table(title=part, show_header=False)
            for name in figures[0]:
                table.add_row(name.replace("_", " "), *(str(row[name]) for row in figures))
            console.print(table)
    finally:
        homes.remove()
    if arguments.json:
        machine = {"machine": platform.processor() or platform.machine(), "cores": os.cpu_count()}
        document = {"date": datetime.now(UTC).isoformat(timespec="seconds"), **machine, **kept}
        arguments.json.write_text(json.dumps(document, indent=2) + "\n")


if __name__ == "__main__":
    main()
