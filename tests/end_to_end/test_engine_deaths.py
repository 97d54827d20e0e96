"""Engines that die, freeze or are asked too much, with an installed architecture that does so when it is told to."""

import asyncio
import functools
import os
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import checkpoints
from tests.end_to_end.connection import connect
from tests.end_to_end.plugins.fragile_family import ENDS_THE_PROCESS, NEEDS_MEMORY, RAISES
from tests.end_to_end.service import Homes, Service, until

WATCHDOG_SECONDS = 2.0
SECONDS_A_ROW = 0.05
_PLUGINS = Path(__file__).parent / "plugins"


def write_fragile(root: Path, model: str, **config: Any) -> None:
    checkpoints.write(
        root,
        model,
        architecture={"family": "fragile", "config": {"inputs": 2, "outputs": 1, **config}},
        task="embedding",
        input={"kind": "tensor", "shape": [2]},
    )


@pytest.fixture(scope="module")
def service(new_home: Homes) -> Iterator[Service]:
    home = new_home()
    root = home / "data" / "models"
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(_PLUGINS))
        patch.setenv("PYTHONPATH", str(_PLUGINS), prepend=os.pathsep)
        write_fragile(root, "fragile")
        write_fragile(root, "slow", seconds_a_row=SECONDS_A_ROW)
        settings = {"shipped_checkpoints": "", "watchdog_seconds": WATCHDOG_SECONDS, "max_queued_rows": 512}
        with Service(home, **settings) as running:
            yield running


@pytest.fixture(autouse=True)
def _whole(service: Service) -> None:
    service.wait_ready()


class Totals:
    """How much counters have grown since this was made."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._before = service.samples()

    def __call__(self, name: str, **labels: str) -> float:
        before = sum(value for sample, has, value in self._before if sample == name and labels.items() <= has.items())
        return self._service.metric(name, **labels) - before


async def ask(service: Service, model: str, *rows: list[float], seconds: float = 60) -> tuple[int, Any]:
    async with connect(service.port) as connection:
        body = {"instances": list(rows), "parameters": {"timeout_ms": seconds * 1000}}
        return await connection.post(f"/v1/models/{model}/predict", body)


def sums(answer: Any) -> list[float | None]:
    return [one["embedding"][0] if "embedding" in one else None for one in answer["predictions"]]


async def test_an_input_that_ends_its_engine_is_quarantined_while_its_neighbours_are_answered(service: Service) -> None:
    grown = Totals(service)
    poison = [ENDS_THE_PROCESS, 1.0]
    together = asyncio.create_task(ask(service, "fragile", *([float(n), 1.0] for n in range(7)), poison))
    beside = [asyncio.create_task(ask(service, "fragile", [float(n), 2.0])) for n in range(20)]
    status, answer = await together
    assert status == 200
    assert sums(answer) == [n + 1.0 for n in range(7)] + [None]
    assert answer["predictions"][-1]["error"]["type"] == "quarantined_input"
    answers = await asyncio.gather(*beside)
    assert [(status, sums(answer)) for status, answer in answers] == [(200, [n + 2.0]) for n in range(20)]
    # Once among others, which made it a suspect, and twice alone.
    assert grown("servoloop_process_restarts_total", slot="engine-0", cause="crash") == 3
    assert grown("servoloop_quarantined_inputs_total", model="fragile") == 1

    status, problem = await ask(service, "fragile", poison)
    assert (status, problem["type"]) == (422, "urn:servoloop:problem:quarantined-input")
    status, answer = await ask(service, "fragile", poison, [1.0, 1.0])
    assert (status, sums(answer)) == (200, [None, 2.0])
    assert grown("servoloop_process_restarts_total", slot="engine-0") == 3
    assert grown("servoloop_versions_withdrawn_total") == 0


async def test_a_stopped_engine_is_unready_and_replaced(service: Service) -> None:
    grown = Totals(service)
    stopped = service.child("engine-0")
    os.kill(stopped, signal.SIGSTOP)
    asked = [asyncio.create_task(ask(service, "fragile", [float(n), 1.0])) for n in range(5)]
    await asyncio.to_thread(until, lambda: not service.is_ready(), "it is unready")
    assert [status for status, _ in await asyncio.gather(*asked)] == [200] * 5
    await asyncio.to_thread(service.wait_ready)
    assert service.child("engine-0") != stopped
    assert grown("servoloop_process_restarts_total", slot="engine-0", cause="silent") == 1
    assert grown("servoloop_quarantined_inputs_total") == 0


async def test_engines_that_are_killed_under_load_cost_no_answer_and_condemn_nobody(service: Service) -> None:
    grown = Totals(service)
    statuses: Counter[int] = Counter()
    over = asyncio.Event()

    async def client(number: int) -> None:
        async with connect(service.port) as connection:
            while not over.is_set():
                body = {"instances": [[float(number), 1.0]], "parameters": {"timeout_ms": 10_000}}
                status, answer = await connection.post("/v1/models/fragile/predict", body)
                statuses[status] += 1
                assert status != 200 or sums(answer) == [number + 1.0]

    clients = [asyncio.create_task(client(number)) for number in range(8)]
    for _ in range(3):
        answered = statuses.total()
        service.kill_child("engine-0")
        await asyncio.to_thread(until, lambda answered=answered: statuses.total() > answered + 50, "answers come again")
    over.set()
    await asyncio.gather(*clients)
    assert statuses.keys() == {200}
    assert grown("servoloop_process_restarts_total", slot="engine-0", cause="outside") == 3
    assert grown("servoloop_requests_resent_total") > 0
    assert grown("servoloop_quarantined_inputs_total") == 0
    assert grown("servoloop_versions_withdrawn_total") == 0


async def test_of_a_thousand_poisoned_rows_each_fails_alone_in_its_batch_of_32(service: Service) -> None:
    pending = iter(range(1000))

    async def client() -> None:
        async with connect(service.port) as connection:
            for number in pending:
                rows = [[float(n), 1.0] for n in range(32)]
                rows[number % 32] = [RAISES, 1.0]
                status, answer = await connection.post("/v1/models/fragile/predict", {"instances": rows})
                expected = [None if n == number % 32 else n + 1.0 for n in range(32)]
                assert (status, sums(answer)) == (200, expected)

    await asyncio.gather(*(client() for _ in range(4)))


async def test_where_memory_does_not_suffice_smaller_batches_answer(service: Service) -> None:
    grown = Totals(service)
    status, answer = await ask(service, "fragile", [1.0, 1.0], [NEEDS_MEMORY, 1.0], [2.0, 1.0])
    assert (status, sums(answer)) == (200, [2.0, NEEDS_MEMORY + 1, 3.0])
    assert grown("servoloop_batch_cap_reductions_total", model="fragile") == 1


async def test_what_can_not_be_in_time_is_refused_and_never_runs(service: Service) -> None:
    for _ in range(3):
        assert (await ask(service, "slow", [1.0, 1.0]))[0] == 200
    grown = Totals(service)
    hopeless = await asyncio.gather(*(ask(service, "slow", [1.0, 1.0], seconds=SECONDS_A_ROW / 5) for _ in range(20)))
    assert {status for status, _ in hopeless} == {504}
    assert grown("servoloop_batch_rows_sum", model="slow") == 0

    # Five seconds of work that has to be done in one; how many of them fit depends on how fast they arrive.
    crowd = [asyncio.create_task(ask(service, "slow", [1.0, 1.0], seconds=1)) for _ in range(100)]
    statuses = Counter([status for status, _ in await asyncio.gather(*crowd)])
    num_refused = statuses[503]
    assert statuses.keys() <= {200, 503, 504}
    assert num_refused > 0
    refused = functools.partial(grown, "servoloop_dropped_rows_total", model="slow", reason="overloaded")
    await asyncio.to_thread(until, lambda: refused() == num_refused, "all that were refused are counted")
    assert grown("servoloop_batch_rows_sum", model="slow") <= len(crowd) - num_refused


async def test_a_version_that_ends_its_engine_while_it_is_loaded_is_taken_out_and_no_other(service: Service) -> None:
    grown = Totals(service)
    write_fragile(service.home / "data" / "models", "doomed", ends_its_loader=True)
    await asyncio.to_thread(until, lambda: grown("servoloop_versions_withdrawn_total", model="doomed"), "it is out")
    status, answer = await ask(service, "fragile", [1.0, 1.0])
    assert (status, sums(answer)) == (200, [2.0])
    status, problem = await ask(service, "doomed", [1.0, 1.0])
    assert (status, "its engine ended 3 times" in problem["detail"]) == (503, True)
    assert grown("servoloop_versions_withdrawn_total") == 1
    assert grown("servoloop_process_restarts_total", slot="engine-0", cause="crash") == 3
