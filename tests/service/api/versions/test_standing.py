"""What a version says of itself."""

from dataclasses import replace

import httpx
import pytest

from service.api.deps import Services
from service.domain import Loading, Precision
from service.registry.fleet import Standing, VersionState
from service.store.base import WishChange
from tests.fakes import FakeFleet
from tests.service.api.support import CountingEngine, loaded, unloaded
from tests.service.api.versions.support import ON_DEMAND, OTHER, PATH
from tests.stores import OpenStore


async def test_a_version_says_where_it_stands_and_what_is_wanted_of_it(
    client: httpx.AsyncClient, services: Services, store: OpenStore, fleet: FakeFleet
) -> None:
    wish = store.control.change_wish(OTHER, WishChange(Loading.PINNED, 2, Precision.BFLOAT16))
    await services.follower.refresh()
    fleet.show(OTHER, loaded(wish))
    shown = (await client.get(PATH)).json()
    assert shown == (await client.get("/v1/models/clothes")).json()["versions"][1]
    names = ("version", "state", "ready", "pinned", "replicas", "precision", "engines", "resident_bytes")
    assert [shown[name] for name in names] == ["2", "loaded", True, True, 2, "bfloat16", ["engine-0"], 4096]


@pytest.mark.parametrize(
    ("standing", "reason"),
    [
        (ON_DEMAND, "it is loaded when it is asked for"),
        (unloaded(), "an operator wants it unloaded"),
        (Standing(VersionState.NO_ROOM, ""), "no device has room for it"),
        (Standing(VersionState.FAILED, "", "its weights hold NaN"), "its weights hold NaN"),
    ],
)
async def test_a_version_that_is_not_loaded_says_why(
    client: httpx.AsyncClient, fleet: FakeFleet, standing: Standing, reason: str
) -> None:
    fleet.show(OTHER, replace(standing, num_bytes=0))
    shown = (await client.get(PATH)).json()
    assert (shown["state"], shown["ready"], shown["reason"]) == (standing.state, False, reason)
    assert (shown["engines"], shown["resident_bytes"]) == ([], None)


async def test_a_version_that_the_supervisor_has_not_told_of_is_on_its_way(
    client: httpx.AsyncClient, fleet: FakeFleet, engine: CountingEngine
) -> None:
    fleet.show(OTHER, None)
    engine.ready = frozenset()
    assert (await client.get(PATH)).json()["state"] == "loading"


async def test_a_version_that_could_not_be_loaded_anew_says_so_although_it_answers(
    client: httpx.AsyncClient, fleet: FakeFleet
) -> None:
    fleet.show(OTHER, replace(loaded(), reason="its sha256 differs"))
    shown = (await client.get(PATH)).json()
    assert (shown["state"], shown["ready"], shown["reason"]) == ("loaded", True, "its sha256 differs")
