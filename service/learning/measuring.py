"""All that is measured of live models: by labels, and without."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from service.learning.evaluator import Evaluator
from service.learning.monitor import Monitor
from service.learning.picture import Form, draw_drift, draw_evaluation
from service.learning.questions import DriftQuestion, Question
from service.telemetry.quality import Standing, Unlabelled

T = TypeVar("T")
M = TypeVar("M")


@dataclass(frozen=True, slots=True)
class Measuring:
    """Call it from one thread at a time. Each verb raises UnknownModel or StoreUnavailable."""

    evaluator: Evaluator
    monitor: Monitor

    def catch_up(self) -> None:
        """Take in what became known since the last time."""
        self.evaluator.catch_up()

    def answer(self, question: Question | DriftQuestion) -> dict[str, Any]:
        """By all that is known now, as the API answers it."""
        if isinstance(question, Question):
            return self.evaluator.evaluate(question)
        self.catch_up()
        return self.monitor.answer(question)

    def draw(self, question: Question | DriftQuestion, form: Form) -> bytes:
        """The answer as a picture. Raises NotSupported without matplotlib, too."""
        picture = draw_evaluation if isinstance(question, Question) else draw_drift
        return picture(self.answer(question), form)

    def standings(self) -> tuple[list[Standing], list[Unlabelled]]:
        """How every version stands that predicted within a day, as far as anything is known of it."""
        return self.evaluator.standings(), self.monitor.unlabelled(self.evaluator.known_models())


class OneThread(Generic[M]):
    """Something that one thread may call at a time, on a thread of its own."""

    def __init__(self, owned: M) -> None:
        self._owned = owned
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="evaluation")

    async def ask(self, work: Callable[[M], T]) -> T:
        """What `work` gives of it; raises what that raises."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, work, self._owned)

    def shutdown(self) -> None:
        """Wait for what is under way; to be called last."""
        self._thread.shutdown()
