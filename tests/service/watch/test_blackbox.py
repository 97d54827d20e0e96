from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service.domain import Ref
from service.watch.blackbox import BlackBox, Doing, Running
from service.watch.heartbeat import Heartbeat

REF = Ref("fashion", 12)
LONGEST = Ref("m" * 64, 2**40)


@pytest.fixture
def box(tmp_path: Path) -> Iterator[BlackBox]:
    with BlackBox.create(tmp_path / "box", max_rows=4) as box:
        yield box


@given(
    doing=st.sampled_from([Doing.BATCH, Doing.LOAD]),
    ref=st.sampled_from([REF, LONGEST]),
    rows=st.lists(st.tuples(st.integers(0, 2**64 - 1), st.integers(0, 2**32 - 1)), max_size=4),
    digest=st.just(b"") | st.binary(min_size=16, max_size=16).filter(any),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_another_process_reads_what_was_written(
    tmp_path: Path, box: BlackBox, doing: Doing, ref: Ref, rows: list[tuple[int, int]], digest: bytes
) -> None:
    running = Running(doing, ref, 12.5, 0.25, tuple(rows), digest)
    box.write(running)
    with BlackBox.open(tmp_path / "box") as other:
        assert other.read() == (running,)


def test_at_first_and_between_runs_there_is_nothing(box: BlackBox) -> None:
    assert box.read() == ()
    box.write(Running(Doing.BATCH, REF, 1.0))
    box.write(None)
    assert box.read() == ()


def test_it_outlives_who_wrote_it(tmp_path: Path) -> None:
    with BlackBox.create(tmp_path / "box", max_rows=1) as writer:
        writer.write(Running(Doing.BATCH, REF, 1.0, rows=((7, 0),)))
    with BlackBox.open(tmp_path / "box") as reader:
        (running,) = reader.read()
    assert running.rows == ((7, 0),)


def test_of_a_batch_that_is_too_large_it_keeps_what_it_can(box: BlackBox) -> None:
    box.write(Running(Doing.BATCH, REF, 1.0, rows=tuple((n, 0) for n in range(10))))
    (running,) = box.read()
    assert running.rows == tuple((n, 0) for n in range(4))


def test_a_writer_that_died_while_it_wrote_left_nothing(tmp_path: Path, box: BlackBox) -> None:
    box.write(Running(Doing.BATCH, REF, 1.0))
    data = bytearray((tmp_path / "box").read_bytes())
    data[16] += 1
    (tmp_path / "half").write_bytes(data)
    with BlackBox.open(tmp_path / "half") as half:
        assert half.read() == ()


def test_being_told_to_stop_is_remembered_whatever_runs(box: BlackBox) -> None:
    assert not box.was_told_to_stop
    box.stopping()
    box.write(Running(Doing.BATCH, REF, 1.0))
    assert box.was_told_to_stop
    assert len(box.read()) == 1


def test_a_heartbeat_shows_the_last_beat(tmp_path: Path) -> None:
    with Heartbeat.create(tmp_path / "beat") as ours, Heartbeat.open(tmp_path / "beat") as theirs:
        assert theirs.last == 0
        ours.beat(17.25)
        assert theirs.last == 17.25


def test_each_lane_has_its_own_run(tmp_path: Path) -> None:
    first, second = (
        Running(Doing.BATCH, REF, now, rows=((number, 0), (number, 1))) for number, now in ((1, 1.0), (2, 2.0))
    )
    with BlackBox.create(tmp_path / "lanes", max_rows=3, lanes=3) as box:
        box.write(second, lane=2)
        box.write(first, lane=0)
        assert box.read() == (first, second)
        box.write(None, lane=0)
        with BlackBox.open(tmp_path / "lanes") as other:
            assert other.lanes == 3
            assert other.read() == (second,)
