"""What is asked wrongly of versions, or cannot be done, changes nothing."""

from dataclasses import replace
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from service.api.deps import Services
from service.errors import StoreUnavailable
from tests.fakes import FakeFleet
from tests.service.api.support import problem_of
from tests.service.api.versions.support import PATH
from tests.stores import OpenStore


@pytest.mark.parametrize(
    ("verb", "body", "status", "field"),
    [
        ("load", b"{", 400, "body"),
        ("load", b"\xff", 400, "body"),
        ("load", b"[]", 422, "body"),
        ("load", b"null", 422, "body"),
        ("load", b'{"pin": true}', 422, "body.pin"),
        ("load", b'{"pinned": 1}', 422, "body.pinned"),
        ("load", b'{"pinned": "true"}', 422, "body.pinned"),
        ("load", b'{"replicas": 0}', 422, "body.replicas"),
        ("load", b'{"replicas": 257}', 422, "body.replicas"),
        ("load", b'{"replicas": 1.5}', 422, "body.replicas"),
        ("load", b'{"replicas": "2"}', 422, "body.replicas"),
        ("load", b'{"precision": "int8"}', 422, "body.precision"),
        ("load", b'{"precision": 16}', 422, "body.precision"),
        ("load", b'{"wait_ms": -1}', 422, "body.wait_ms"),
        ("load", b'{"wait_ms": 300001}', 422, "body.wait_ms"),
        ("load", b'{"wait_ms": NaN}', 422, "body.wait_ms"),
        ("load", b'{"wait_ms": true}', 422, "body.wait_ms"),
        ("load", b'{"wait_ms": null}', 422, "body.wait_ms"),
        ("load", b'{"wait_ms": %s0}' % (20_000 * b" "), 413, "body"),
        ("unload", b'{"pinned": true}', 422, "body.pinned"),
        ("unload", b"{", 400, "body"),
        ("reload", b'{"precision": "float16"}', 422, "body.precision"),
        ("reload", b'{"wait_ms": "1"}', 422, "body.wait_ms"),
    ],
)
async def test_a_body_that_is_wrong_says_where_and_what_was_expected(
    client: httpx.AsyncClient, store: OpenStore, verb: str, body: bytes, status: int, field: str
) -> None:
    before = store.control.state()
    problem = problem_of(await client.post(f"{PATH}/{verb}", content=body))
    assert (problem["status"], problem["field"]) == (status, field)
    assert problem["expected"]
    assert store.control.state() == before


@pytest.mark.parametrize("wait", ["-1", "300001", "NaN", "inf", "soon", ""])
@pytest.mark.parametrize("path", [PATH, "/v1/models/clothes"])
async def test_a_wait_that_is_none_deletes_nothing(
    client: httpx.AsyncClient, store: OpenStore, path: str, wait: str
) -> None:
    problem = problem_of(await client.delete(path, params={"wait_ms": wait}))
    assert (problem["status"], problem["field"]) == (422, "query.wait_ms")
    assert problem["expected"]
    assert store.control.state().deleted == frozenset()


@pytest.mark.parametrize(("method", "tail"), [("GET", ""), ("DELETE", ""), ("POST", "/load"), ("POST", "/unload")])
async def test_what_is_unknown_is_404(client: httpx.AsyncClient, method: str, tail: str) -> None:
    for path, field in (
        ("nobody/versions/1", "model"),
        ("clothes/versions/9", "version"),
        ("clothes/versions/02", "version"),
        ("clothes/versions/-1", "version"),
        ("clothes/versions/champion", "version"),
    ):
        problem = problem_of(await client.request(method, f"/v1/models/{path}{tail}"))
        assert (problem["status"], problem["field"]) == (404, field)


async def test_a_malformed_timeout_changes_nothing(client: httpx.AsyncClient, store: OpenStore) -> None:
    before = store.control.state()
    headers = {"X-Request-Timeout-Ms": "soon"}
    for response in (
        await client.post(f"{PATH}/load", json={"pinned": True}, headers=headers),
        await client.post(f"{PATH}/unload", headers=headers),
        await client.delete(PATH, headers=headers),
        await client.delete("/v1/models/clothes", headers=headers),
    ):
        assert problem_of(response)["field"] == "X-Request-Timeout-Ms"
    assert store.control.state() == before


class Away:
    """A store that does not answer."""

    def __getattr__(self, name: str) -> Any:
        raise StoreUnavailable("it is away")


async def test_while_the_store_is_away_nothing_is_changed(
    client: httpx.AsyncClient, app: FastAPI, services: Services, fleet: FakeFleet
) -> None:
    app.state.services = replace(services, changes=Away())  # type: ignore[arg-type]
    for response in (
        await client.post(f"{PATH}/load"),
        await client.post(f"{PATH}/reload"),
        await client.post(f"{PATH}/unload"),
        await client.delete(PATH),
        await client.delete("/v1/models/clothes"),
    ):
        assert problem_of(response)["type"] == "urn:servoloop:problem:store-unavailable"
        assert response.headers["retry-after"]
    assert fleet.wanted == []
