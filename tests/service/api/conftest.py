"""The application with its real parts, but for the engine: that one counts how often it is asked."""

from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import httpx
import pytest
from fastapi import FastAPI
from prometheus_client import CollectorRegistry

from service.api.app import create_app
from service.api.buffers import BodyBudget
from service.api.deps import FeedbackParts, Services, Terms
from service.learning.intake import Intake
from service.learning.items import Listener
from service.registry.catalog import Catalog
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
from tests.service.api.support import (
    MAX_BODY_BYTES,
    MAX_BUFFERED_BYTES,
    MAX_ROWS,
    Asked,
    CountingEngine,
    Supervised,
    loaded,
)
from tests.stores import OpenStore, open_store


@pytest.fixture(scope="session")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    root = tmp_path_factory.mktemp("models")
    write_one_of_each(root)
    found = scan([root], {})
    aliases = {name: {"champion": 1} for name in found.models}
    aliases["clothes"]["candidate"] = 2
    return found.with_aliases(aliases)


@pytest.fixture(scope="session")
def router(catalog: Catalog) -> Router:
    return Router(catalog)


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> OpenStore:
    return open_store(tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="session")
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2) as pool:
        yield pool


@pytest.fixture
def engine(catalog: Catalog) -> CountingEngine:
    return CountingEngine(catalog, frozenset(version.ref for version in catalog.versions()))


@pytest.fixture
def fleet(catalog: Catalog) -> FakeFleet:
    """With every version loaded."""
    fleet = FakeFleet()
    for version in catalog.versions():
        fleet.show(version.ref, loaded())
    return fleet


@pytest.fixture
def supervised(store: OpenStore, fleet: FakeFleet) -> Supervised:
    return Supervised(store, fleet)


@pytest.fixture
def services(
    router: Router, engine: CountingEngine, store: OpenStore, threads: ThreadPoolExecutor, supervised: Supervised
) -> Services:
    telemetry = HttpTelemetry(CollectorRegistry())
    limits = Limits(MAX_ROWS, default_timeout=10, max_timeout=120)
    trials = Trials(engine.is_ready, Mirror(engine, store, telemetry, threads), telemetry)
    pipeline = Pipeline(router, engine, store, Capture(Sampler(CapturePolicy())), trials, telemetry, threads, limits)
    follower = StateFollower(store.control, router.use_state)
    return Services(
        pipeline,
        lambda: router.catalog,
        router.choose,
        Terms(MAX_ROWS),
        engine,
        telemetry.registry,
        MAX_BODY_BYTES,
        follower,
        store.control,
        store.predictions,
        FeedbackParts(
            Intake(Listener({"expert": 2}), store, telemetry.refused_feedback.inc), store.feedback, store, store.reports
        ),
        BodyBudget(MAX_BUFFERED_BYTES),
        fleet=supervised.fleet,
        changes=supervised,
        is_removable=lambda ref: ref.model != "mood",
    )


@pytest.fixture
def asked(services: Services) -> Asked:
    """In the place of who measures."""
    asked = Asked()
    object.__setattr__(services, "feedback", replace(services.feedback, evaluation=asked))
    return asked


@pytest.fixture(scope="session")
def any_app(catalog: Catalog) -> FastAPI:
    """Made once, because it takes long; each test puts its own services in."""
    return create_app(None)  # type: ignore[arg-type]


@pytest.fixture
def app(any_app: FastAPI, services: Services) -> FastAPI:
    any_app.state.services = services
    return any_app


@pytest.fixture
async def client(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://service") as connected:
        yield connected
