"""More clients than a model can serve."""

import asyncio
import random
import time
from contextlib import AsyncExitStack
from pathlib import Path

from tests.end_to_end.connection import Connection, connect
from tests.end_to_end.service import Service
from tests.faults import slow
from tests.faults.report import Report, percentile

_STEPS = 2_000
MEGABYTE = 1 << 20


async def overload(home: Path, *, clients: int, seconds: float) -> Report:
    """Many clients come one after another, and ask a slow model again and again, through a short queue."""
    slow.write(home / "data" / "models")
    settings = {"shipped_checkpoints": "", "max_queued_rows": 16, "max_batch_rows": 4, "engine_threads": 1}
    with Service(home, **settings) as service:
        await asyncio.to_thread(service.wait_ready)
        before = _resident(service)
        refusals: list[float] = []
        statuses: list[int] = []
        ends = time.monotonic() + seconds

        async def look_half_way() -> int:
            # By then queues and buffers were as full as they get: what grows after that would grow for ever.
            await asyncio.sleep(seconds / 2)
            return _resident(service)

        async def ask(connection: Connection) -> None:
            await asyncio.sleep(random.uniform(0, 1))
            while time.monotonic() < ends:
                begun = time.monotonic()
                connection.send(slow.ask(_STEPS))
                answer = await connection.receive()
                statuses.append(answer.status)
                if answer.status == 503:
                    refusals.append(time.monotonic() - begun)
                    # About 100 refusals a second, and not all at once: benchmarks/latency.py measures bursts.
                    await asyncio.sleep(random.uniform(0, 2 * clients / 100))

        async with AsyncExitStack() as stack:
            connections = [await stack.enter_async_context(connect(service.port)) for _ in range(clients)]
            half_way, *_ = await asyncio.gather(look_half_way(), *(ask(connection) for connection in connections))
        resident = _resident(service)
    late = percentile(refusals, 0.99)
    return Report(
        "overload",
        {
            "answered": statuses.count(200),
            "refused": len(refusals),
            "refusal p50, ms": round(1000 * percentile(refusals, 0.5), 1),
            "refusal p99, ms": round(1000 * late, 1),
            "memory grown, MB": round((resident - before) / MEGABYTE, 1),
            "of it in the second half, MB": round((resident - half_way) / MEGABYTE, 1),
        },
        {
            "answered or refused, nothing else": set(statuses) <= {200, 503},
            "99 % of refusals within 50 ms": late < 0.05,
            # The bodies of all refused requests would be 36 MB in the long form, of all requests 100.
            "memory is bounded": resident - before < 48 * MEGABYTE and resident - half_way < 8 * MEGABYTE,
        },
    )


def _resident(service: Service) -> int:
    pages = [Path(f"/proc/{service.child(slot)}/statm").read_text().split()[1] for slot in ("http-0", "engine-0")]
    return 4096 * sum(map(int, pages))
