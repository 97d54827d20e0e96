"""How long threads waited for cores."""

from pathlib import Path

import pytest

from service.engine.quiet import CoreTime, NotQuiet, Timing, Watch, core_time, in_background


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


class Cores:
    """Core time that grows by what is taken from a list, in which a step ran and waited."""

    def __init__(self, *steps: tuple[int, int]) -> None:
        self._steps = iter(((0, 0), *steps))
        self._now = CoreTime(0, 0)

    def __call__(self) -> CoreTime:
        ran, waited = next(self._steps)
        self._now = CoreTime(self._now.ran + ran, self._now.waited + waited)
        return self._now


QUIET, BUSY = (90, 10), (80, 20)


def test_each_step_is_judged_by_its_own_time() -> None:
    watch = Watch(Timing(max_busy=0.1, spare=2, read=Cores(QUIET, BUSY, QUIET, QUIET, BUSY)))
    assert [watch.was_quiet() for _ in range(5)] == [True, False, True, True, False]


def test_after_too_many_steps_that_were_not_quiet_it_gives_way() -> None:
    watch = Watch(Timing(max_busy=0.1, spare=1, read=Cores(BUSY, QUIET, BUSY)))
    assert [watch.was_quiet() for _ in range(2)] == [False, True]
    with pytest.raises(NotQuiet):
        watch.was_quiet()


def test_who_takes_any_noise_is_not_disturbed_where_the_kernel_says_nothing() -> None:
    watch = Watch(Timing(read=lambda: CoreTime(0, 0)))
    assert watch.was_quiet()


def test_in_the_background_noise_is_taken_as_far_as_is_told() -> None:
    assert in_background(0.25).max_busy == 0.25
