"""When versions are tried, and what becomes of trials."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from service.domain import Execution, Precision, Ref
from service.reconciling.optimizing import NotQuiet, Optimizer, TrialFailed
from service.reconciling.progress import Untried
from tests.fakes import ManualClock
from tests.patience import PATIENCE

pytestmark = pytest.mark.usefixtures("quickly")

QUIET, BUSY = (0, 0, 0, 10), (9, 0, 0, 1)
RUNNING = Execution("eager", Precision.FLOAT32, 2, "nothing was tried here yet", pending=True)
FOUND = {"backend": "openvino", "precision": "bfloat16", "threads": 1, "rows_per_second": 4000.0}


def untried(name: str, asked: float = 0.0, *, is_aliased: bool = False, version: int = 1) -> Untried:
    return Untried(Ref(name, version), f"identity of {name}/{version}", Path(name), RUNNING, asked, is_aliased)


class Bench:
    """An optimiser whose trials end as `outcomes` say, and go on for ever after the last."""

    def __init__(self, *outcomes: Mapping[str, Any] | Exception) -> None:
        self.outcomes = list(outcomes)
        self.clock = ManualClock()
        self.ticks: Sequence[int] = QUIET
        self.read: list[Sequence[int]] = [(0, 0, 0, 0)]
        self.tried: list[Path] = []
        self.ended: list[Path] = []
        self.news = 0
        self.optimizer = Optimizer(self._try, max_busy=0.1, clock=self.clock, ticks=self._read)

    def _read(self) -> Sequence[int]:
        self.read.append([then + more for then, more in zip(self.read[-1], self.ticks, strict=True)])
        return self.read[-1]

    def tell(self) -> None:
        self.news += 1

    async def _try(self, folder: Path) -> Mapping[str, Any]:
        self.tried.append(folder)
        try:
            if not self.outcomes:
                await asyncio.Event().wait()
            outcome = self.outcomes.pop(0)
        finally:
            self.ended.append(folder)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(PATIENCE):
            while not condition():
                await asyncio.sleep(0)

    async def looks(self, times: int = 5) -> None:
        """Until it has looked so often."""
        seen = len(self.read)
        await self.until(lambda: len(self.read) >= seen + 2 * times)


async def run(bench: Bench, script: Callable[[], Any]) -> None:
    running = asyncio.create_task(bench.optimizer.run(bench.tell))
    try:
        await script()
    finally:
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running


async def test_each_is_tried_once_and_what_is_found_is_told() -> None:
    bench, a, b = Bench(FOUND, FOUND), untried("a", 2.0), untried("b", 1.0)

    async def script() -> None:
        bench.optimizer.update([b, a], {a.identity, b.identity})
        await bench.until(lambda: len(bench.ended) == 2)
        await bench.looks()

    await run(bench, script)
    assert bench.tried == [a.folder, b.folder]
    assert all(known.is_found and known.is_pending for known in bench.optimizer.progress.values())
    assert bench.news == 4


@pytest.mark.parametrize("chosen", [{"backend": None}, {"backend": "eager", "precision": "float32", "threads": 2}])
async def test_what_runs_on_as_before_is_not_loaded_anew(chosen: Mapping[str, Any]) -> None:
    bench, a = Bench(chosen, FOUND), untried("a")

    async def script() -> None:
        bench.optimizer.update([a], {a.identity})
        await bench.until(lambda: bench.ended)
        await bench.looks()

    await run(bench, script)
    assert bench.tried == [a.folder]
    known = bench.optimizer.progress[a.identity]
    said = "what runs it is the best that was found"
    assert (known.reason, known.is_pending, known.is_found) == (said, False, False)


async def test_nothing_is_tried_while_the_machine_is_busy() -> None:
    bench, a = Bench(FOUND), untried("a")
    bench.ticks = BUSY

    async def script() -> None:
        bench.optimizer.update([a], {a.identity})
        await bench.looks()
        assert not bench.tried
        bench.ticks = QUIET
        await bench.until(lambda: bench.tried)

    await run(bench, script)


async def test_a_failure_is_told_and_not_repeated() -> None:
    for error, reason in (
        (TrialFailed("no rows"), "trying other back ends failed: no rows"),
        (RuntimeError("of ours"), "trying other back ends failed: RuntimeError"),
    ):
        bench, a = Bench(error), untried("a")

        async def script(bench: Bench = bench, a: Untried = a) -> None:
            bench.optimizer.update([a], {a.identity})
            await bench.until(lambda: bench.ended)
            bench.clock.advance(1e6)
            await bench.looks()

        await run(bench, script)
        assert bench.tried == [a.folder]
        known = bench.optimizer.progress[a.identity]
        assert (known.reason, known.is_pending, known.is_found) == (reason, False, False)


async def test_a_machine_that_is_not_quiet_is_asked_again_after_pauses_that_grow() -> None:
    bench, a = Bench(*[NotQuiet() for _ in range(9)], FOUND), untried("a")
    pauses = []

    async def script() -> None:
        bench.optimizer.update([a], {a.identity})
        for times in range(1, 10):
            await bench.until(lambda times=times: len(bench.ended) == times)
            await bench.looks()
            known = bench.optimizer.progress[a.identity]
            assert (known.times, known.is_pending) == (times, True)
            pauses.append(known.ends - bench.clock())
            bench.clock.advance(pauses[-1])
        await bench.until(lambda: bench.optimizer.progress[a.identity].is_found)

    await run(bench, script)
    assert pauses == [60, 120, 240, 480, 960, 1920, 3600, 3600, 3600]


async def test_a_trial_of_what_is_not_wanted_any_more_ends_and_others_follow() -> None:
    bench, a, b = Bench(), untried("a", 1.0), untried("b")

    async def script() -> None:
        bench.optimizer.update([a, b], {a.identity, b.identity})
        await bench.until(lambda: bench.tried == [a.folder])
        bench.optimizer.update([], {a.identity, b.identity})
        await bench.looks(0)
        assert not bench.ended
        assert bench.optimizer.progress[a.identity].reason == "other back ends are being tried on it"
        bench.optimizer.update([b], {b.identity})
        await bench.until(lambda: bench.tried == [a.folder, b.folder])
        assert bench.ended == [a.folder]
        assert bench.optimizer.progress.keys() == {b.identity}

    await run(bench, script)
    assert bench.ended == [a.folder, b.folder]
