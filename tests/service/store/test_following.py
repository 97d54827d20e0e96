"""The store's state as processes follow it."""

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from service.errors import StoreUnavailable
from service.store.base import Aliases, State
from service.store.following import StateFollower
from tests.patience import PATIENCE
from tests.stores import OpenStore, open_store

FOUND = {"fashion": {1: "a", 2: "b"}}


class Unsteady:
    """A store that may be away."""

    def __init__(self, store: OpenStore) -> None:
        self._store = store
        self.away = False
        self.times_asked = 0

    def revision(self) -> int:
        self.times_asked += 1
        if self.away:
            raise StoreUnavailable("it is away")
        return self._store.control.revision()

    def state(self) -> State:
        return self._store.control.state()

    def __getattr__(self, name: str) -> object:
        return getattr(self._store.control, name)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[OpenStore]:
    opened = open_store(tmp_path)
    opened.control.crown_new_models(FOUND)
    yield opened
    opened.close()


@pytest.fixture
def applied() -> list[Aliases]:
    return []


def into(applied: list[Aliases]) -> Callable[[State], None]:
    return lambda state: applied.append(state.aliases)


async def come(applied: list[Aliases], expected: Aliases) -> None:
    async with asyncio.timeout(PATIENCE):
        while not applied or applied[-1] != expected:
            await asyncio.sleep(0.002)


async def test_a_move_made_elsewhere_is_applied(store: OpenStore, applied: list[Aliases]) -> None:
    async with StateFollower(store.control, into(applied)):
        await come(applied, {"fashion": {"champion": 1}})
        store.control.move_alias("fashion", "champion", 2, actor="ann", reason="")
        await come(applied, {"fashion": {"champion": 2}})
    assert len(applied) == 2


async def test_what_is_taken_up_is_applied_at_once(store: OpenStore, applied: list[Aliases]) -> None:
    follower = StateFollower(store.control, into(applied), known=store.control.state())
    store.control.move_alias("fashion", "trial", 2, actor="ann", reason="a trial")
    await follower.take_up()
    assert applied == [{"fashion": {"champion": 1, "trial": 2}}]
    assert follower.state == store.control.state()


async def test_what_is_known_already_is_not_applied_again(store: OpenStore, applied: list[Aliases]) -> None:
    follower = StateFollower(store.control, into(applied), known=store.control.state())
    await follower.refresh()
    assert applied == []


async def test_an_older_state_never_replaces_a_newer_one(store: OpenStore, applied: list[Aliases]) -> None:
    follower = StateFollower(store.control, into(applied))
    await asyncio.gather(*(follower.refresh() for _ in range(5)))
    assert applied == [{"fashion": {"champion": 1}}]


async def test_while_the_store_is_away_what_was_known_holds_and_one_line_says_so(
    store: OpenStore, applied: list[Aliases], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.store.following._POLL_SECONDS", 0.001)
    unsteady = Unsteady(store)
    unsteady.away = True
    async with StateFollower(unsteady, into(applied)):  # type: ignore[arg-type]
        async with asyncio.timeout(PATIENCE):
            while unsteady.times_asked < 5:
                await asyncio.sleep(0.001)
        assert applied == []
        unsteady.away = False
        await come(applied, {"fashion": {"champion": 1}})
    assert caplog.text.count("can't be followed") == 1


async def test_what_cannot_be_taken_up_at_once_is_by_the_next_look(store: OpenStore, applied: list[Aliases]) -> None:
    unsteady = Unsteady(store)
    unsteady.away = True
    follower = StateFollower(unsteady, into(applied))  # type: ignore[arg-type]
    await follower.take_up()
    assert applied == []
    unsteady.away = False
    async with follower:
        await come(applied, {"fashion": {"champion": 1}})
