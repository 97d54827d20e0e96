"""The store on both databases: each test that asks for `location` runs on SQLite and on PostgreSQL."""

import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from pydantic import SecretStr
from sqlalchemy import create_engine, make_url, text

from service.settings import Settings
from service.store.databases import Location, Part
from service.store.sql_control import SqlControl
from tests import postgres
from tests.fakes import ManualClock
from tests.service.store.recording import DAY, Gate, Place
from tests.stores import OpenStore, open_store


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    with postgres.server() as url:
        yield url


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def database(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def settings(database: str, request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    """Settings that name an empty store."""
    if database == "sqlite":
        return Settings(data_dir=tmp_path)
    url = request.getfixturevalue("postgres_server")
    engine = create_engine(make_url(url).set(drivername="postgresql+psycopg"))
    with engine.begin() as connection:
        connection.execute(text("DROP SCHEMA IF EXISTS servoloop_control, servoloop_predictions CASCADE"))
    engine.dispose()
    return Settings(data_dir=tmp_path, store_url=SecretStr(url))


@pytest.fixture
def location(settings: Settings) -> Location:
    """Where an empty store lies."""
    return Location.of(settings)


@pytest.fixture
def store(location: Location) -> Iterator[OpenStore]:
    opened = open_store(location)
    yield opened
    opened.close()


@pytest.fixture
def reader(store: OpenStore, location: Location) -> Iterator[SqlControl]:
    """What an http process sees."""
    engine = location.reader(Part.CONTROL)
    yield SqlControl(engine)
    engine.dispose()


@pytest.fixture
def place(tmp_path: Path, registry: CollectorRegistry) -> Iterator[Place]:
    store = open_store(tmp_path)
    with tempfile.TemporaryDirectory(prefix="sl-") as folder, socket.socket(socket.AF_UNIX) as listener:
        path = Path(folder) / "r.sock"
        listener.bind(str(path))
        listener.listen()
        gate = Gate(store)
        gate.open.set()
        yield Place(path, listener, gate, registry, ManualClock(now=1000 * DAY))
    store.close()
