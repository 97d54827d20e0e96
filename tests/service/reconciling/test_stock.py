"""What is found in the model roots, and what the store is told of it."""

import asyncio
import logging
from pathlib import Path

import pytest

from service.errors import StoreUnavailable
from service.reconciling.stock import Stock
from service.registry.scanner import Scanner
from service.store.base import Aliases, Contracts, Found
from tests import checkpoints
from tests.patience import PATIENCE


class Recorder:
    """Crowns the first version of what it is told of, unless it fails."""

    def __init__(self, *fails: Exception) -> None:
        self.fails = list(fails)
        self.told: list[dict[str, list[int]]] = []

    async def crown_new_models(self, found: Found, contracts: Contracts) -> Aliases:
        if self.fails:
            raise self.fails.pop()
        self.told.append({model: sorted(versions) for model, versions in found.items()})
        return {model: {"champion": min(versions)} for model, versions in found.items()}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    checkpoints.write_vector(tmp_path)
    return tmp_path


async def test_what_is_found_at_first_comes_with_its_aliases_and_what_is_broken_is_said(
    root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (root / "torn" / "1").mkdir(parents=True)
    recorder = Recorder()
    stock = Stock(Scanner([root]), recorder)
    catalog = await stock.take()
    assert catalog.models["sensors"].aliases == {"champion": 1}
    assert (recorder.told, stock.number) == ([{"sensors": [1]}], 1)
    assert stock.catalog.models.keys() == {"sensors"}
    [said] = [line for line in caplog.records if line.levelno == logging.ERROR]
    assert said.__dict__["ref"] == "torn/1"


async def test_the_first_look_waits_for_the_store(
    root: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("service.reconciling.stock._RETRY_SECONDS", 0.0)
    stock = Stock(Scanner([root]), Recorder(StoreUnavailable("it is away"), StoreUnavailable("it is away")))
    async with asyncio.timeout(PATIENCE):
        assert (await stock.take()).models.keys() == {"sensors"}
    assert caplog.text.count("waiting for the store") == 2


async def test_what_is_new_counts_once_the_store_knows_of_it(root: Path) -> None:
    recorder = Recorder()
    stock = Stock(Scanner([root]), recorder)
    await stock.take()
    assert not await stock.look()
    assert len(recorder.told) == 1, "where nothing changed there is nothing to tell"
    checkpoints.write_vector(root, version=2)
    assert not await stock.look(), "it may still be on its way"
    recorder.fails = [StoreUnavailable("it is away")]
    with pytest.raises(StoreUnavailable):
        await stock.look()
    assert (stock.number, sorted(stock.catalog.models["sensors"].versions)) == (1, [1])
    assert await stock.look()
    assert (stock.number, sorted(stock.catalog.models["sensors"].versions)) == (2, [1, 2])
    assert recorder.told[1:] == [{"sensors": [1, 2]}]
