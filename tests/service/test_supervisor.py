"""What the supervisor says of a start that takes long."""

import asyncio
import logging

import pytest

from service.registry.catalog import Catalog
from service.settings import Settings
from service.supervisor import Supervisor
from tests.patience import PATIENCE

WAITING = '{"ready":false,"waiting_for":{"mood":"its engine is loading it"},"broken":{}}'


async def test_what_a_start_waits_for_is_said_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("service.supervisor._SAY_AFTER_SECONDS", 0.0)
    answers = [f"503 Unavailable\r\nContent-Length: {len(WAITING)}\r\n\r\n{WAITING}"] * 3
    answers.append("200 OK\r\nContent-Length: 0\r\n\r\n")

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.readuntil(b"\r\n\r\n"):
            writer.write(f"HTTP/1.1 {answers.pop(0)}".encode())
            if not answers:
                break
        writer.close()

    announced: list[str] = []
    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server, asyncio.timeout(PATIENCE):
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        with caplog.at_level(logging.WARNING, "service.supervisor"):
            await Supervisor(Settings())._announce(url, Catalog(), lambda url, _: announced.append(url))
    assert announced == [url]
    [record] = caplog.records
    assert record.__dict__["readyz"] == WAITING
