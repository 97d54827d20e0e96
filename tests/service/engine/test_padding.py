"""How much of what is run is padding when texts of all lengths come at once: the queue alone, with a device that takes
as long as it is told."""

from dataclasses import dataclass, field
from itertools import pairwise
from random import Random

import pytest

from service.domain import BatchPolicy, Ref
from service.engine.backends.buckets import pad_rows, pad_steps
from service.engine.batching import Batch, BatchQueue, Sizes, as_they_are
from tests.service.engine.asked import request

CLIENTS = 64
BATCHES = 400
SECONDS_BETWEEN = 0.1e-3
HELD_UP_SECONDS = 8e-3
# Tokens of the IMDb reviews as the shipped `sentiment` model reads them: the shortest, every 50th part, and the longest
# of those that are not cut; the other 29 % are cut to 256.
PARTS = (10, 50, 60, 73, 83, 93, 102, 108, 113, 117, 120, 123, 126, 129, 132, 135, 138, 141, 145, 149, 152, 156, 162,
         167, 171, 175, 181, 186, 192, 198, 204, 213, 223, 230, 241, 255)  # fmt: skip
SHARE_CUT = 0.29
CUT_TO = 256
# Seconds of a batch, and of an element.
COSTS = {
    "a batch costs as much as 30 elements": (0.1e-3, 3.6e-6),
    "as 360 elements": (0.25e-3, 0.7e-6),
    "as 20,000 elements": (1e-3, 0.05e-6),
}


def few_sizes(num_rows: int, longest: int) -> tuple[int, int]:
    return pad_rows(num_rows), pad_steps(longest)


@dataclass
class Crowd:
    """Clients that each send the next review once they are answered; the way to the queue takes one at a time."""

    queue: BatchQueue
    chance: Random = field(default_factory=lambda: Random(4))
    coming: list[tuple[float, int]] = field(default_factory=list)
    free_at: float = 0.0

    def ask(self, now: float) -> None:
        self.free_at = max(self.free_at, now) + SECONDS_BETWEEN
        self.coming.append((self.free_at, self.length()))

    def arrive(self, now: float) -> None:
        while self.coming and self.coming[0][0] <= now:
            at, length = self.coming.pop(0)
            self.queue.put(request(arrived=at, lengths=[length]))

    def length(self) -> int:
        if self.chance.random() < SHARE_CUT:
            return CUT_TO
        shorter, longer = self.chance.choice(list(pairwise(PARTS)))
        return self.chance.randint(shorter, longer)


def padding(sizes: Sizes, fixed: float, slope: float, *, is_busy: bool = False, are_known: bool = True) -> float:
    """The share of padding in what a device runs that takes `fixed` seconds a batch and `slope` an element.

    On a machine that is busy some batches are held up for longer than they take. The queue may not know the sizes.
    """
    queue, chance = BatchQueue(Ref("sentiment", 1), BatchPolicy(), sizes=sizes if are_known else as_they_are), Random(1)
    crowd, now, run, used = Crowd(queue), 0.0, 0, 0
    for _ in range(CLIENTS):
        crowd.ask(now)
    for _ in range(BATCHES):
        crowd.arrive(now)
        if not len(queue):
            now = crowd.coming[0][0]
            crowd.arrive(now)
        taken = queue.take(now)
        assert isinstance(taken, Batch)
        rows, steps = sizes(len(taken), taken.longest)
        seconds = fixed + slope * rows * steps
        if is_busy:
            seconds *= chance.lognormvariate(0, 0.5)
            seconds += chance.expovariate(1 / HELD_UP_SECONDS) if chance.random() < 0.3 else 0.0
        queue.cost.learn(taken.longest, len(taken), seconds, now)
        now += seconds
        run += rows * steps
        used += sum(row.length for row in taken.rows)
        for _ in taken.rows:
            crowd.ask(now)
    return 1 - used / run


@pytest.mark.parametrize("is_busy", [False, True], ids=["alone", "on a busy machine"])
@pytest.mark.parametrize("sizes", [as_they_are, few_sizes])
@pytest.mark.parametrize(("fixed", "slope"), COSTS.values(), ids=COSTS)
def test_of_what_is_run_for_reviews_at_most_8_in_100_are_padding(
    sizes: Sizes, fixed: float, slope: float, is_busy: bool
) -> None:
    assert padding(sizes, fixed, slope, is_busy=is_busy) < 0.08


@pytest.mark.parametrize(("fixed", "slope"), COSTS.values(), ids=COSTS)
def test_a_queue_that_does_not_know_the_sizes_runs_twice_as_much_of_it(fixed: float, slope: float) -> None:
    assert padding(few_sizes, fixed, slope, are_known=False) > 1.8 * padding(few_sizes, fixed, slope)


if __name__ == "__main__":
    for cost, (fixed, slope) in COSTS.items():
        for name, sizes in (("any size", as_they_are), ("few sizes", few_sizes)):
            shares = [padding(sizes, fixed, slope, is_busy=is_busy) for is_busy in (False, True)]
            unknown = padding(sizes, fixed, slope, are_known=False)
            print(f"{cost}, {name}: {shares[0]:.1%}, busy {shares[1]:.1%}; sizes unknown {unknown:.1%}")
