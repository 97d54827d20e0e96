"""A version on trial in a running service: shadow, canary, promotion and rollback under load."""

import asyncio
import itertools
import math
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import orjson
import pytest

from tests import checkpoints
from tests.end_to_end.connection import connect, request
from tests.end_to_end.service import Homes, Service, until

MODEL, CLIENTS, SHARE = "clothes", 6, 0.25
PIXELS = [[(row * column) % 256 for column in range(28)] for row in range(28)]


@dataclass
class Told:
    """What clients were told: under which key, by which version, and what."""

    answers: list[tuple[str, str, str, dict[str, float]]] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)

    @property
    def versions(self) -> set[str]:
        return {version for _, version, _, _ in self.answers}

    def mixed(self, expected: dict[str, dict[str, float]]) -> int:
        """Answers that are not what the version they name answers."""
        return sum(
            not all(math.isclose(value, expected[version][label], abs_tol=1e-5) for label, value in found.items())
            for _, version, _, found in self.answers
        )


@pytest.fixture
def service(new_home: Homes) -> Iterator[Service]:
    """Two http processes over two versions of one model, which prepare pixels differently."""
    home = new_home()
    root = home / "data" / "models"
    checkpoints.write_image(root, MODEL, 1)
    checkpoints.write_image(root, MODEL, 2, preprocess=[{"step": "scale", "factor": 0.02}])
    with Service(home, "--http-processes", "2", shipped_checkpoints="") as running:
        yield running.wait_ready()


def expected_of(service: Service) -> dict[str, dict[str, float]]:
    """What each version answers when it is asked by name."""
    body = {"instances": [PIXELS], "parameters": {"return_probabilities": True}}
    found = {}
    for version in ("1", "2"):
        service.client.post(f"/v1/models/{MODEL}/versions/{version}/load").raise_for_status()
        answer = service.client.post(f"/v1/models/{MODEL}/versions/{version}/predict", json=body).json()
        found[version] = answer["predictions"][0]["probabilities"]
    return found


@asynccontextmanager
async def load(service: Service, told: Told) -> AsyncIterator[None]:
    """Clients that ask all the while, each request under a key of its own."""
    asking, numbers = True, itertools.count()

    async def ask() -> None:
        async with connect(service.port) as connection:
            while asking:
                key = f"user-{next(numbers)}"
                body = {"instances": [PIXELS], "parameters": {"return_probabilities": True, "key": key}}
                connection.send(request(f"/v1/models/{MODEL}/predict", orjson.dumps(body)))
                answer = await connection.receive()
                if answer.status != 200:
                    told.failed.append(answer.body.decode())
                    continue
                said = answer.json()
                prediction = said["predictions"][0]
                told.answers.append((key, said["version"], said["prediction_ids"][0], prediction["probabilities"]))

    async with AsyncExitStack() as stack:
        clients = [asyncio.create_task(ask()) for _ in range(CLIENTS)]
        stack.callback(lambda: [client.cancel() for client in clients])
        yield
        asking = False
        await asyncio.gather(*clients)


async def asked(told: Told, count: int) -> None:
    """Until so many more requests were answered."""
    goal = len(told.answers) + count
    async with asyncio.timeout(60):
        while len(told.answers) < goal and not told.failed:
            await asyncio.sleep(0.01)


async def decide(service: Service, method: str, what: str, **said: Any) -> dict[str, Any]:
    """Ask for a change while others ask for predictions, and until every process routes by it."""
    answer = await asyncio.to_thread(service.client.request, method, f"/v1/models/{MODEL}/{what}", json=said)
    assert answer.status_code == 200, answer.text
    await asyncio.sleep(0.3)  # the other process looks every 100 ms
    decided: dict[str, Any] = answer.json()
    return decided


def records(service: Service, wanted: Callable[[dict[str, Any]], bool]) -> dict[str, dict[str, Any]]:
    """What is logged of the model, by id."""
    found: dict[str, dict[str, Any]] = {}
    cursor: dict[str, str] = {}
    while True:
        page = service.client.get("/v1/predictions", params={"model": MODEL, "limit": 1000, **cursor}).json()
        found |= {one["prediction_id"]: one for one in page["predictions"] if wanted(one)}
        if page["next_cursor"] is None:
            return found
        cursor = {"cursor": page["next_cursor"]}


def is_answered(record: dict[str, Any]) -> bool:
    return record["role"] == "answered" and record["key"] is not None


async def test_a_challenger_goes_from_shadow_to_champion_and_back_and_no_request_notices(service: Service) -> None:
    expected = await asyncio.to_thread(expected_of, service)
    shadowed, canary, promoted, back = Told(), Told(), Told(), Told()

    await decide(service, "PUT", "rollout", version="2", stage="shadow", share=0.5)
    async with load(service, shadowed):
        await asked(shadowed, 400)
    assert (shadowed.failed, shadowed.versions) == ([], {"1"})

    await decide(service, "PUT", "rollout", version="2", stage="canary", share=SHARE)
    async with load(service, canary):
        await asked(canary, 1200)
    assert (canary.failed, canary.versions) == ([], {"1", "2"})

    async with load(service, promoted):
        await asked(promoted, 100)
        await decide(service, "POST", "promote", reason="it is better", expected="1")
        settled = len(promoted.answers) + CLIENTS
        await asked(promoted, 200)
    assert (promoted.failed, {version for _, version, _, _ in promoted.answers[settled:]}) == ([], {"2"})

    async with load(service, back):
        await asked(back, 100)
        await decide(service, "POST", "rollback", reason="it is worse", expected="2")
        settled = len(back.answers) + CLIENTS
        await asked(back, 200)
    assert (back.failed, {version for _, version, _, _ in back.answers[settled:]}) == ([], {"1"})

    told = [*shadowed.answers, *canary.answers, *promoted.answers, *back.answers]
    for phase in (shadowed, canary, promoted, back):
        assert phase.mixed(expected) == 0

    logged = until(
        lambda: found if len(found := records(service, is_answered)) == len(told) else None, "all answers are logged"
    )
    assert {one["prediction_id"]: one["version"] for one in logged.values()} == {
        prediction_id: version for _, version, prediction_id, _ in told
    }
    in_canary = [logged[prediction_id] for _, _, prediction_id, _ in canary.answers]
    assert {(one["version"], one["propensity"]) for one in in_canary} == {("1", 1 - SHARE), ("2", SHARE)}
    met, count = sum(version == "2" for _, version, _, _ in canary.answers), len(canary.answers)
    assert abs(met - SHARE * count) < 4 * math.sqrt(count * SHARE * (1 - SHARE))
    assert service.metric("servoloop_canary_fallbacks_total") == 0

    shadows = records(service, lambda one: one["role"] == "shadow")
    computed = service.metric("servoloop_mirrored_requests_total", outcome="ok")
    assert len(shadows) == computed > 0
    assert {(one["version"], one["propensity"]) for one in shadows.values()} == {("2", 0.5)}
    returned = {prediction_id for _, _, prediction_id, _ in shadowed.answers}
    assert {one["paired_with"] for one in shadows.values()} <= returned

    history = service.client.get(f"/v1/models/{MODEL}/history").json()
    kinds = [one["kind"] for one in history["decisions"]]
    assert kinds == ["rolled_back", "promoted", "rollout_changed", "rollout_began"]
    assert service.client.get(f"/v1/models/{MODEL}").json()["aliases"] == {"champion": "1"}


async def test_a_key_stays_with_its_version_in_every_process_while_the_share_grows(service: Service) -> None:
    keys = [f"user-{number}" for number in range(60)]

    async def met() -> set[str]:
        """The keys that the challenger answers, asked over connections that both processes have."""
        found: dict[str, set[str]] = {key: set() for key in keys}
        async with AsyncExitStack() as stack:
            connections = [await stack.enter_async_context(connect(service.port)) for _ in range(6)]
            for key, connection in itertools.product(keys, connections):
                body = {"instances": [PIXELS]}
                connection.send(request(f"/v1/models/{MODEL}/predict", orjson.dumps(body), X_Routing_Key=key))
                found[key].add((await connection.receive()).json()["version"])
        assert all(len(versions) == 1 for versions in found.values())
        return {key for key, versions in found.items() if versions == {"2"}}

    await asyncio.to_thread(expected_of, service)
    before: set[str] = set()
    for share in (0.1, 0.5, 1.0):
        await decide(service, "PUT", "rollout", version="2", stage="canary", share=share)
        now = await met()
        assert before <= now
        before = now
    assert before == set(keys)


async def test_labels_of_what_was_returned_measure_the_shadow_too(service: Service) -> None:
    await asyncio.to_thread(expected_of, service)
    await decide(service, "PUT", "rollout", version="2", stage="shadow", share=1.0)
    told = Told()
    async with load(service, told):
        await asked(told, 60)
    shadows = until(
        lambda: found if len(found := records(service, lambda one: one["role"] == "shadow")) >= 40 else None,
        "the shadow has computed",
    )
    labels = [{"prediction_id": one["paired_with"], "label": one["prediction"]["label"]} for one in shadows.values()]
    assert service.client.post("/v1/feedback", json=labels).status_code == 200

    def measured() -> dict[str, Any] | None:
        query = {"version": "2", "role": "shadow"}
        found: dict[str, Any] = service.client.get(f"/v1/models/{MODEL}/evaluation", params=query).json()
        return found if found.get("n") == len(labels) else None

    found = until(measured, "the labels of the pairs are joined to the shadow")
    assert found["metrics"]["accuracy"]["value"] == 1.0
    answered = service.client.get(f"/v1/models/{MODEL}/evaluation", params={"version": "1"}).json()
    assert answered["n"] == len(labels)
