"""Versions that are put on trial, promoted and rolled back, again and again, while they are asked."""

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path

import httpx
import orjson

from tests.end_to_end.connection import connect, request
from tests.end_to_end.service import Service
from tests.faults.report import Report, percentile
from tests.faults.versions import (
    BODY,
    MODEL,
    SEEN_MS,
    VERSIONS,
    Answers,
    expected_of,
    load_both,
    seen_everywhere,
    start,
)

_CLIENTS, _PROBES, _SHARE = 8, 8, 0.5


async def roll_out(service: Service, rounds: int, done: Callable[[], None]) -> Answers:
    """In each round a canary and then its promotion, or, every second time, its rollback."""
    answers, rolling = Answers(), True
    asking = request(f"/v1/models/{MODEL}/predict", orjson.dumps(BODY))

    async def ask() -> None:
        async with connect(service.port) as connection:
            while rolling:
                connection.send(asking)
                answer = await connection.receive()
                answers.take(answer.status, answer.body)

    async with AsyncExitStack() as stack:
        probes = [await stack.enter_async_context(connect(service.port)) for _ in range(_PROBES)]
        operator = await stack.enter_async_context(
            httpx.AsyncClient(base_url=f"{service.url}/v1/models/{MODEL}", trust_env=False, timeout=60)
        )
        asked = [asyncio.create_task(ask()) for _ in range(_CLIENTS)]
        champion, challenger = map(str, VERSIONS)
        for number in range(rounds):
            verb = "rollback" if number % 2 else "promote"
            for method, path, body in (
                ("PUT", "/rollout", {"version": challenger, "stage": "canary", "share": _SHARE}),
                ("POST", f"/{verb}", {}),
            ):
                answer = await operator.request(method, path, json=body)
                if answer.status_code != 200:
                    answers.failed.append(answer.text)
            if verb == "promote":
                champion, challenger = challenger, champion
            answers.seen_ms.append(await seen_everywhere(probes, asking, champion, answers))
            done()
        rolling = False
        await asyncio.gather(*asked)
    return answers


async def roll_out_often(home: Path, rounds: int, done: Callable[[], None]) -> Report:
    """`rounds` trials under load, of which every second one is rolled back."""
    with start(home) as service:
        await asyncio.to_thread(service.wait_ready)
        await asyncio.to_thread(load_both, service)
        expected = await asyncio.to_thread(expected_of, service)
        answers = await roll_out(service, rounds, done)
        mixed = answers.mixed(expected)
        fallbacks = await asyncio.to_thread(service.metric, "servoloop_canary_fallbacks_total")
        decisions = (await asyncio.to_thread(service.client.get, f"/v1/models/{MODEL}/history?limit=1000")).json()
    return Report(
        "trials begun, promoted and rolled back under load",
        {
            "trials": rounds,
            "answers": len(answers.told),
            "failed": len(answers.failed),
            "answers that mix versions": mixed,
            "answered by the champion instead": int(fallbacks),
            "champion answers all, ms p50": round(percentile(answers.seen_ms, 0.5), 1),
            "longest": round(max(answers.seen_ms), 1),
        },
        {
            "nothing fails": not answers.failed,
            "no answer mixes versions": mixed == 0,
            "both versions answered": {version for version, _ in answers.told} == {"1", "2"},
            "every decision is in the history": len(decisions["decisions"]) == 2 * rounds,
            f"p99 seen by all within {SEEN_MS:.0f} ms": percentile(answers.seen_ms, 0.99) < SEEN_MS,
        },
    )
