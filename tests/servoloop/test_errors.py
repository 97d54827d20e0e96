"""What an answer that is none becomes."""

import httpx
import pytest

import servoloop
from tests.servoloop.support import Service, problem


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, servoloop.InvalidInput),
        (404, servoloop.NotFound),
        (413, servoloop.InvalidInput),
        (415, servoloop.InvalidInput),
        (422, servoloop.InvalidInput),
        (500, servoloop.ApiError),
        (503, servoloop.Unavailable),
        (504, servoloop.DeadlineExceeded),
    ],
)
def test_a_problem_becomes_the_error_of_its_status(status: int, error: type[servoloop.ApiError]) -> None:
    service = Service(problem(status, "some-kind", detail="what was wrong", field="instances[0]", expected="a number"))
    with service.client(retries=0) as client, pytest.raises(servoloop.ApiError) as raised:
        client.predict("m", "x")
    fault = raised.value
    assert type(fault) is error
    assert (fault.status, fault.problem_type) == (status, "urn:servoloop:problem:some-kind")
    assert (fault.detail, fault.field, fault.expected) == ("what was wrong", "instances[0]", "a number")
    assert (fault.request_id, str(fault)) == ("r-1", f"what was wrong (status {status})")


def test_a_gateway_that_answers_for_the_service_is_quoted() -> None:
    response = httpx.Response(502, text="<h1>Bad Gateway</h1>")
    with Service(response).client() as client, pytest.raises(servoloop.ApiError, match="Bad Gateway") as raised:
        client.predict("m", "x")
    assert raised.value.problem_type is None


@pytest.mark.parametrize("response", [httpx.Response(200, text="hello"), httpx.Response(200, json={"model": "m"})])
def test_another_service_is_recognised(response: httpx.Response) -> None:
    with Service(response).client() as client, pytest.raises(servoloop.ApiError, match="as a Servoloop service"):
        client.predict("m", "x")
