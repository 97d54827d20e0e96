"""The share of the machine's time that is used, as the kernel tells of it."""

import pytest

from service.reconciling.busyness import busy_share, read_ticks


def test_the_busy_share_is_of_all_cores_time() -> None:
    before = [100, 10, 50, 1000, 20, 0, 0, 0, 0, 0]
    assert busy_share(before, [110, 20, 60, 1060, 25, 0, 0, 5, 0, 0]) == pytest.approx(0.35)
    assert busy_share(before, [*before[:3], 1100, *before[4:]]) == 0.0


def test_where_the_kernel_says_nothing_the_machine_counts_as_busy() -> None:
    assert busy_share([], []) == 1.0
    assert busy_share([5] * 10, [5] * 10) == 1.0


def test_this_machines_times_grow() -> None:
    before = read_ticks()
    assert len(before) >= 8
    assert sum(read_ticks()) >= sum(before)
