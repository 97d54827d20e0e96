import asyncio
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from service.domain import Ref
from service.process.lifetime import EXIT_DEVICE_LOST
from service.telemetry.instruments import SupervisorTelemetry
from service.watch.blackbox import Doing, RowId, Running
from service.watch.evidence import Cause, Death
from service.watch.folder import WatchFolder
from service.watch.keeper import EngineKeeper, cause_of
from service.watch.watchdog import TICK_SECONDS, Watchdog, is_stopped
from tests.fakes import ManualClock, sample
from tests.patience import PATIENCE

REF, OTHER = Ref("m", 1), Ref("n", 1)


class Watched:
    """An engine that is looked at in regular ticks."""

    def __init__(self) -> None:
        self.watchdog = Watchdog(silent_seconds=5.0)
        self.now = 1000.0
        self.beat = 1000.0
        self.tick = TICK_SECONDS

    def watch(self, seconds: float, *running: Running, beats: bool = True, stopped: bool = False) -> float:
        """Watch for some time; after how many seconds it had to be ended, or infinity."""
        began = self.now
        while self.now < began + seconds:
            if beats:
                self.beat = self.now
            if (stuck := self.watchdog.judge(self.beat, running, self.now, is_stopped=stopped)) is not None:
                self.cause, self.stuck_in = stuck.cause, stuck.runs
                return self.now - began
            self.now += self.tick
        return float("inf")


@pytest.fixture
def engine() -> Watched:
    return Watched()


def running(doing: Doing = Doing.BATCH, *, ref: Ref = REF, predicted: float = 0.0, started: float = 999.0) -> Running:
    return Running(doing, ref, started, predicted, rows=((int(started), 0),) if doing is Doing.BATCH else ())


def test_an_engine_that_beats_lives(engine: Watched) -> None:
    assert engine.watch(3600) == float("inf")


@pytest.mark.parametrize(("stopped", "cause"), [(True, Cause.SILENT), (False, Cause.HANG)])
def test_an_engine_that_falls_silent_is_ended_and_its_batch_accused_only_if_it_was_not_stopped(
    engine: Watched, stopped: bool, cause: Cause
) -> None:
    engine.watch(10)
    assert engine.watch(60, running(), beats=False, stopped=stopped) == pytest.approx(5, abs=3 * TICK_SECONDS)
    assert engine.cause is cause


def test_silence_between_batches_accuses_nothing(engine: Watched) -> None:
    engine.watch(10)
    assert engine.watch(60, beats=False) == pytest.approx(5, abs=3 * TICK_SECONDS)
    assert engine.cause is Cause.SILENT


def test_starting_may_take_longer(engine: Watched) -> None:
    engine.beat = 0.0
    assert engine.watch(600, beats=False) == pytest.approx(120, abs=1)


@pytest.mark.parametrize(
    ("run", "seconds"),
    [
        (running(), 30),
        (running(predicted=0.5), 30),
        (running(predicted=5.0), 100),
        (running(Doing.LOAD), 600),
    ],
)
def test_a_run_may_take_half_a_minute_or_twenty_times_what_was_expected(
    engine: Watched, run: Running, seconds: float
) -> None:
    engine.watch(1)
    assert seconds < engine.watch(3600, run) < seconds + 1
    assert engine.cause is Cause.HANG


def test_a_supervisor_that_looks_late_sees_a_hang_as_soon(engine: Watched) -> None:
    engine.tick = 2 * TICK_SECONDS
    assert engine.watch(3600, running()) == pytest.approx(30, abs=1)


def test_a_run_is_not_overdue_while_its_process_is_stopped(engine: Watched) -> None:
    engine.watch(28, running())
    assert engine.watch(4, running(), beats=False, stopped=True) == float("inf")


def test_short_silences_are_no_long_one(engine: Watched) -> None:
    for _ in range(10):
        engine.watch(2)
        assert engine.watch(2, beats=False) == float("inf")


def test_a_run_that_begins_between_two_beats_and_freezes_the_process_is_accused(engine: Watched) -> None:
    engine.watch(10)
    engine.watch(0.75, beats=False)
    engine.watch(60, running(), beats=False)
    assert engine.cause is Cause.HANG


def test_many_short_runs_are_no_long_one(engine: Watched) -> None:
    for number in range(100):
        assert engine.watch(20, running(started=number)) == float("inf")


def test_where_the_whole_machine_stood_still_the_engine_is_not_to_blame(engine: Watched) -> None:
    engine.watch(28, running())
    engine.now += 3600
    assert engine.watch(1, running()) == float("inf")


def test_of_runs_side_by_side_each_has_its_time_and_only_the_overdue_one_is_blamed(engine: Watched) -> None:
    stuck = running(started=1.0)
    for number in range(2, 8):
        engine.watch(4.0, running(started=float(number)), stuck)
    assert engine.watch(3600, running(started=9.0), stuck) == pytest.approx(30 - 24, abs=2)
    assert (engine.cause, engine.stuck_in) == (Cause.HANG, (stuck,))


def test_of_runs_that_are_overdue_at_once_each_is_blamed(engine: Watched) -> None:
    overdue, slow = (running(started=1.0), running(started=2.0)), running(started=3.0, predicted=5.0)
    assert engine.watch(3600, *overdue, slow) == pytest.approx(30, abs=1)
    assert (engine.cause, engine.stuck_in) == (Cause.HANG, overdue)


def test_a_load_that_hangs_is_blamed_and_not_the_batches_beside_it(engine: Watched) -> None:
    load = running(Doing.LOAD, ref=OTHER)
    for number in range(59):
        assert engine.watch(10, running(started=number), load) == float("inf")
    assert engine.watch(3600, running(started=60), load) == pytest.approx(10, abs=2)
    assert (engine.cause, engine.stuck_in) == (Cause.HANG, (load,))


def test_a_batch_that_hangs_is_blamed_and_not_the_load_beside_it(engine: Watched) -> None:
    batch = running()
    assert engine.watch(3600, batch, running(Doing.LOAD, ref=OTHER)) == pytest.approx(30, abs=1)
    assert (engine.cause, engine.stuck_in) == (Cause.HANG, (batch,))


def test_where_all_of_the_process_froze_no_run_is_known_to_be_the_one(engine: Watched) -> None:
    runs = running(started=1.0), running(started=2.0)
    engine.watch(10, *runs)
    engine.watch(60, *runs, beats=False)
    assert (engine.cause, engine.stuck_in) == (Cause.HANG, runs)


def test_an_engine_that_falls_silent_while_it_loads_accuses_no_batch(engine: Watched) -> None:
    runs = running(), running(Doing.LOAD, ref=OTHER)
    engine.watch(10, *runs)
    engine.watch(60, *runs, beats=False)
    assert Death(1, engine.cause, engine.stuck_in, engine.now).versions == {OTHER}


@pytest.mark.parametrize(
    ("code", "told", "cause"),
    [
        (1, False, Cause.CRASH),
        (0, False, Cause.CRASH),
        (0, True, Cause.OUTSIDE),
        (EXIT_DEVICE_LOST, False, Cause.DEVICE),
        (-signal.SIGSEGV, False, Cause.CRASH),
        (-signal.SIGABRT, False, Cause.CRASH),
        (-signal.SIGBUS, False, Cause.CRASH),
        (-signal.SIGFPE, False, Cause.CRASH),
        (-signal.SIGILL, False, Cause.CRASH),
        (-signal.SIGSYS, False, Cause.CRASH),
        (-signal.SIGKILL, False, Cause.OUTSIDE),
        (-signal.SIGTERM, False, Cause.OUTSIDE),
        (-signal.SIGHUP, False, Cause.OUTSIDE),
    ],
)
def test_why_a_process_ended(code: int, told: bool, cause: Cause) -> None:
    assert cause_of(code, told_to_stop=told) is cause


# With a real process


@pytest.fixture
async def process() -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", "input()", stdin=asyncio.subprocess.PIPE)
    yield process
    if process.returncode is None:
        process.kill()
        await process.wait()


@pytest.fixture
def keeper(tmp_path: Path, registry: CollectorRegistry) -> EngineKeeper:
    return EngineKeeper(tmp_path, max_rows=8, lanes=2, silent_seconds=0.1, telemetry=SupervisorTelemetry(registry))


def test_there_is_a_lane_for_each_batch_and_one_for_what_is_loaded(keeper: EngineKeeper) -> None:
    with folder_of(keeper.begin()).black_box() as box:
        assert box.lanes == 3


def folder_of(arguments: list[str]) -> WatchFolder:
    assert arguments[0] == "--watch"
    return WatchFolder(Path(arguments[1]))


async def test_a_process_that_is_stopped_is_seen_to_be(process: asyncio.subprocess.Process) -> None:
    assert not is_stopped(process.pid)
    process.send_signal(signal.SIGSTOP)
    async with asyncio.timeout(PATIENCE):
        while not is_stopped(process.pid):
            await asyncio.sleep(0)
    assert not is_stopped(2**22 + 1)


async def test_a_process_that_falls_silent_is_killed(keeper: EngineKeeper, process: asyncio.subprocess.Process) -> None:
    with folder_of(keeper.begin()).heartbeat() as heartbeat:
        heartbeat.beat(1.0)
        await asyncio.wait_for(keeper.watch(process), PATIENCE)
    assert await process.wait() == -signal.SIGKILL
    assert keeper.end(-signal.SIGKILL) is Cause.SILENT
    keeper.begin()
    assert keeper.end(3) is Cause.CRASH  # the next one is judged by its own end


async def test_of_a_process_that_was_stopped_nothing_is_accused(
    keeper: EngineKeeper, process: asyncio.subprocess.Process
) -> None:
    process.send_signal(signal.SIGSTOP)
    folder = folder_of(keeper.begin())
    with folder.heartbeat() as heartbeat, folder.black_box() as box:
        heartbeat.beat(1.0)
        box.write(running())
        await asyncio.wait_for(keeper.watch(process), PATIENCE)
    assert keeper.end(await process.wait()) is Cause.SILENT


def test_the_end_of_a_process_that_was_told_to_stop_is_nobodys_fault(keeper: EngineKeeper) -> None:
    with folder_of(keeper.begin()).black_box() as box:
        box.write(running())
        box.stopping()
    assert keeper.end(-signal.SIGSEGV) is Cause.OUTSIDE


def test_of_a_process_that_never_started_nothing_is_left(keeper: EngineKeeper, tmp_path: Path) -> None:
    keeper.begin()
    assert [folder_of(keeper.begin()).path] == list(tmp_path.iterdir())


def test_each_version_that_is_taken_out_is_counted_once(keeper: EngineKeeper, registry: CollectorRegistry) -> None:
    for number in range(5):
        with folder_of(keeper.begin()).black_box() as box:
            box.write(running(started=number))
        keeper.end(3)
    assert sample(registry, "servoloop_versions_withdrawn_total", {"model": "m", "version": "1"}) == 1


SUSPECT = Running(Doing.BATCH, REF, 1.0, predicted=600.0, rows=((1, 0),), digest=b"p" * 16)


@pytest.mark.parametrize(
    ("runs", "suspects", "version"),
    [
        ((running(started=1.0), running(ref=OTHER, started=2.0, predicted=5.0)), ((1, 0),), REF),
        ((running(started=1.0), running(Doing.LOAD, ref=OTHER)), ((1, 0),), REF),
        ((running(predicted=600.0), running(Doing.LOAD, ref=OTHER)), (), OTHER),
        ((SUSPECT, running(Doing.LOAD, ref=OTHER)), (), OTHER),
    ],
    ids=["a batch beside another", "a batch beside a load", "a load beside a batch", "a load beside a suspect"],
)
async def test_of_a_hang_only_what_was_overdue_counts(
    tmp_path: Path,
    registry: CollectorRegistry,
    process: asyncio.subprocess.Process,
    runs: tuple[Running, Running],
    suspects: tuple[RowId, ...],
    version: Ref,
) -> None:
    clock = ManualClock()

    async def beat(seconds: float) -> None:
        clock.advance(seconds)
        heartbeat.beat(clock())

    keeper = EngineKeeper(
        tmp_path, 8, 2, silent_seconds=5.0, telemetry=SupervisorTelemetry(registry), clock=clock, sleep=beat
    )
    folder = folder_of(keeper.begin())
    with folder.heartbeat() as heartbeat, folder.black_box() as box:
        heartbeat.beat(clock())
        for lane, run in enumerate(runs):
            box.write(run, lane)
        await keeper.watch(process)
    assert keeper.end(await process.wait()) is Cause.HANG
    (death,) = keeper.evidence.deaths
    assert (death.suspect_run, death.suspects, death.versions) == (None, suspects, {version})


async def test_verdicts_are_counted_told_to_the_next_engine_and_nothing_is_left_behind(
    keeper: EngineKeeper, tmp_path: Path, registry: CollectorRegistry
) -> None:
    for _ in range(2):
        folder = folder_of(keeper.begin())
        with folder.black_box() as box:
            box.write(Running(Doing.BATCH, REF, 1.0, rows=((5, 0),), digest=b"p" * 16))
        assert keeper.end(3) is Cause.CRASH
    assert list(tmp_path.iterdir()) == []
    history = folder_of(keeper.begin()).history()
    assert history.incarnation == 3
    assert history.quarantined.keys() == {b"p" * 16}
    assert history.suspects == {1: {(5, 0)}, 2: {(5, 0)}}
    keeper.end(3)
    labels = {"model": "m", "version": "1"}
    assert sample(registry, "servoloop_quarantined_inputs_total", labels) == 1
