"""The whole table of wrong input, over HTTP, several times: each case answered as in the table, in bounded memory."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import checkpoints
from tests.end_to_end.connection import Answer, connect, request
from tests.end_to_end.service import Homes, Service, until
from tests.service.api.support import MAX_BODY_BYTES, MAX_ROWS
from tests.service.api.wrong_input import TABLE, Case

ROUNDS = 5
MEGABYTE = 1 << 20
CASES = [case for cases in TABLE.values() for case in cases]


@pytest.fixture(scope="module")
def strict(new_home: Homes) -> Iterator[Service]:
    """A service with the limits that the table is written for."""
    home = new_home()
    checkpoints.write_one_of_each(home / "data" / "models")
    limits = {"max_body_bytes": MAX_BODY_BYTES, "max_rows_per_request": MAX_ROWS}
    with Service(home, shipped_checkpoints="", **limits) as running:
        running.wait_ready()
        until(lambda: running.metric("servoloop_replicas") == 8, "all versions are loaded")
        # The table's refusals name what there is.
        named = running.client.put("/v1/models/clothes/aliases/candidate", json={"version": "2"})
        assert named.status_code == 200
        yield running


def bytes_of(case: Case) -> bytes:
    content = case.body if isinstance(case.body, bytes) else json.dumps(case.body).encode()
    sent = request(case.path, content, case.content_type or "", **case.headers)
    return sent if case.content_type else sent.replace(b"Content-Type: \r\n", b"")


async def answers(service: Service) -> list[Answer]:
    """What is answered to the table, one request after another on one connection."""
    found = []
    async with connect(service.port) as connection:
        for case in CASES:
            connection.send(bytes_of(case))
            found.append(await connection.receive())
    return found


class Memory:
    """What a process has had in memory at most, from now on."""

    def __init__(self, pid: int) -> None:
        self._folder = Path(f"/proc/{pid}")
        (self._folder / "clear_refs").write_text("5")  # begin the peak anew
        self._before = self._peak()

    def grown(self) -> int:
        """How many bytes more than at first, at the worst moment."""
        return self._peak() - self._before

    def _peak(self) -> int:
        lines = (self._folder / "status").read_text().splitlines()
        return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))


async def test_the_table_is_answered_in_bounded_memory_and_never_reaches_the_engine(strict: Service) -> None:
    assert len(CASES) > 80
    batches = strict.metric("servoloop_batch_rows_count")
    await asyncio.gather(*(answers(strict) for _ in range(2)))  # decoders, threads and caches are made at first use
    memory = Memory(strict.child("http-0"))
    for _ in range(ROUNDS):
        for case, answer in zip(CASES, await answers(strict), strict=True):
            problem = answer.json()
            found = (answer.status, problem.get("field"), problem.get("expected"))
            assert found == (case.status, case.field, case.expected), case.name
            assert case.is_told_by(problem["detail"]), (case.name, problem["detail"])
            assert answer.headers["content-type"] == "application/problem+json", case.name
            assert problem["request_id"] == answer.headers["x-request-id"], case.name
    assert memory.grown() < 16 * MEGABYTE
    assert strict.metric("servoloop_batch_rows_count") == batches
    assert "Traceback" not in strict.errors
