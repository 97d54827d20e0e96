"""The processes beside the engines that are watched: stopped by a signal, they are replaced."""

import os
import signal
from collections.abc import Iterator
from typing import Any

import orjson
import pytest

from tests import checkpoints
from tests.end_to_end.service import Homes, Service, until

WATCHDOG_SECONDS = 2.0
ROW = [[0.0] * 28] * 28


@pytest.fixture(scope="module")
def service(new_home: Homes) -> Iterator[Service]:
    home = new_home()
    checkpoints.write_image(home / "data" / "models")
    with Service(home, shipped_checkpoints="", watchdog_seconds=WATCHDOG_SECONDS) as running:
        yield running.wait_ready()


@pytest.fixture(scope="module", autouse=True)
def _works(service: Service) -> None:
    """Both have answered, and so have shown signs of life."""
    label(service)
    until(lambda: evaluated(service)["n"] == 1, "it counts")


def label(service: Service) -> None:
    """Have one more prediction, and say what it should have been."""
    answer = service.post("clothes", [ROW]).json()
    item = {"prediction_id": answer["prediction_ids"][0], "label": answer["predictions"][0]["label"]}

    def is_taken() -> bool:
        # Whether or not it was taken before, under the same key it is taken once.
        response = service.client.post("/v1/feedback", json=[item | {"idempotency_key": item["prediction_id"]}])
        return response.status_code == 200

    until(is_taken, "feedback is taken")


def evaluated(service: Service) -> dict[str, Any]:
    def answered() -> dict[str, Any] | None:
        response = service.client.get("/v1/models/clothes/evaluation")
        return response.json() if response.status_code == 200 else None

    return until(answered, "the model is measured")


@pytest.mark.parametrize("slot", ["loop", "recorder"])
def test_a_process_that_is_stopped_is_replaced_and_all_is_answered_again(service: Service, slot: str) -> None:
    before = evaluated(service)["n"]
    stopped = service.child(slot)
    os.kill(stopped, signal.SIGSTOP)
    until(lambda: service.child(slot) != stopped, f"{slot} is replaced")
    label(service)
    until(lambda: evaluated(service)["n"] == before + 1, "what is said from then on counts")
    assert service.metric("servoloop_process_restarts_total", slot=slot, cause="silent") == 1
    [said] = [line for line in service.errors.splitlines() if "is silent and is killed" in line and slot in line]
    assert orjson.loads(said)["slot"] == slot
