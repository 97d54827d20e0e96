"""Versions over HTTP: what the tests of this folder ask, and what is wished of them then."""

import asyncio
from collections.abc import Awaitable
from typing import Any

import httpx

from service.domain import Ref, Wish
from service.registry.fleet import Standing, VersionState
from tests.patience import PATIENCE
from tests.stores import OpenStore

CHAMPION, OTHER = Ref("clothes", 1), Ref("clothes", 2)
PATH = "/v1/models/clothes/versions/2"
ON_DEMAND = Standing(VersionState.ON_DEMAND, "")
WITHOUT_WAITING = {"wait_ms": 0}
PATIENTLY = {"wait_ms": 300_000}


async def while_it_waits(asked: Awaitable[httpx.Response], store: OpenStore, before: int) -> asyncio.Task[Any]:
    """The request under way, once its change is in the store."""
    task = asyncio.ensure_future(asked)
    async with asyncio.timeout(PATIENCE):
        while store.control.revision() == before:
            await asyncio.sleep(0.002)
    assert not task.done()
    return task  # type: ignore[return-value]


def wish_of(store: OpenStore, ref: Ref = OTHER) -> Wish:
    return store.control.state().wishes.get(ref, Wish())
