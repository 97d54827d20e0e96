"""One running service for all tests that only ask; those that break something start their own."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from service.settings import SHIPPED_CHECKPOINTS
from tests import checkpoints
from tests.end_to_end.faults import cut_short, poison
from tests.end_to_end.service import Homes, Service


@pytest.fixture(scope="session")
def new_home() -> Iterator[Homes]:
    homes = Homes()
    yield homes
    homes.remove()


@pytest.fixture(scope="session")
def service(new_home: Homes) -> Iterator[Service]:
    """The shipped checkpoints, one small model of each kind, and two checkpoints that can't be served."""
    home = new_home()
    root = home / "data" / "models"
    checkpoints.write_one_of_each(root)
    checkpoints.write_image(root, "torn")
    cut_short(root / "torn" / "1")
    checkpoints.write_image(root, version=3)
    poison(root / "clothes" / "3")
    with Service(home, max_queued_rows=8192) as running:
        yield running.wait_ready()


@pytest.fixture(scope="session")
def shipped() -> Path:
    """The checkpoints that come with the project."""
    assert SHIPPED_CHECKPOINTS.is_dir(), "the shipped checkpoints are missing"
    return SHIPPED_CHECKPOINTS
