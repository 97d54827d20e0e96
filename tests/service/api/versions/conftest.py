"""A store of each test's own, because what is wished of versions is kept in it."""

import pytest

from service.registry.catalog import Catalog
from service.serving.router import Router
from tests.service.api.support import Supervised
from tests.stores import OpenStore, found_in, open_store


@pytest.fixture
def store(tmp_path_factory: pytest.TempPathFactory, catalog: Catalog) -> OpenStore:
    """Of each test's own, with every version seen."""
    opened = open_store(tmp_path_factory.mktemp("store"))
    opened.control.crown_new_models(found_in(catalog))
    return opened


@pytest.fixture
def router(catalog: Catalog) -> Router:
    return Router(catalog)


@pytest.fixture
def slow(supervised: Supervised) -> Supervised:
    """A supervisor that does nothing before the test says so."""
    supervised.slow = True
    return supervised
