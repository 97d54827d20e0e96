import logging
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from service.serving.engine_client import EngineClient
from service.telemetry.instruments import HttpTelemetry
from tests.service.serving.fake_engine import FakeEngine, connected


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
