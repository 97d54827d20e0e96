from pathlib import Path

import pytest

from service.learning.evaluator import Evaluator
from tests.fakes import ManualClock
from tests.service.learning.support import CONTRACTS, NOW, over
from tests.stores import OpenStore, open_store


@pytest.fixture
def store(tmp_path: Path) -> OpenStore:
    opened = open_store(tmp_path)
    opened.control.crown_new_models({"fashion": {1: "a"}, "rent": {1: "a"}}, CONTRACTS)
    return opened


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(now=NOW)


@pytest.fixture
def evaluator(store: OpenStore, clock: ManualClock) -> Evaluator:
    return over(store, clock)
