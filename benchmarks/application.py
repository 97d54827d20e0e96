"""The real application in this process, beside a process that stands in for the engine and the recorder.

The stand-in answers at once, over the real wire; so what is measured here is the http process alone. Everything is on
that is on by default.
"""

import argparse
import asyncio
import contextlib
import io
import json
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterable, Iterator, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import uvloop
from prometheus_client import CollectorRegistry

from benchmarks.throughput import Payload, payloads
from models.manifest import Manifest
from service.api.app import Application, create_app
from service.api.buffers import BodyBudget
from service.api.deps import Services
from service.domain import Ref
from service.process.logs import configure_logging
from service.registry.catalog import Catalog, Model
from service.registry.scanner import scan
from service.serving.capture import Capture, CapturePolicy, Sampler
from service.serving.engine_client import EngineClient
from service.serving.mirroring import Mirror
from service.serving.pipeline import Limits, Pipeline
from service.serving.router import Router
from service.serving.trials import Trials
from service.store.base import Input, Record
from service.store.prediction_log import PredictionLog
from service.telemetry.instruments import MULTIPROCESS_DIR, HttpTelemetry, use_slot
from service.wire.frames import Frame, Kind
from service.wire.inference import InferResult, Outputs, requests_in, result_frames
from service.wire.link import Link
from service.wire.report import DeviceReport, Report

CHECKPOINTS = Path(__file__).parent.parent / "models" / "checkpoints"
PIXELS = "pixels"
SHAPE = (3, 32, 32)
_CALLERS = 16
_SLOT = "http-0"


def rows() -> dict[str, Payload]:
    """What is sent: a 12 KB row as binary and as JSON, in both protocols, and the shipped models' kinds of input."""
    values = np.random.default_rng(0).random(SHAPE, np.float32)
    file = io.BytesIO()
    np.save(file, values)
    # As many digits as make it 29 KB; most clients send more.
    numbers = np.round(values.astype(np.float64), 7).tolist()
    document = json.dumps({"instances": [numbers]}, separators=(",", ":"))
    tensor = {"name": "input", "shape": [1, *SHAPE], "datatype": "FP32"}
    flat = {"inputs": [{**tensor, "data": np.array(numbers).ravel().tolist()}]}
    described = {"inputs": [{**tensor, "parameters": {"binary_data_size": values.nbytes}}]}
    head = json.dumps({**described, "parameters": {"binary_data_output": True}}).encode()
    shipped = {(one.model, one.content_type): one for one in payloads()}
    return {
        "npy": Payload(PIXELS, "application/x-npy", file.getvalue()),
        "json": Payload(PIXELS, "application/json", document.encode()),
        "v2-binary": Payload(
            PIXELS, "application/octet-stream", head + values.tobytes(), is_v2=True, json_length=len(head)
        ),
        "v2-json": Payload(PIXELS, "application/json", json.dumps(flat, separators=(",", ":")).encode(), is_v2=True),
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


class StandIn:
    """The process that stands in for engine and recorder: answers all that one read brings in one write."""

    def __init__(self, found: Catalog) -> None:
        ready = {version.ref: 0.0 for version in found.versions()}
        self._status = Report(DeviceReport("cpu", 0, ()), {}, frozenset(), frozenset(), ready).to_frame()
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
                header, requests = requests_in(frame)
                width = self._widths[header.ref.model]
                results = []
                for request_id, _, tensors in requests:
                    outputs = Outputs(np.zeros((len(tensors), width), np.float32), {}, 0.001, 0.002)
                    results.append(InferResult(request_id, outputs))
                for result in result_frames(results):
                    link.send(result)

        def opened() -> None:
            self._links.add(link)
            link.send(self._status)

        link = Link(receive, opened=opened, closed=lambda: self._links.discard(link))
        return link

    def _recorder(self) -> Link:
        def receive(frame: Frame) -> None:
            link.send(Frame(Kind.RECORDED, frame.request_id, meta={"refused": 0}))

        link = Link(receive)
        return link


@contextlib.contextmanager
def standing_in(folder: Path) -> Iterator[None]:
    """Make this process an http process, and start the one that stands in; `folder` is where they meet."""
    (folder / "metrics").mkdir()
    os.environ[MULTIPROCESS_DIR] = str(folder / "metrics")  # as the supervisor has it
    use_slot(_SLOT)
    configure_logging("warning", "json", slot=_SLOT)
    command = [sys.executable, "-P", "-m", "benchmarks.application", str(folder / "engine"), str(folder / "recorder")]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            if not process.stdout.readline():
                raise RuntimeError(f"what stands in for engine and recorder ended with code {process.wait()}")
            yield
        finally:
            process.kill()


class NoLog:
    def record(self, records: Iterable[Record], inputs: Iterable[Input] = ()) -> None:
        """Forgets them."""


@dataclass(frozen=True)
class Running:
    """The application, and its prediction log, to which it may not write."""

    app: Application
    log: PredictionLog

    async def cpu_us(self, payload: Payload, calls: int) -> float:
        """CPU microseconds of this process for a call, of so many by 16 callers at a time, until all is recorded."""
        each = calls // _CALLERS
        began = time.process_time()
        await asyncio.gather(*(call(self.app, payload, each) for _ in range(_CALLERS)))
        await self.log._flush()  # what is left would be paid by whoever is measured next
        return (time.process_time() - began) * 1e6 / (each * _CALLERS)


@contextlib.asynccontextmanager
async def application(folder: Path, found: Catalog, *, logs: bool = True) -> AsyncIterator[Running]:
    """The application, connected to the process that stands in. Needs `standing_in`."""
    measures = HttpTelemetry(CollectorRegistry())
    router = Router(found)
    log = PredictionLog(folder / "recorder", measures)
    engine = EngineClient(folder / "engine", measures, max_pending_rows=10_000)
    async with AsyncExitStack() as stack:
        threads = stack.enter_context(ThreadPoolExecutor(2))
        await stack.enter_async_context(log)
        engine.start()
        stack.push_async_callback(engine.stop)
        limits = Limits(max_rows=256, default_timeout=10, max_timeout=60)
        capture = Capture(Sampler(CapturePolicy("sample" if logs else "none")))
        trials = Trials(lambda _: True, Mirror(engine, log, measures, threads), measures)
        pipeline = Pipeline(router, engine, log if logs else NoLog(), capture, trials, measures, threads, limits)
        unused: Any = None
        services = Services(
            pipeline=pipeline,
            catalog=lambda: router.catalog,
            choose=router.choose,
            terms=unused,
            engines=unused,
            registry=measures.registry,
            max_body_bytes=64 << 20,
            follower=unused,
            control=unused,
            predictions=unused,
            feedback=unused,
            bodies=BodyBudget(1 << 30),
            fleet=unused,
            changes=unused,
            is_removable=lambda _: False,
        )
        while not engine.status.ready:
            await asyncio.sleep(0.01)
        yield Running(create_app(services), log)


async def call(app: Application, payload: Payload, count: int) -> None:
    """Ask so often, one after another."""
    path = payload.path
    headers = [
        (b"host", b"127.0.0.1:8000"),
        *((name.lower().encode(), value.encode()) for name, value in payload.headers.items()),
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


def main() -> None:
    """Stand in for the engine and the recorder, until the process that asked for it ends."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.application", description=main.__doc__)
    parser.add_argument("sockets", nargs=2, type=Path)
    uvloop.run(StandIn(catalog()).run(*parser.parse_args().sockets))


if __name__ == "__main__":
    main()
