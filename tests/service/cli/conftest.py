"""A command line, and a service for it to ask: the real application behind a real socket, but for the engine."""

import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
import uvicorn
from prometheus_client import CollectorRegistry
from typer.testing import CliRunner, Result

from service.api.app import create_app
from service.api.buffers import BodyBudget
from service.api.deps import FeedbackParts, Services, Terms
from service.cli.app import app
from service.domain import Ref
from service.learning.intake import Intake
from service.learning.items import Listener
from service.registry.catalog import Broken, Catalog
from service.registry.fleet import Standing, VersionState
from service.registry.scanner import scan
from service.serving.capture import Capture, CapturePolicy, Sampler
from service.serving.mirroring import Mirror
from service.serving.pipeline import Limits, Pipeline
from service.serving.router import Router
from service.serving.trials import Trials
from service.store.following import StateFollower
from service.telemetry.instruments import HttpTelemetry
from tests.checkpoints import write_one_of_each
from tests.fakes import FakeFleet
from tests.service.api.support import CountingEngine, Supervised, loaded
from tests.stores import found_in, open_store

Run = Callable[[Sequence[object]], Result]


@pytest.fixture(autouse=True)
def _own_logging() -> Iterator[None]:
    """`serve` sets up the process's logging; here it would go on writing to a runner's stream that is closed."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture
def data_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The data directory of a service that ships no models."""
    path = tmp_path / "data"
    monkeypatch.setenv("SERVOLOOP_DATA_DIR", str(path))
    monkeypatch.setenv("SERVOLOOP_SHIPPED_CHECKPOINTS", "")
    return path


@pytest.fixture
def run() -> Run:
    runner = CliRunner()
    return lambda words: runner.invoke(app, [str(word) for word in words])


@pytest.fixture(scope="session")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    """One model of each kind with its champion, and one that is broken."""
    root = tmp_path_factory.mktemp("models")
    write_one_of_each(root)
    champions = {name: {"champion": 1} for name in scan([root], {}).models}
    return Catalog(scan([root], champions).models, [Broken("torn", "1", "weights.safetensors is [missing]")])


@pytest.fixture(scope="session")
def url(catalog: Catalog, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where a service answers."""
    with running(catalog, tmp_path_factory.mktemp("store")) as address:
        yield address


@contextmanager
def running(catalog: Catalog, folder: Path) -> Iterator[str]:
    """A service whose store lies in `folder`; its address."""
    ready = frozenset(version.ref for version in catalog.versions() if version.ref.model != "codes")
    engine = CountingEngine(catalog, ready)
    telemetry = HttpTelemetry(CollectorRegistry())
    store = open_store(folder)
    store.control.crown_new_models(found_in(catalog), catalog.contracts())
    router = Router(catalog)
    with ThreadPoolExecutor(1) as threads, socket.create_server(("127.0.0.1", 0)) as listener:
        limits = Limits(8, default_timeout=10, max_timeout=120)
        trials = Trials(engine.is_ready, Mirror(engine, store, telemetry, threads), telemetry)
        capture = Capture(Sampler(CapturePolicy()))
        pipeline = Pipeline(router, engine, store, capture, trials, telemetry, threads, limits)
        follower = StateFollower(store.control, router.use_state)
        fleet = FakeFleet()
        for ref in ready:
            fleet.show(ref, loaded())
        fleet.show(Ref("codes", 1), Standing(VersionState.FAILED, "", "its weights hold [NaN]"))
        services = Services(
            pipeline,
            lambda: router.catalog,
            router.choose,
            Terms(max_rows=8),
            engine,
            telemetry.registry,
            200_000,
            follower,
            store.control,
            store.predictions,
            FeedbackParts(
                Intake(Listener({"expert": 2}), store, telemetry.refused_feedback.inc),
                store.feedback,
                store,
                store.reports,
            ),
            BodyBudget(400_000),
            fleet=fleet,
            changes=Supervised(store, fleet, engine=engine),
            is_removable=lambda ref: ref.model != "mood",
        )
        server = uvicorn.Server(uvicorn.Config(create_app(services), log_config=None, lifespan="off"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        while not server.started:
            time.sleep(0.005)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        server.should_exit = True
        thread.join()
