import logging
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from service.serving.engine_client import EngineClient
from service.serving.mirroring import MirrorPolicy
from service.telemetry.instruments import HttpTelemetry
from tests.checkpoints import write_image
from tests.service.serving.fake_engine import FakeEngine, connected
from tests.service.serving.journey import Journey, Threads
from tests.service.serving.on_trial import told


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncIterator[FakeEngine]:
    engine = FakeEngine(tmp_path / "engine.sock")
    yield engine
    if engine._server is not None:
        await engine.die()


@pytest.fixture
async def client(
    engine: FakeEngine, registry: CollectorRegistry, caplog: pytest.LogCaptureFixture
) -> AsyncIterator[EngineClient]:
    caplog.set_level(logging.CRITICAL)
    async with connected(EngineClient(engine.path, HttpTelemetry(registry), max_pending_rows=4)) as client:
        yield client


@pytest.fixture
def threads() -> Iterator[Threads]:
    with Threads(1) as threads:
        yield threads


@pytest.fixture
async def journey(tmp_path: Path, registry: CollectorRegistry, threads: Threads) -> AsyncIterator[Journey]:
    """Two versions of `clothes`, which scale pixels differently."""
    write_image(tmp_path, version=1)
    write_image(tmp_path, version=2, preprocess=[{"step": "scale", "factor": 0.1}])
    journey = Journey(tmp_path, registry, threads, MirrorPolicy(max_requests=2, max_bytes=100_000))
    journey.engines.answer = told
    async with journey.mirror:
        yield journey
