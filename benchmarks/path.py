"""What a row costs the http process in CPU time: decode, route, send, receive, encode, with everything on by default.

`python -m benchmarks.path [--json FILE] [--rounds N] [payload ...]`. The real application runs in this process. A
process of its own stands in for the engine and the recorder, and answers at once over the real wire.

- `asgi`: the application alone, called as a server calls it, by 16 callers at a time.
- `http`: the whole process with its HTTP server, asked by wrk over 64 connections; and beside it the same server
  around an application that does nothing.
"""

import argparse
import asyncio
import json
import os
import platform
import socket
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import uvloop
from rich.console import Console
from rich.table import Table
from starlette.types import ASGIApp, Receive, Scope, Send

from benchmarks.application import Running, application, catalog, rows, standing_in
from benchmarks.throughput import Payload, measure
from service.api.draining import Draining, DrainPolicy
from service.api.server import HttpServer
from service.process.lifetime import settle

_CALLS = 2_000
_CONNECTIONS = 64
_SECONDS = 2


@dataclass(frozen=True)
class Cost:
    """CPU microseconds a row: the median of all rounds, and the least and the greatest."""

    payload: str
    how: str
    us_a_row: float
    least: float
    greatest: float
    requests_per_second: float | None = None


async def in_process(running: Running, name: str, payload: Payload, rounds: int) -> Cost:
    """The application's cost, without a server."""
    await running.cpu_us(payload, _CALLS // 4)  # warms up
    costs = [await running.cpu_us(payload, _CALLS) for _ in range(rounds)]
    return Cost(name, "asgi", *_spread(costs))


async def nothing(scope: Scope, receive: Receive, send: Send) -> None:
    """An application that reads the body and answers as much as ours does: what the server alone costs."""
    if scope["type"] != "http":
        return
    while (await receive())["more_body"]:
        pass
    headers = [(b"content-length", b"256"), (b"content-type", b"application/json")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": bytes(256)})


async def over_http(app: ASGIApp, name: str, payload: Payload, rounds: int) -> Cost:
    """The whole process's cost, under wrk."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    server = HttpServer(app, Draining(), DrainPolicy(0, 0))
    serving = asyncio.create_task(server._serve([listener]))  # serve() would take over the signals
    costs, rates = [], []
    try:
        await asyncio.to_thread(measure, url, payload, _CONNECTIONS, 1)
        for _ in range(rounds):
            before, began = server.server_state.total_requests, time.process_time()
            result = await asyncio.to_thread(measure, url, payload, _CONNECTIONS, _SECONDS)
            costs.append((time.process_time() - began) * 1e6 / (server.server_state.total_requests - before))
            rates.append(result.requests_per_second)
            if result.errors > _CONNECTIONS:
                raise SystemExit(f"{name}: wrk saw {result.errors} errors")
    finally:
        server.should_exit = True
        await serving
    return Cost(name, "http", *_spread(costs), requests_per_second=round(statistics.median(rates), 1))


def _spread(costs: list[float]) -> tuple[float, float, float]:
    return round(statistics.median(costs), 1), round(min(costs), 1), round(max(costs), 1)


async def everything(folder: Path, names: list[str], rounds: int, tell: Callable[[str], None]) -> list[Cost]:
    """All costs."""
    found, sent = catalog(), rows()
    costs = []
    async with application(folder, found) as running:
        settle()
        for name in names:
            tell(f"{name}, the application alone")
            costs.append(await in_process(running, name, sent[name], rounds))
            tell(f"{name}, under wrk")
            costs.append(await over_http(running.app, name, sent[name], rounds))
            idle = await over_http(nothing, name, sent[name], rounds)
            costs.append(replace(idle, how="http, no-op application"))
    return costs


def main() -> None:
    """Measure and print; with --json also keep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("payloads", nargs="*", help=f"of {', '.join(rows())}")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, help="write the figures to this file too")
    arguments = parser.parse_args()
    console = Console()
    with (
        tempfile.TemporaryDirectory(prefix="sl-") as home,
        console.status("measuring") as status,
        standing_in(Path(home)),
    ):
        names = arguments.payloads or list(rows())
        costs = uvloop.run(everything(Path(home), names, arguments.rounds, status.update))
    table = Table("payload", "how", "CPU us a row", "least", "greatest", "requests/s")
    for cost in costs:
        table.add_row(*("" if value is None else str(value) for value in asdict(cost).values()))
    console.print(table)
    if arguments.json:
        machine = {"machine": platform.processor() or platform.machine(), "cores": os.cpu_count()}
        kept = {"date": datetime.now(UTC).isoformat(timespec="seconds"), **machine}
        arguments.json.write_text(json.dumps({**kept, "figures": [asdict(cost) for cost in costs]}, indent=2) + "\n")


if __name__ == "__main__":
    main()
