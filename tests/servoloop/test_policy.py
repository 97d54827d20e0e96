"""When a call is tried again, and how long it may take."""

from typing import Any

import httpx
import pytest

import servoloop
from servoloop import Client
from tests.servoloop.support import Service, answer, problem


def test_a_refused_connection_is_tried_again_after_growing_pauses() -> None:
    refused = httpx.ConnectError("refused")
    service = Service(refused, refused, answer({"value": 1.0}))
    with service.client() as client:
        assert client.predict("m", "x").value == 1.0
    assert service.paused == [0.1, 0.2]


def test_a_connection_refused_each_time_is_an_error() -> None:
    service = Service(httpx.ConnectError("refused"))
    with service.client(retries=1) as client, pytest.raises(servoloop.ConnectionFailed, match="refused"):
        client.predict("m", "x")
    assert len(service.requests) == 2


def test_retry_after_is_heeded() -> None:
    service = Service(
        problem(503, "queue-full", {"Retry-After": "2"}, detail="full"),
        problem(503, "queue-full", {"Retry-After": "Wed, 21 Oct 2026 07:28:00 GMT"}, detail="full"),
        answer({"value": 1.0}),
    )
    with service.client() as client:
        client.predict("m", "x")
    assert service.paused == [2.0, 0.2]


def test_no_pause_reaches_past_the_timeout() -> None:
    service = Service(problem(503, "queue-full", {"Retry-After": "7"}, detail="full"))
    with service.client(timeout=10.0) as client, pytest.raises(servoloop.Unavailable) as raised:
        client.predict("m", "x")
    assert service.paused == [7.0]
    assert raised.value.retry_after == 7.0


def test_each_attempt_has_the_time_that_is_left() -> None:
    service = Service(problem(503, "queue-full", {"Retry-After": "4"}, detail="full"), answer({"value": 1.0}))
    with service.client(timeout=10.0) as client:
        client.predict("m", "x")
    assert [request.extensions["timeout"]["read"] for request in service.requests] == [10.0, 6.0]
    assert [request.headers["X-Request-Timeout-Ms"] for request in service.requests] == ["9500.000", "5700.000"]


@pytest.mark.parametrize(
    "outcome", [httpx.ReadTimeout("late"), httpx.ReadError("reset"), problem(500, "internal", detail="failed")]
)
def test_what_may_have_been_computed_is_not_sent_again(outcome: httpx.Response | Exception) -> None:
    service = Service(outcome)
    with service.client() as client, pytest.raises(servoloop.ServoloopError):
        client.predict("m", "x")
    assert len(service.requests) == 1


@pytest.mark.parametrize("faulty", [{"timeout": 0}, {"retries": -1}])
def test_settings_that_mean_nothing_are_refused(faulty: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must"):
        Client(**faulty)
