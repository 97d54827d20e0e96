"""A store of each test's own, because what is wished of versions is kept in it."""

import pytest

from service.registry.catalog import Catalog
from service.serving.router import Router
from tests.service.api.support import Supervised
from tests.stores import OpenStore, open_seen


@pytest.fixture
def store(tmp_path_factory: pytest.TempPathFactory, catalog: Catalog) -> OpenStore:
    """Of each test's own, with every version seen."""
    return open_seen(tmp_path_factory.mktemp("store"), catalog)


@pytest.fixture
def router(catalog: Catalog) -> Router:
    return Router(catalog)


@pytest.fixture
def slow(supervised: Supervised) -> Supervised:
    """A supervisor that does nothing before the test says so."""
    supervised.slow = True
    return supervised
