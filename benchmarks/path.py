"""What a row costs the http process in CPU time: decode, route, send, receive, encode, with everything on by default.

`python -m benchmarks.path [--json FILE] [--rounds N] [payload ...]`. The real application runs in this process. A
process of its own stands in for the engine and the recorder, and answers at once over the real wire.

- `asgi`: the application alone, called as a server calls it, by 16 callers at a time.
- `http`: the whole process with its HTTP server, asked by wrk over 64 connections; and beside it the same server
  around an application that does nothing.
- of the first payload also: what each default costs, by switching it off.
"""

import argparse
import asyncio
import contextlib
import io
import json
import os
import platform
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, ExitStack
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from unittest import mock
from uuid import UUID

import numpy as np
import uvloop
from prometheus_client import CollectorRegistry
from rich.console import Console
from rich.table import Table
from starlette.types import ASGIApp, Receive, Scope, Send

from benchmarks.throughput import Payload, measure, payloads
from models.manifest import Manifest
from service import telemetry as instruments
from service.api.app import Application, create_app
from service.api.buffers import BodyBudget
from service.api.connection import Draining
from service.api.deps import Services
from service.api.server import DrainPolicy, HttpServer
from service.domain import Ref
from service.inference import Answered, asked_in, result_frames
from service.link import Link
from service.processes import configure_logging, settle
from service.registry.catalog import Catalog, Model
from service.registry.scanner import scan
from service.serving.engine_client import EngineClient
from service.serving.pipeline import Limits, Pipeline
from service.serving.router import Router
from service.store.base import Record
from service.store.prediction_log import PredictionLog
from service.telemetry import MULTIPROCESS_DIR, HttpTelemetry, use_slot
from service.wire import Frame, Kind

CHECKPOINTS = Path(__file__).parent.parent / "models" / "checkpoints"
PIXELS = "pixels"
SHAPE = (3, 32, 32)
_CALLERS = 16
_CALLS = 2_000
_CONNECTIONS = 64
_SECONDS = 2
_SLOT = "http-0"


@dataclass(frozen=True)
class Cost:
    """CPU microseconds a row: the median of all rounds, and the least and the greatest."""

    payload: str
    how: str
    without: str
    us_a_row: float
    least: float
    greatest: float
    requests_per_second: float | None = None


def rows() -> dict[str, Payload]:
    """What is sent: a 12 KB row as binary and as JSON, and the shipped models' kinds of input."""
    values = np.random.default_rng(0).random(SHAPE, np.float32)
    file = io.BytesIO()
    np.save(file, values)
    # As many digits as make it 29 KB; most clients send more.
    numbers = np.round(values.astype(np.float64), 7).tolist()
    document = json.dumps({"instances": [numbers]}, separators=(",", ":"))
    shipped = {(one.model, one.content_type): one for one in payloads()}
    return {
        "npy": Payload(PIXELS, "application/x-npy", file.getvalue()),
        "json": Payload(PIXELS, "application/json", document.encode()),
        "text": shipped["sentiment-lstm", "text/plain"],
        "columns": shipped["house-price", "application/json"],
        "png": shipped["fashion", "image/png"],
        "grey": shipped["fashion", "application/json"],
    }


def catalog() -> Catalog:
    """The shipped models, and one that takes 3 x 32 x 32 numbers."""
    found = scan([CHECKPOINTS], {})
    like = found.models["fashion"].versions[1]
    said = like.manifest.model_dump(mode="json")
    said |= {"model": PIXELS, "input": {"kind": "tensor", "shape": list(SHAPE)}, "preprocess": []}
    pixels = replace(like, ref=Ref(PIXELS, 1), manifest=Manifest.model_validate(said))
    models = {**found.models, PIXELS: Model(PIXELS, {1: pixels}, {})}
    return Catalog(models).with_aliases({name: {"champion": min(model.versions)} for name, model in models.items()})


class Peers:
    """The process that stands in for engine and recorder: answers all that one read brings in one write."""

    def __init__(self, found: Catalog) -> None:
        self._status = Frame(Kind.STATUS, meta={"ready": [str(one.ref) for one in found.versions()], "failed": {}})
        self._widths = {version.ref.model: version.manifest.num_outputs or 1 for version in found.versions()}
        self._links: set[Link] = set()

    async def run(self, engine: Path, recorder: Path) -> None:
        loop = asyncio.get_running_loop()
        await loop.create_unix_server(self._engine, str(engine))
        await loop.create_unix_server(self._recorder, str(recorder))
        print("listening", flush=True)
        while os.getppid() != 1:
            await asyncio.sleep(0.5)
            for link in self._links:
                link.send(self._status)

    def _engine(self) -> Link:
        def receive(frame: Frame) -> None:
            if frame.kind is Kind.INFER:
                asking, requests = asked_in(frame)
                width = self._widths[asking.ref.model]
                answers = [
                    Answered(one.request_id, np.zeros((len(one.tensors), width), np.float32), {}, 0.001, 0.002)
                    for one in requests
                ]
                for result in result_frames(answers):
                    link.send(result)

        def opened() -> None:
            self._links.add(link)
            link.send(self._status)

        link = Link(receive, opened=opened, closed=lambda: self._links.discard(link))
        return link

    def _recorder(self) -> Link:
        def receive(frame: Frame) -> None:
            link.send(Frame(Kind.RECORDED, frame.request_id, meta={"refused": []}))

        link = Link(receive)
        return link


class NoLog:
    def record(self, records: Iterable[Record]) -> None:
        """Forgets them."""


@contextlib.asynccontextmanager
async def application(folder: Path, found: Catalog, *, logs: bool = True) -> AsyncIterator[Application]:
    """The application, connected to the process that stands in."""
    measures = HttpTelemetry(CollectorRegistry())
    router = Router(found)
    log = PredictionLog(folder / "recorder", measures)
    engine = EngineClient(folder / "engine", measures, max_pending_rows=10_000)
    async with AsyncExitStack() as stack:
        threads = stack.enter_context(ThreadPoolExecutor(2))
        await stack.enter_async_context(log)
        await stack.enter_async_context(engine)
        limits = Limits(max_rows=256, default_timeout=10, max_timeout=60)
        pipeline = Pipeline(router, engine, log if logs else NoLog(), measures, threads, limits)
        unused: Any = None
        services = Services(
            pipeline=pipeline,
            router=router,
            engines=unused,
            registry=measures.registry,
            max_body_bytes=64 << 20,
            aliases=unused,
            predictions=unused,
            bodies=BodyBudget(1 << 30),
            fleet=unused,
            changes=unused,
            wishes=dict,
            is_removable=lambda _: False,
        )
        while not engine.status.ready:
            await asyncio.sleep(0.01)
        yield create_app(services)


async def call(app: Application, payload: Payload, count: int) -> None:
    """Ask so often, one after another."""
    path = f"/v1/models/{payload.model}/predict"
    headers = [
        (b"host", b"127.0.0.1:8000"),
        (b"content-type", payload.content_type.encode()),
        (b"content-length", b"%d" % len(payload.body)),
    ]
    forever = asyncio.Event()
    for _ in range(count):
        scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "server": ("127.0.0.1", 8000),
            "client": ("127.0.0.1", 40000),
            "scheme": "http",
            "root_path": "",
            "method": "POST",
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "headers": headers,
            "state": {},
        }
        messages: list[Any] = [{"type": "http.request", "body": payload.body, "more_body": False}]
        sent: list[MutableMapping[str, Any]] = []

        async def receive(messages: list[Any] = messages) -> Any:
            if not messages:
                await forever.wait()
            return messages.pop()

        async def send(message: MutableMapping[str, Any], sent: list[MutableMapping[str, Any]] = sent) -> None:
            sent.append(message)

        await app(scope, receive, send)
        if sent[0]["status"] != 200:
            raise SystemExit(f"{payload.model}: {sent[1]['body']!r}")


async def _round(app: Application, payload: Payload, calls: int) -> float:
    began = time.process_time()
    await asyncio.gather(*(call(app, payload, calls // _CALLERS) for _ in range(_CALLERS)))
    return (time.process_time() - began) * 1e6 / (calls // _CALLERS * _CALLERS)


async def in_process(app: Application, name: str, payload: Payload, rounds: int, without: str = "") -> Cost:
    """The application's cost, without a server."""
    await _round(app, payload, _CALLS // 4)  # warms up
    costs = [await _round(app, payload, _CALLS) for _ in range(rounds)]
    return Cost(name, "asgi", without, *_spread(costs))


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
    return Cost(name, "http", "", *_spread(costs), requests_per_second=round(statistics.median(rates), 1))


def _spread(costs: list[float]) -> tuple[float, float, float]:
    return round(statistics.median(costs), 1), round(min(costs), 1), round(max(costs), 1)


class _NoInstrument:
    """Stands for every instrument and every method of one."""

    def __call__(self, *_: Any, **__: Any) -> Any:
        return self

    __getattr__ = __call__


_ID = UUID("01890a5d-ac96-774b-bcce-b302099a8057")


@contextlib.contextmanager
def _without(what: str) -> Iterator[None]:
    """Switch a default off."""
    with ExitStack() as stack:

        def replaced(target: str, by: Any) -> None:
            stack.enter_context(mock.patch(target, by))

        match what:
            case "metrics":
                for kind in ("Counter", "Gauge", "Histogram", "TalliedHistogram", "Tally"):
                    replaced(f"{instruments.__name__}.{kind}", _NoInstrument())
            case "ids":
                replaced("service.serving.pipeline.uuid7", lambda: _ID)
                replaced("service.api.exchange.uuid7", lambda: _ID)
            case "validation":
                replaced(
                    "service.serving.codec.checked_rows", lambda rows, _, **__: rows.astype(np.float32, copy=False)
                )
        yield


DEFAULTS = ("log", "metrics", "ids", "validation")


async def everything(folder: Path, names: list[str], rounds: int, tell: Callable[[str], None]) -> list[Cost]:
    """All costs."""
    found, sent = catalog(), rows()
    costs = []
    async with application(folder, found) as app:
        settle()
        for name in names:
            tell(f"{name}, the application alone")
            costs.append(await in_process(app, name, sent[name], rounds))
            tell(f"{name}, under wrk")
            costs.append(await over_http(app, name, sent[name], rounds))
            idle = await over_http(nothing, name, sent[name], rounds)
            costs.append(replace(idle, how="http, no-op application"))
    name = names[0]
    # In turns, because the machine's speed changes meanwhile.
    turns: dict[str, list[float]] = {what: [] for what in ("", *DEFAULTS)}
    for _ in range(rounds):
        for what in turns:
            tell(f"{name} without {what or 'nothing'}")
            with _without(what):
                async with application(folder, found, logs=what != "log") as app:
                    turns[what].append((await in_process(app, name, sent[name], 1)).us_a_row)
    costs += [Cost(name, "asgi in turns", what, *_spread(turns[what])) for what in turns]
    return costs


def main() -> None:
    """Measure and print; with --json also keep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("payloads", nargs="*", help=f"of {', '.join(rows())}")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, help="write the figures to this file too")
    parser.add_argument("--peers", nargs=2, type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.peers:
        uvloop.run(Peers(catalog()).run(*arguments.peers))
        return
    console = Console()
    with tempfile.TemporaryDirectory(prefix="sl-") as home, console.status("measuring") as status:
        folder = Path(home)
        (folder / "metrics").mkdir()
        os.environ[MULTIPROCESS_DIR] = str(folder / "metrics")  # as the supervisor has it
        use_slot(_SLOT)
        configure_logging("warning", "json", slot=_SLOT)
        sockets = [str(folder / "engine"), str(folder / "recorder")]
        command = [sys.executable, "-P", "-m", "benchmarks.path", "--peers", *sockets]
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)}
        with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE) as peers:
            try:
                assert peers.stdout is not None
                peers.stdout.readline()
                names = arguments.payloads or list(rows())
                costs = uvloop.run(everything(folder, names, arguments.rounds, status.update))
            finally:
                peers.kill()
    table = Table("payload", "how", "without", "CPU us a row", "least", "greatest", "requests/s")
    for cost in costs:
        table.add_row(*("" if value is None else str(value) for value in asdict(cost).values()))
    console.print(table)
    if arguments.json:
        machine = {"machine": platform.processor() or platform.machine(), "cores": os.cpu_count()}
        kept = {"date": datetime.now(UTC).isoformat(timespec="seconds"), **machine}
        arguments.json.write_text(json.dumps({**kept, "figures": [asdict(cost) for cost in costs]}, indent=2) + "\n")


if __name__ == "__main__":
    main()
