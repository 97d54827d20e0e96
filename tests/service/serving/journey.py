"""A pipeline with real parts, around an engine that answers from a function."""

from collections import deque
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from prometheus_client import CollectorRegistry

from models.preprocess import Tensors
from service.domain import ANONYMOUS, Address, Caller, Ref
from service.registry.scanner import scan
from service.serving.capture import Capture, CapturePolicy, Sampler
from service.serving.codec import parse
from service.serving.mirroring import Mirror, MirrorPolicy
from service.serving.pipeline import Limits, Parse, Pipeline
from service.serving.router import Router
from service.serving.trials import Trials
from service.telemetry.instruments import HttpTelemetry
from service.wire.inference import Outputs
from tests.fakes import FakeEngines, FakeLog, ManualClock, sample

RENT, MOOD, CLOTHES = Ref("rent", 1), Ref("mood", 1), Ref("clothes", 1)
MAX_REQUESTS = 8


class Sent:
    """A request as the HTTP layer hands it in."""

    def __init__(self, data: Any, content_type: str | None = "application/json", **query: str) -> None:
        self._data = data if isinstance(data, bytes) else orjson.dumps(data)
        self.content_type = content_type
        self.query = list(query.items())
        self.json_length: str | None = None
        self.times_read = 0

    def read_at_once(self) -> bytes | None:
        return None

    async def read(self) -> bytes:
        self.times_read += 1
        return self._data


def ones(ref: Ref, tensors: Tensors) -> Outputs:
    width = {"rent": 1, "mood": 1, "clothes": 10}[ref.model]
    return Outputs(np.ones((len(tensors), width), np.float32), {}, queue_seconds=0.25, compute_seconds=0.5)


class Draws:
    """Numbers as a test wants them; 0.5 where it says nothing."""

    def __init__(self) -> None:
        self.next: deque[float] = deque()

    def __call__(self) -> float:
        return self.next.popleft() if self.next else 0.5


class Journey:
    """A pipeline with real parts around an engine that answers 1 to everything.

    Use as an async context manager where something is mirrored.
    """

    def __init__(
        self,
        root: Path,
        registry: CollectorRegistry,
        threads: ThreadPoolExecutor,
        mirror: MirrorPolicy | None = None,
    ) -> None:
        self.registry = registry
        self.clock = ManualClock(now=50.0)
        self.unready: set[Ref] = set()
        self.drains = False
        self.draws = Draws()
        self.engines = FakeEngines(ones)
        found = scan([root], {})
        self.aliases = {model: {"champion": 1} for model in found.models}
        self.router = Router(found.with_aliases(self.aliases))
        limits = Limits(max_rows=4, default_timeout=10.0, max_timeout=60.0, max_requests=MAX_REQUESTS)
        self.log = FakeLog()
        telemetry = HttpTelemetry(registry)
        capture = Capture(Sampler(CapturePolicy(), self.clock))
        self.mirror = Mirror(self.engines, self.log, telemetry, threads, mirror, self.is_draining, self.clock)
        trials = Trials(self.is_ready, self.mirror, telemetry, self.draws)
        self.pipeline = Pipeline(
            self.router, self.engines, self.log, capture, trials, telemetry, threads, limits, self.clock
        )

    def is_ready(self, ref: Ref) -> bool:
        return ref not in self.unready

    def is_draining(self) -> bool:
        return self.drains

    async def predict(self, data: Any, model: str = "rent", *, header: float | None = None, **query: str) -> Any:
        return await self.send(Sent(data, **query), model, header=header)

    async def send(
        self,
        sent: Sent,
        model: str = "rent",
        *,
        header: float | None = None,
        key: str | None = None,
        parse: Parse = parse,
        **exactly: str,
    ) -> Any:
        caller = Caller("id", ANONYMOUS, arrived=self.clock(), timeout=header, key=key)
        return orjson.loads((await self.pipeline.predict(Address(model, **exactly), sent, caller, parse)).body)

    def measured(self, name: str, ref: Ref = RENT, **labels: str) -> float:
        return sample(self.registry, name, {"model": ref.model, "version": str(ref.version), **labels})

    def stage(self, stage: str, what: str = "count") -> float:
        return sample(self.registry, f"servoloop_stage_duration_seconds_{what}", {"model": "rent", "stage": stage})


class Threads(ThreadPoolExecutor):
    """Counts what it was handed."""

    num_handed_over = 0

    def submit(self, *arguments: Any, **options: Any) -> Any:
        self.num_handed_over += 1
        return super().submit(*arguments, **options)
