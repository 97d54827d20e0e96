"""Which version is tried next, and what counts as found."""

from pathlib import Path
from typing import Any

import pytest

from service.domain import Execution, Precision, Ref
from service.reconciling.progress import Progress, Untried, is_another, next_untried

RUNNING = Execution("eager", Precision.FLOAT32, 2, "nothing was tried here yet", pending=True)


def untried(name: str, asked: float = 0.0, *, is_aliased: bool = False) -> Untried:
    return Untried(Ref(name, 1), f"identity of {name}/1", Path(name), RUNNING, asked, is_aliased)


def test_the_most_recently_asked_is_next_then_what_an_alias_names() -> None:
    new, old, named, unnamed = (
        untried("d", 20.0),
        untried("c", 10.0),
        untried("b", is_aliased=True),
        untried("a"),
    )
    waiting = [unnamed, named, old, new]
    for expected in (new, old, named, unnamed):
        assert next_untried(waiting, {}, 0.0) is expected
        waiting.remove(expected)
    assert next_untried([], {}, 0.0) is None


def test_what_pauses_is_next_once_its_pause_ends_and_what_is_over_never() -> None:
    one = untried("a")
    assert next_untried([one], {one.identity: Progress("busy", ends=60.0)}, 59.0) is None
    assert next_untried([one], {one.identity: Progress("busy", ends=60.0)}, 60.0) is one
    assert next_untried([one], {one.identity: Progress("failed", is_pending=False, ends=float("inf"))}, 1e9) is None


@pytest.mark.parametrize(
    ("change", "expected"),
    [({}, False), ({"backend": "openvino"}, True), ({"precision": "bfloat16"}, True), ({"threads": 1}, True)],
)
def test_what_is_chosen_is_another_way_where_it_is_not_what_runs(change: dict[str, Any], expected: bool) -> None:
    same = {"backend": "eager", "precision": "float32", "threads": 2, "rows_per_second": 100.0}
    assert is_another({**same, **change}, RUNNING) is expected
