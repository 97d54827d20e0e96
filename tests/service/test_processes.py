"""What processes do at their start."""

import gc

from service.processes import settle


def test_what_is_there_at_the_start_is_collected_no_more_and_the_rest_less_often() -> None:
    before = gc.get_threshold()
    try:
        settle()
        assert gc.get_freeze_count() > 0
        assert settle not in gc.get_objects()
        assert gc.get_threshold()[0] > before[0]
    finally:
        gc.unfreeze()
        gc.set_threshold(*before)
