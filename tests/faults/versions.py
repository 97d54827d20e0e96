"""Versions that change places, or fight for room, while they are asked."""

import asyncio
import math
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import orjson

from models.manifest import WEIGHTS
from tests import checkpoints
from tests.end_to_end.connection import Connection, connect, request
from tests.end_to_end.service import Service
from tests.faults.report import Report, percentile

MODEL, VERSIONS = "sensors", (1, 2)
BODY = {"instances": [[1.0, 2.0, 3.0, 4.0]], "parameters": {"return_probabilities": True}}
SEEN_MS = 250.0
_PROBES = 8
CROWDED, _PLACES, _CLIENTS_EACH = ("one", "two", "three", "four"), 1.5, 4
_PAUSE_SECONDS = 0.02


@dataclass
class Answers:
    """What clients were told: by which version, and what."""

    told: list[tuple[str, dict[str, float]]] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    seen_ms: list[float] = field(default_factory=list)
    """From an answered change of the champion until every process answers by it."""

    def take(self, status: int, body: bytes) -> str:
        """Note an answer; which version gave it, "" for none."""
        if status != 200:
            self.failed.append(body.decode())
            return ""
        answer = orjson.loads(body)
        version: str = answer["version"]
        self.told.append((version, answer["predictions"][0]["probabilities"]))
        return version

    def mixed(self, expected: dict[str, dict[str, float]]) -> int:
        """Answers that are not what the version they name answers."""
        return sum(
            not all(math.isclose(value, expected[version][label], abs_tol=1e-5) for label, value in found.items())
            for version, found in self.told
        )


def start(home: Path, **settings: object) -> Service:
    """Two http processes over two versions of one model."""
    for version in VERSIONS:
        checkpoints.write_vector(home / "data" / "models", MODEL, version=version)
    return Service(home, "--http-processes", "2", shipped_checkpoints="", **settings)


def expected_of(service: Service) -> dict[str, dict[str, float]]:
    """What each version answers when it is asked by name."""
    found = {}
    for version in VERSIONS:
        answer = service.client.post(f"/v1/models/{MODEL}/versions/{version}/predict", json=BODY).json()
        found[str(version)] = answer["predictions"][0]["probabilities"]
    return found


async def swap(service: Service, swaps: int, clients: int, done: Callable[[], None] = lambda: None) -> Answers:
    """Change the champion again and again while clients ask, the next one loaded anew each time."""
    answers, swapping = Answers(), True
    asking = request(f"/v1/models/{MODEL}/predict", orjson.dumps(BODY))

    async def ask() -> None:
        async with connect(service.port) as connection:
            while swapping:
                connection.send(asking)
                answer = await connection.receive()
                answers.take(answer.status, answer.body)

    async with AsyncExitStack() as stack:
        probes = [await stack.enter_async_context(connect(service.port)) for _ in range(_PROBES)]
        operator = await stack.enter_async_context(
            httpx.AsyncClient(base_url=f"{service.url}/v1/models/{MODEL}", trust_env=False, timeout=60)
        )
        asked = [asyncio.create_task(ask()) for _ in range(clients)]
        for number in range(swaps):
            version = str(VERSIONS[(number + 1) % 2])
            for method, path, body in (
                ("POST", f"/versions/{version}/reload", {}),
                ("PUT", "/aliases/champion", {"version": version}),
            ):
                answer = await operator.request(method, path, json=body)
                if answer.status_code != 200:
                    answers.failed.append(answer.text)
            answers.seen_ms.append(await seen_everywhere(probes, asking, version, answers))
            done()
        swapping = False
        await asyncio.gather(*asked)
    return answers


async def seen_everywhere(probes: list[Connection], asking: bytes, version: str, answers: Answers) -> float:
    """Milliseconds until no process answers by the version before."""
    moved = time.monotonic()

    async def until_seen(probe: Connection) -> None:
        while True:
            probe.send(asking)
            answer = await probe.receive()
            if answers.take(answer.status, answer.body) == version:
                return

    await asyncio.gather(*map(until_seen, probes))
    return 1000 * (time.monotonic() - moved)


async def swap_often(home: Path, swaps: int, done: Callable[[], None]) -> Report:
    """`swaps` changes of the champion under load."""
    with start(home) as service:
        await asyncio.to_thread(service.wait_ready)
        await asyncio.to_thread(load_both, service)
        expected = await asyncio.to_thread(expected_of, service)
        answers = await swap(service, swaps, clients=8, done=done)
        mixed = answers.mixed(expected)
    return Report(
        "champion changed under load",
        {
            "changes, each with a load": swaps,
            "answers": len(answers.told),
            "failed": len(answers.failed),
            "answers that mix versions": mixed,
            "seen by both http processes, ms p50": round(percentile(answers.seen_ms, 0.5), 1),
            "longest": round(max(answers.seen_ms), 1),
        },
        {
            "nothing fails": not answers.failed,
            "no answer mixes versions": mixed == 0,
            "both versions answered": {version for version, _ in answers.told} == {"1", "2"},
            f"p99 seen by all within {SEEN_MS:.0f} ms": percentile(answers.seen_ms, 0.99) < SEEN_MS,
        },
    )


def load_both(service: Service) -> None:
    """Have both versions answer."""
    for version in VERSIONS:
        service.client.post(f"/v1/models/{MODEL}/versions/{version}/load").raise_for_status()


async def crowd(home: Path, requests: int, done: Callable[[], None] = lambda: None) -> Report:
    """More models than there is room for, each asked by clients of its own, all at once."""
    root = home / "data" / "models"
    for name in CROWDED:
        checkpoints.write_image(root, name)
    budget = int(_PLACES * (root / CROWDED[0] / "1" / WEIGHTS).stat().st_size)
    statuses: list[int] = []
    seconds: list[float] = []
    resident: list[float] = []
    body: dict[str, Any] = {"instances": [[[0] * 28] * 28]}
    with Service(home, shipped_checkpoints="", model_memory_bytes=budget) as service:
        await asyncio.to_thread(service.wait_ready)
        async with httpx.AsyncClient(base_url=service.url, trust_env=False, timeout=60) as client:

            async def ask(name: str) -> None:
                while len(statuses) < requests:
                    started = time.monotonic()
                    answer = await client.post(f"/v1/models/{name}/predict", json=body)
                    seconds.append(time.monotonic() - started)
                    statuses.append(answer.status_code)
                    done()
                    await asyncio.sleep(_PAUSE_SECONDS)

            async def look() -> None:
                while len(statuses) < requests:
                    resident.append(await asyncio.to_thread(service.metric, "servoloop_resident_bytes"))
                    await asyncio.sleep(_PAUSE_SECONDS)

            await asyncio.gather(look(), *(ask(name) for name in CROWDED for _ in range(_CLIENTS_EACH)))
        evictions = service.metric("servoloop_evictions_total")
        restarts = service.metric("servoloop_process_restarts_total")
    return Report(
        "more models than there is room for",
        {
            "requests": len(statuses),
            "answered": statuses.count(200),
            "p50, s": round(percentile(seconds, 0.5), 3),
            "slowest, s": round(max(seconds), 2),
            "evictions": int(evictions),
            "budget, bytes": budget,
            "most resident, bytes": int(max(resident)),
        },
        {
            "every request is answered": statuses.count(200) == len(statuses),
            "the budget holds": max(resident) <= budget,
            "versions came and went": evictions > 0,
            "no process ended": restarts == 0,
        },
    )
