"""What happens when processes die, queues fill, and time runs out."""

import asyncio
import io
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from tests import checkpoints
from tests.end_to_end.service import Homes, Service, increases, until

# Steps of a sequence that keep a core busy for about half a second.
SLOW_STEPS = 20_000
ONE_PICTURE = {"instances": [[[0] * 28] * 28]}


def slow_body() -> bytes:
    file = io.BytesIO()
    np.save(file, np.ones((SLOW_STEPS, 3), np.float32))
    return file.getvalue()


SLOW = {
    "url": "/v1/models/marathon/predict",
    "content": slow_body(),
    "headers": {"Content-Type": "application/x-npy"},
}


def write_models(home: Path) -> None:
    root = home / "data" / "models"
    checkpoints.write_image(root)
    checkpoints.write_steps(root, "marathon", max_length=1_000_000)


@asynccontextmanager
async def clients(service: Service) -> AsyncIterator[httpx.AsyncClient]:
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(base_url=service.url, limits=limits, timeout=90, trust_env=False) as client:
        yield client


async def soon(condition: Any, what: str) -> None:
    """`until`, while requests run in this event loop."""
    await asyncio.to_thread(until, condition, what)


@pytest.fixture(scope="module")
def service(new_home: Homes) -> Iterator[Service]:
    """A service whose processes may be killed, with short queues."""
    home = new_home()
    write_models(home)
    settings = {"shipped_checkpoints": "", "max_queued_rows": 4, "max_batch_rows": 1, "default_timeout_seconds": 60}
    with Service(home, **settings) as running:
        yield running


@pytest.fixture(autouse=True)
def _whole(service: Service) -> None:
    service.wait_ready()


async def test_what_an_engine_held_when_it_was_killed_is_answered_by_its_successor(service: Service) -> None:
    before = service.samples()
    killed = service.child("engine-0")
    async with clients(service) as client:

        async def ask(what: dict[str, Any]) -> list[int]:
            statuses = []
            while not restarted.is_set():
                statuses.append((await client.post(**what)).status_code)
            return statuses

        restarted = asyncio.Event()
        slow = [asyncio.create_task(client.post(**SLOW)) for _ in range(2)]
        fast = [asyncio.create_task(ask({"url": "/v1/models/clothes/predict", "json": ONE_PICTURE})) for _ in range(2)]
        await soon(lambda: service.metric("servoloop_queue_rows", model="marathon") >= 1, "a slow request waits")
        os.kill(killed, signal.SIGKILL)
        await soon(lambda: not service.is_ready(), "the service is unready")
        await soon(service.is_ready, "the service is ready again")
        restarted.set()
        answers = [response.status_code for response in await asyncio.gather(*slow)]
        answers += [status for statuses in await asyncio.gather(*fast) for status in statuses]

    assert set(answers) == {200}
    assert service.child("engine-0") != killed
    after = service.samples()
    assert increases(before, after)

    def grown(name: str, **labels: str) -> float:
        return sum(
            sign * value
            for sign, samples in ((1, after), (-1, before))
            for sample, with_labels, value in samples
            if sample == name and labels.items() <= with_labels.items()
        )

    assert grown("servoloop_process_restarts_total", slot="engine-0") == 1
    assert grown("servoloop_requests_resent_total") >= 2
    assert grown("servoloop_requests_total", outcome="ok") == len(answers)


def test_an_http_process_that_was_killed_comes_back_on_the_same_port(service: Service) -> None:
    assert service.client.post("/v1/models/clothes/predict", json=ONE_PICTURE).status_code == 200
    before = service.samples()
    killed = service.kill_child("http-0")
    until(lambda: service.is_ready() and service.child("http-0") != killed, "another http process is ready")
    assert service.client.post("/v1/models/clothes/predict", json=ONE_PICTURE).status_code == 200
    after = service.samples()
    assert increases(before, after)
    assert ("servoloop_process_restarts_total", {"slot": "http-0", "cause": "outside"}, 1.0) in after


async def test_time_that_runs_out_is_504(service: Service) -> None:
    async with clients(service) as client:
        response = await client.post(**SLOW, params={"timeout_ms": 1})
    assert response.status_code == 504
    assert response.json()["type"] == "urn:servoloop:problem:deadline-exceeded"
    assert service.metric("servoloop_requests_total", model="marathon", outcome="deadline_exceeded") >= 1


async def test_a_full_queue_is_refused_while_what_was_accepted_is_answered(service: Service) -> None:
    async with clients(service) as client:
        asked = [asyncio.create_task(client.post(**SLOW)) for _ in range(16)]
        ended = [await one for one in asyncio.as_completed(asked)]
    refused = [response for response in ended if response.status_code == 503]
    statuses = [response.status_code for response in ended]
    assert set(statuses) == {200, 503}
    assert len(refused) >= 4
    assert statuses.count(200) >= 4
    assert statuses[-1] == 200, "they were refused while others waited for their answers"
    for response in refused:
        assert response.headers["retry-after"]
        assert response.json()["type"] == "urn:servoloop:problem:queue-full"


async def test_told_to_stop_it_answers_what_it_accepted_and_leaves_nothing(new_home: Homes) -> None:
    home = new_home()
    write_models(home)
    with Service(home, shipped_checkpoints="") as service:
        service.wait_ready()
        assert len(service.children_alive()) == 4
        async with clients(service) as client:
            accepted = [asyncio.create_task(client.post(**SLOW)) for _ in range(3)]
            await soon(lambda: service.metric("servoloop_queue_rows", model="marathon") >= 1, "a request waits")
            code = await asyncio.to_thread(service.stop)
            statuses = [response.status_code for response in await asyncio.gather(*accepted)]
        assert statuses == [200] * 3
        assert code == 0
        assert service.children_alive() == []
        assert service.leftovers() == []
        assert "Traceback" not in service.errors


def test_a_version_that_appears_on_disk_does_not_become_champion(new_home: Homes) -> None:
    home = new_home()
    write_models(home)
    with Service(home, shipped_checkpoints="") as service:
        until(service.is_up, "the first service has seen version 1")
    checkpoints.write_image(home / "data" / "models", version=2)
    with Service(home, shipped_checkpoints="") as service:
        until(service.is_up, "the second service has seen both")
        body = service.client.get("/v1/models/clothes").json()
        assert body["aliases"] == {"champion": "1"}
        assert [version["version"] for version in body["versions"]] == ["1", "2"]
        # Nobody waited until it is ready: the request does, within its time.
        answer = service.post("clothes", ONE_PICTURE["instances"], timeout_ms=60_000).json()
        assert answer["version"] == "1"


def test_when_the_supervisor_is_killed_its_children_end_by_themselves(new_home: Homes) -> None:
    home = new_home()
    write_models(home)
    with Service(home, shipped_checkpoints="") as service:
        service.wait_ready()
        assert len(service.children_alive()) == 4
        service.kill()
        assert service.exit_code() == -signal.SIGKILL
        until(lambda: not service.children_alive(), "the children ended by themselves")
        [left_behind] = service.leftovers()
    with Service(home, shipped_checkpoints="") as service:
        until(service.is_up, "the next service is up")
        assert left_behind not in service.leftovers()


# `servoloop serve` where a look at the checkpoints takes longer than anybody waits.
SLOW_LOOK = """
import asyncio, time
import service.supervisor
from service.settings import Settings

def look(_):
    print("looking", flush=True)
    time.sleep(1000)

service.supervisor.Scanner.scan = look
asyncio.run(service.supervisor.Supervisor(Settings()).run(on_ready=lambda *_: None))
print("ended in order")
"""


def test_told_to_stop_it_waits_for_no_look_at_its_checkpoints(new_home: Homes) -> None:
    home = new_home()
    environment = {**os.environ, "SERVOLOOP_DATA_DIR": str(home / "data"), "SERVOLOOP_PORT": "0", "TMPDIR": str(home)}
    with subprocess.Popen([sys.executable, "-c", SLOW_LOOK], stdout=subprocess.PIPE, env=environment) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"looking\n"
            process.terminate()
            output, _ = process.communicate(timeout=30)
        finally:
            process.kill()
    assert (process.returncode, output) == (0, b"ended in order\n")
