"""Versions on trial, as a caller sees them."""

import json
from typing import Any

import httpx
import pytest

import servoloop
from servoloop import AsyncClient
from tests.servoloop.support import Service, problem

ROLLOUT: dict[str, Any] = {
    "model": "fashion",
    "version": "2",
    "stage": "canary",
    "share": 0.25,
    "paused": False,
    "policy": {"alpha": 0.05},
    "began": "2026-01-31T08:00:00Z",
    "stage_began": "2026-01-31T09:00:00Z",
    "actor": "anonymous",
    "reason": "try it",
    "added_later": True,
}
DECISION: dict[str, Any] = {
    "id": 3,
    "model": "fashion",
    "kind": "promoted",
    "before": {"champion": "1", "rollout": {"version": "2", "stage": "canary", "share": 0.25, "paused": False}},
    "after": {"champion": "2", "rollout": None},
    "actor": "anonymous",
    "reason": "better",
    "time": "2026-01-31T10:00:00Z",
    "revision": 7,
    "added_later": True,
}


def test_what_is_on_trial_is_read() -> None:
    service = Service(httpx.Response(200, json=ROLLOUT))
    with service.client() as client:
        rollout = client.rollout("fashion")
    assert (rollout.version, rollout.stage, rollout.share, rollout.policy) == ("2", "canary", 0.25, {"alpha": 0.05})
    assert (service.requests[0].method, service.requests[0].url.path) == ("GET", "/v1/models/fashion/rollout")


def test_where_nothing_is_on_trial_it_is_not_found() -> None:
    service = Service(problem(404, "no-rollout", detail="no version of fashion is on trial"))
    with service.client() as client, pytest.raises(servoloop.NotFound, match="no version of fashion is on trial"):
        client.rollout("fashion")


def test_a_trial_is_set_and_what_is_left_out_is_not_sent() -> None:
    service = Service(httpx.Response(200, json=ROLLOUT), httpx.Response(200, json=ROLLOUT))
    with service.client() as client:
        client.set_rollout("fashion", 2, stage="canary", share=0.25, policy={"alpha": 0.05}, reason="try it")
        client.set_rollout("fashion", "2", paused=False, share=0.0, expected_stage="canary")
    assert [(one.method, one.url.path) for one in service.requests] == 2 * [("PUT", "/v1/models/fashion/rollout")]
    assert [json.loads(one.content) for one in service.requests] == [
        {"version": "2", "reason": "try it", "stage": "canary", "share": 0.25, "policy": {"alpha": 0.05}},
        {"version": "2", "reason": "", "paused": False, "share": 0.0, "expected_stage": "canary"},
    ]


def test_a_promotion_and_a_rollback_are_decisions() -> None:
    service = Service(*[httpx.Response(200, json=DECISION) for _ in range(3)])
    with service.client() as client:
        decision = client.promote("fashion", reason="better", expected=1)
        client.promote("fashion", 2)
        client.roll_back("fashion", reason="worse", expected="2")
    assert (decision.kind, decision.after, decision.revision) == ("promoted", {"champion": "2", "rollout": None}, 7)
    assert [one.url.path.rpartition("/")[2] for one in service.requests] == ["promote", "promote", "rollback"]
    assert [json.loads(one.content) for one in service.requests] == [
        {"reason": "better", "expected": "1"},
        {"reason": "", "version": "2"},
        {"reason": "worse", "expected": "2"},
    ]


def test_what_was_decided_may_have_been_done_and_is_not_asked_for_again() -> None:
    for ask in (
        lambda client: client.promote("fashion"),
        lambda client: client.roll_back("fashion"),
        lambda client: client.set_rollout("fashion", 2),
    ):
        service = Service(problem(503, "store-unavailable", detail="the store does not answer"))
        with service.client() as client, pytest.raises(servoloop.Unavailable):
            ask(client)
        assert len(service.requests) == 1


async def test_all_of_that_asynchronously() -> None:
    service = Service(*[httpx.Response(200, json=one) for one in (ROLLOUT, ROLLOUT, DECISION, DECISION)])
    async with AsyncClient(transport=httpx.MockTransport(service.handle)) as client:
        assert (await client.set_rollout("fashion", 2, share=0.25)).share == 0.25
        assert (await client.rollout("fashion")).version == "2"
        assert (await client.promote("fashion")).id == 3
        assert (await client.roll_back("fashion")).id == 3
