"""What processes do at their start."""

import gc

from service.processes import settle


def test_what_is_there_at_the_start_is_collected_no_more() -> None:
    try:
        settle()
        assert gc.get_freeze_count() > 0
        assert settle not in gc.get_objects()
    finally:
        gc.unfreeze()
