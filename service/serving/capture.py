"""Which rows are kept as they came, so that what is said of their predictions can be learned from."""

import functools
import heapq
import io
import math
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import numpy as np

from models.manifest import Task
from models.preprocess import RawRows, Tensors
from models.preprocess.tensors import Array
from service.serving.answer import Computed
from service.serving.postprocess import Probabilities
from service.serving.router import Target
from service.store.base import Chosen, Form, Input

Mode = Literal["sample", "all", "none"]


@dataclass(frozen=True, slots=True)
class CapturePolicy:
    """`sample` keeps all rows of a model while there are at most `rows_per_second`, and of more a uniform sample of
    about so many, and the `uncertain_per_second` that the model was least sure of."""

    mode: Mode = "sample"
    rows_per_second: float = 50.0
    uncertain_per_second: int = 10

    def __post_init__(self) -> None:
        if self.rows_per_second <= 0 or self.uncertain_per_second < 0:
            raise ValueError(f"rates must be positive, got {self}")


class Choice(NamedTuple):
    """Why a row is kept, and how probable it was that it would be: by what came before it, and by how sure it is."""

    chosen: Chosen
    probability: float


_EVERY_ROW = Choice("uniform", 1.0)


@dataclass(slots=True)
class _Second:
    """What came of a model in this second, and what is known of the one before."""

    number: int
    count: int = 0
    before: int = 0
    threshold: float = math.inf
    num_uncertain: int = 0
    most_uncertain: list[float] = field(default_factory=list)

    def takes(self, unsure: float | None, count: int) -> bool:
        """Whether a row is among the most uncertain, of which there shall be so many."""
        if unsure is None:
            return False
        if len(self.most_uncertain) < count:
            heapq.heappush(self.most_uncertain, unsure)
        elif count and unsure > self.most_uncertain[0]:
            heapq.heapreplace(self.most_uncertain, unsure)
        if unsure <= self.threshold or self.num_uncertain >= 2 * count:
            return False
        self.num_uncertain += 1
        return True

    def next(self, number: int, count: int) -> "_Second":
        """The second with this number."""
        if number != self.number + 1:
            return _Second(number)
        is_known = len(self.most_uncertain) == count > 0
        return _Second(number, before=self.count, threshold=self.most_uncertain[0] if is_known else math.inf)


class Sampler:
    """Decides row by row, each with the probability that is told with it.

    A row is drawn with the probability rows_per_second / rate, where the rate is that of the second before, or of this
    one if there were more already: it depends on what came before alone, never on the row. Besides, rows less certain
    than the `uncertain_per_second`th of the second before are kept for sure, up to twice as many.
    """

    def __init__(
        self,
        policy: CapturePolicy,
        clock: Callable[[], float] = time.monotonic,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._policy = policy
        self._clock = clock
        self._draw = draw
        self._seconds: dict[str, _Second] = {}

    def choose(self, model: str, uncertainty: Callable[[], float | None]) -> Choice | None:
        """Whether to keep a row of this model; None: it is not. `uncertainty` is asked for where there are too many."""
        policy = self._policy
        if policy.mode != "sample":
            return _EVERY_ROW if policy.mode == "all" else None
        second = self._second(model)
        second.count += 1
        rate = max(second.count, second.before)
        if rate <= policy.rows_per_second:
            return _EVERY_ROW
        unsure = uncertainty()
        is_sure_to_be_kept = second.takes(unsure, policy.uncertain_per_second)
        probability = policy.rows_per_second / rate
        is_drawn = self._draw() < probability
        if is_sure_to_be_kept:
            return Choice("uniform" if is_drawn else "uncertain", 1.0)
        return Choice("uniform", probability) if is_drawn else None

    def _second(self, model: str) -> _Second:
        number = int(self._clock())
        second = self._seconds.get(model)
        if second is None:
            second = self._seconds[model] = _Second(number)
        elif second.number != number:
            second = self._seconds[model] = second.next(number, self._policy.uncertain_per_second)
        return second


class Capture:
    """Takes inputs to be kept from answered requests."""

    def __init__(self, sampler: Sampler) -> None:
        self._sampler = sampler

    def inputs(self, rows: RawRows | Tensors, computed: Computed, target: Target) -> list[Input]:
        """Those of the rows that are kept, of those that have an answer."""
        manifest = target.manifest
        kept = []
        each: Any = None
        for index, prediction in enumerate(computed.predictions):
            if "error" in prediction:
                continue
            unsure = functools.partial(_uncertainty, manifest.task, computed.probabilities, index)
            choice = self._sampler.choose(target.ref.model, unsure)
            if choice is None:
                continue
            if each is None:
                each = rows.rows() if isinstance(rows, Tensors) else rows
            form: Form = "prepared" if isinstance(rows, Tensors) else "text" if isinstance(each[index], str) else "npy"
            kept.append(
                Input(
                    computed.prediction_ids[index],
                    target.ref.model,
                    form,
                    choice.chosen,
                    choice.probability,
                    written(each[index]),
                )
            )
        return kept


def _uncertainty(task: Task, probabilities: Probabilities | None, index: int) -> float | None:
    return None if probabilities is None else uncertainty_of(task, probabilities[index])


def uncertainty_of(task: Task, probabilities: Sequence[float]) -> float:
    """From 0 to 1: how near the two best labels are to each other, or, of multilabel tasks, one label to one half."""
    if task == "multilabel":
        return 1.0 - min(abs(2 * one - 1) for one in probabilities)
    second, first = sorted(probabilities)[-2:]
    return 1.0 - (first - second)


def written(row: str | Array) -> bytes:
    """A row as it is kept: a text in UTF-8, all else as a .npy file."""
    if isinstance(row, str):
        return row.encode()
    file = io.BytesIO()
    np.save(file, row, allow_pickle=False)
    return file.getvalue()
