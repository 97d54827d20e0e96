"""How an event loop shows that it works."""

import asyncio
from pathlib import Path

import pytest

import service.watch.heartbeat
from service.watch.heartbeat import Heartbeat, beating
from tests.patience import PATIENCE


async def changed(heartbeat: Heartbeat, times: int = 1) -> None:
    """Wait until it has beaten so many times more."""
    async with asyncio.timeout(PATIENCE):
        for _ in range(times):
            before = heartbeat.last
            while heartbeat.last == before:
                await asyncio.sleep(0.001)


async def test_an_event_loop_beats_for_as_long_as_it_is_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service.watch.heartbeat, "_EVERY_SECONDS", 0.001)
    path = tmp_path / "beat"
    with Heartbeat.create(path) as seen:
        async with beating(path):
            await changed(seen, times=3)
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_an_event_loop_whose_beat_nobody_asked_for_runs_without() -> None:
    async with beating(None):
        await asyncio.sleep(0)
