"""The recorder process shows that its event loop works, whatever its disk and its database do."""

import socket
import time
from pathlib import Path

import pytest

import service.store.recorder
import service.watch.heartbeat
from service.errors import Misconfigured
from service.process.lifetime import EXIT_MISCONFIGURED
from service.settings import Settings
from service.watch.heartbeat import Heartbeat, beating
from tests.patience import PATIENCE
from tests.service.store.recording import Place, until
from tests.stores import a_record

NUM_BEATS = 5


@pytest.fixture(autouse=True)
def _beats_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service.watch.heartbeat, "_EVERY_SECONDS", 0.001)


async def test_a_recorder_beats_while_it_brings_its_tables_up_to_date(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: set[float] = set()

    def migrate(_: object) -> None:
        ends = time.monotonic() + PATIENCE
        while len(seen) < NUM_BEATS and time.monotonic() < ends:
            seen.add(heartbeat.last)
        raise Misconfigured("the test is over")

    monkeypatch.setattr(service.store.recorder, "migrate", migrate)
    with (
        Heartbeat.create(tmp_path / "beat") as heartbeat,
        socket.socket(socket.AF_UNIX) as listener,
        pytest.raises(SystemExit, match=str(EXIT_MISCONFIGURED)),
    ):
        await service.store.recorder._serve(listener, Settings(data_dir=tmp_path), tmp_path / "beat")
    assert len(seen) == NUM_BEATS


async def test_a_recorder_beats_while_a_commit_takes_long(place: Place, tmp_path: Path) -> None:
    seen: set[float] = set()

    def has_beaten() -> bool:
        seen.add(heartbeat.last)
        return len(seen) >= NUM_BEATS

    with Heartbeat.create(tmp_path / "beat") as heartbeat:
        async with beating(tmp_path / "beat"), place.recorder(), place.log() as log:
            place.gate.open.clear()
            log.record([a_record()])
            await until(place.gate.reached.is_set)
            await until(has_beaten)
            assert place.gate.groups == []
            place.gate.open.set()
            await until(place.written)
