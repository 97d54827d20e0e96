"""How long threads waited for cores."""

from pathlib import Path

import pytest

from service.engine.quiet import CoreTime, Timing, core_time


def test_all_threads_count(tmp_path: Path) -> None:
    for number, times in enumerate(("100 20 3", "50 0 1")):
        (tmp_path / str(number)).mkdir()
        (tmp_path / str(number) / "schedstat").write_text(times + "\n")
    (tmp_path / "2").mkdir()  # a thread that has just ended
    assert core_time(tmp_path) == CoreTime(ran=150, waited=20)


def test_the_share_is_of_the_time_in_which_a_core_was_wanted() -> None:
    before = CoreTime(ran=100, waited=10)
    assert CoreTime(ran=190, waited=20).waited_share(before) == pytest.approx(0.1)
    assert CoreTime(ran=200, waited=5).waited_share(before) == 0.0


def test_where_the_kernel_says_nothing_all_of_it_counts_as_waiting(tmp_path: Path) -> None:
    nothing = core_time(tmp_path / "absent")
    assert nothing.waited_share(nothing) == 1.0


def test_this_process_has_run() -> None:
    assert core_time().ran > 0


@pytest.mark.parametrize("wrong", [{"rounds": 0}, {"spare": -1}])
def test_a_timing_without_rounds_is_none(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="expected at least 1 round"):
        Timing(**wrong)  # type: ignore[arg-type]
