"""What processes do at their start."""

import asyncio
import gc
import socket
import sys

import pytest

from service.process.lifetime import parent_gone, settle
from tests.patience import PATIENCE


async def test_a_parent_that_ends_with_something_unread_is_gone_too(monkeypatch: pytest.MonkeyPatch) -> None:
    parents, childs = socket.socketpair()
    monkeypatch.setattr(sys, "stdin", childs)
    childs.send(b".")
    parents.close()
    async with asyncio.timeout(PATIENCE):
        await parent_gone()


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
