import mmap
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
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


class Interrupted(mmap.mmap):
    """Memory that something else is done to in the middle of each access."""

    def __getitem__(self, key: Any) -> Any:
        found = super().__getitem__(key)
        self.meanwhile()
        return found

    def __setitem__(self, key: Any, value: Any) -> None:
        super().__setitem__(key, value)
        self.meanwhile()

    meanwhile: Callable[[], None] = staticmethod(lambda: None)


@pytest.fixture
def interrupted(tmp_path: Path, box: BlackBox) -> Iterator[tuple[BlackBox, Interrupted]]:
    """The same box as another process sees it."""
    with (tmp_path / "box").open("r+b") as file:
        memory = Interrupted(file.fileno(), 0)
    with BlackBox(memory) as other:
        yield other, memory


def test_what_changes_while_it_is_read_is_not_believed(
    box: BlackBox, interrupted: tuple[BlackBox, Interrupted]
) -> None:
    reader, memory = interrupted
    box.write(Running(Doing.BATCH, REF, 1.0))
    memory.meanwhile = lambda: box.write(Running(Doing.BATCH, REF, 2.0))
    assert reader.read() == ()
    memory.meanwhile = lambda: None
    assert reader.read() == (Running(Doing.BATCH, REF, 2.0),)


def test_what_is_half_written_is_not_read(box: BlackBox, interrupted: tuple[BlackBox, Interrupted]) -> None:
    writer, memory = interrupted
    found: list[tuple[Running, ...]] = []
    memory.meanwhile = lambda: found.append(box.read())
    writer.write(Running(Doing.BATCH, REF, 1.0))
    assert (found, len(box.read())) == ([()], 1)


@given(scribbled=st.binary(min_size=1, max_size=64), at=st.integers(0, 140))
@example(scribbled=b"\7", at=0)
@example(scribbled=b"\5", at=4)
@example(scribbled=b"\xff", at=40)
@example(scribbled=b"m/", at=40)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_of_a_memory_that_its_process_wrote_over_nothing_wrong_is_raised(
    tmp_path: Path, box: BlackBox, scribbled: bytes, at: int
) -> None:
    box.write(Running(Doing.BATCH, REF, 1.0, rows=((7, 0),)))
    data = bytearray((tmp_path / "box").read_bytes())
    content = 24
    data[content + at : content + at + len(scribbled)] = scribbled
    (tmp_path / "scribbled").write_bytes(data)
    with BlackBox.open(tmp_path / "scribbled") as other:
        assert len(other.read()) <= 1


@pytest.mark.parametrize("max_rows", [1, 2, 3, 32])
def test_the_sequence_of_each_lane_is_aligned_and_so_written_at_once(tmp_path: Path, max_rows: int) -> None:
    with BlackBox.create(tmp_path / "lanes", max_rows, lanes=3):
        assert ((tmp_path / "lanes").stat().st_size - 16) % (3 * struct.calcsize("<Q")) == 0


def test_being_told_to_stop_is_remembered_whatever_runs(box: BlackBox) -> None:
    assert not box.was_told_to_stop
    box.write(Running(Doing.BATCH, REF, 1.0))
    box.stopping()
    assert box.was_told_to_stop
    assert len(box.read()) == 1
    box.write(Running(Doing.BATCH, REF, 2.0))
    assert box.was_told_to_stop


def test_a_heartbeat_shows_the_last_beat(tmp_path: Path) -> None:
    with Heartbeat.create(tmp_path / "beat") as ours, Heartbeat.open(tmp_path / "beat") as theirs:
        assert theirs.last == 0
        ours.beat(17.25)
        assert theirs.last == 17.25
    with Heartbeat.create(tmp_path / "beat") as anew:
        assert anew.last == 0


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
