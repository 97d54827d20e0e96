"""Models, versions and aliases: how they are read and changed."""

import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest

import servoloop
from servoloop import AsyncClient, Backend
from tests.servoloop.support import MODEL, Service, problem


def test_models_are_read_with_their_versions() -> None:
    broken = {"model": "b", "version": "1", "reason": "weights.safetensors is missing"}
    service = Service(httpx.Response(200, json={"models": [MODEL], "broken": [broken]}))
    with service.client() as client:
        models = client.models()
    assert [model.name for model in models] == ["fashion"]
    assert models[0].versions[0].metrics["accuracy"]["value"] == 0.92
    assert models.broken == (servoloop.Broken("b", "1", "weights.safetensors is missing"),)


def test_one_model_is_read() -> None:
    service = Service(httpx.Response(200, json=MODEL))
    with service.client() as client:
        assert client.model("fashion").aliases == {"champion": "1"}
    assert service.requests[0].url.path == "/v1/models/fashion"


@pytest.mark.parametrize(
    ("outcome", "ready"),
    [
        (httpx.Response(200, json={"ready": True, "waiting_for": {}}), True),
        (httpx.Response(503, json={"ready": False, "waiting_for": {"fashion": "its engine is starting"}}), False),
        (httpx.ConnectError("refused"), False),
    ],
)
def test_readiness_is_asked_once(outcome: httpx.Response | Exception, *, ready: bool) -> None:
    service = Service(outcome)
    with service.client() as client:
        assert client.ready() is ready
    assert (len(service.requests), service.paused) == (1, [])


MOVE = {
    "model": "fashion",
    "alias": "champion",
    "version": "2",
    "previous": None,
    "actor": "anonymous",
    "reason": "better",
    "time": "2026-01-31T08:00:00Z",
    "revision": 7,
    "added_later": True,
}


def test_an_alias_is_moved() -> None:
    service = Service(httpx.Response(200, json=MOVE))
    with service.client() as client:
        move = client.move_alias("fashion", "champion", 2, reason="better", expected=1)
    assert (move.version, move.previous, move.revision) == ("2", None, 7)
    [request] = service.requests
    assert (request.method, request.url.path) == ("PUT", "/v1/models/fashion/aliases/champion")
    assert json.loads(request.content) == {"version": "2", "reason": "better", "expected": "1"}


def test_an_alias_that_is_not_where_it_was_expected_is_a_conflict() -> None:
    service = Service(problem(409, "alias-moved", detail="it names 2"))
    with service.client() as client, pytest.raises(servoloop.Conflict, match="it names 2"):
        client.move_alias("fashion", "champion", 2, expected=1)


async def test_an_alias_is_moved_asynchronously() -> None:
    service = Service(httpx.Response(200, json=MOVE))
    async with AsyncClient(transport=httpx.MockTransport(service.handle)) as client:
        assert (await client.move_alias("fashion", "champion", 2)).revision == 7


VERSION: dict[str, Any] = MODEL["versions"][0]  # type: ignore[index]
DELETED = {"model": "fashion", "versions": ["1", "2"], "unloaded": False}


def test_one_version_is_read() -> None:
    service = Service(httpx.Response(200, json=VERSION))
    with service.client() as client:
        version = client.version("fashion", 1)
    assert (version.state, version.pinned, version.engines, version.resident_bytes) == (
        "loaded",
        False,
        ["engine-0"],
        4096,
    )
    assert version.backend == Backend("openvino", "bfloat16", 1, "it was measured", pending=False)
    assert (service.requests[0].method, service.requests[0].url.path) == ("GET", "/v1/models/fashion/versions/1")


def test_a_version_that_is_not_loaded_has_no_backend() -> None:
    service = Service(httpx.Response(200, json={**VERSION, "state": "on_demand", "backend": None}))
    with service.client() as client:
        assert client.version("fashion", 1).backend is None


@pytest.mark.parametrize(("status", "done"), [(200, True), (202, False)])
def test_a_load_says_whether_it_is_done(status: int, *, done: bool) -> None:
    service = Service(httpx.Response(status, json=VERSION))
    with service.client() as client:
        change = client.load("fashion", 1, pinned=False, precision="bfloat16", wait=2.5)
    assert (change.done, change.version.version) == (done, "1")
    assert (service.requests[0].method, service.requests[0].url.path) == ("POST", "/v1/models/fashion/versions/1/load")
    assert service.body == {"pinned": False, "precision": "bfloat16", "wait_ms": 2500}


@pytest.mark.parametrize("verb", ["unload", "reload"])
def test_a_version_is_unloaded_and_loaded_anew(verb: str) -> None:
    service = Service(httpx.Response(200, json=VERSION))
    with service.client() as client:
        assert getattr(client, verb)("fashion", 1).done
    assert service.requests[0].url.path == f"/v1/models/fashion/versions/1/{verb}"
    assert service.body == {"wait_ms": 30_000}


def test_the_service_has_the_time_that_is_waited_besides_the_clients() -> None:
    service = Service(httpx.Response(200, json=VERSION))
    with service.client(timeout=10.0) as client:
        client.load("fashion", 1, wait=90.0)
    assert service.requests[0].headers["X-Request-Timeout-Ms"] == "95000.000"


def test_what_cant_be_loaded_is_not_tried_again() -> None:
    service = Service(problem(503, "not-ready", {"Retry-After": "1"}, detail="it needs 9 GB"))
    with service.client() as client, pytest.raises(servoloop.Unavailable, match="it needs 9 GB"):
        client.load("fashion", 1)
    assert len(service.requests) == 1


@pytest.mark.parametrize(
    "change",
    [
        lambda client: client.delete_version("fashion", 1, wait=0),
        lambda client: client.delete_model("fashion", wait=0),
        lambda client: client.move_alias("fashion", "champion", 2),
    ],
)
def test_what_may_have_been_changed_is_not_changed_again(change: Callable[[servoloop.Client], object]) -> None:
    service = Service(problem(503, "store-unavailable", {"Retry-After": "1"}, detail="look before asking again"))
    with service.client() as client, pytest.raises(servoloop.Unavailable, match="look before"):
        change(client)
    assert len(service.requests) == 1


def test_versions_and_models_are_deleted() -> None:
    service = Service(httpx.Response(202, json=DELETED))
    with service.client() as client:
        assert client.delete_version("fashion", 2, wait=0.5) == servoloop.Deleted("fashion", ("1", "2"), unloaded=False)
        client.delete_model("fashion", wait=0)
    assert [(request.method, request.url.raw_path) for request in service.requests] == [
        ("DELETE", b"/v1/models/fashion/versions/2?wait_ms=500"),
        ("DELETE", b"/v1/models/fashion?wait_ms=0"),
    ]


@pytest.mark.parametrize("wait", [-1.0, float("nan"), float("inf")])
def test_a_wait_that_is_none_is_refused_before_anything_is_sent(wait: float) -> None:
    service = Service(httpx.Response(200, json=VERSION))
    with service.client() as client:
        with pytest.raises(ValueError, match="wait must be"):
            client.load("fashion", 1, wait=wait)
        with pytest.raises(ValueError, match="wait must be"):
            client.delete_model("fashion", wait=wait)
    assert service.requests == []


async def test_versions_are_changed_asynchronously() -> None:
    service = Service(httpx.Response(200, json=VERSION))
    async with service.async_client() as client:
        assert (await client.version("fashion", 1)).version == "1"
        assert (await client.load("fashion", 1, replicas=2)).done
        assert service.body == {"replicas": 2, "wait_ms": 30_000}
        assert (await client.unload("fashion", 1)).done
        assert (await client.reload("fashion", 1)).done
        service.outcomes = [httpx.Response(200, json=DELETED)]
        assert (await client.delete_version("fashion", 1)).versions == ("1", "2")
        assert (await client.delete_model("fashion")).model == "fashion"
