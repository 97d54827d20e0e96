"""Answers that were computed, for inputs that come again. Least recently used ones go first."""

from collections import OrderedDict
from collections.abc import Collection
from dataclasses import dataclass

from models.preprocess import Tensors
from models.preprocess.tensors import Array
from service.domain import Precision, Ref
from service.registry.fleet import Standing


@dataclass(frozen=True, slots=True)
class Loaded:
    """What answers for a version, as far as answers could differ: its files, its latest reload, how it computes."""

    ref: Ref
    identity: str
    generation: int
    how: tuple[str, Precision, int] | None

    @staticmethod
    def of(ref: Ref, standing: Standing) -> "Loaded":
        execution = standing.execution
        how = None if execution is None else (execution.backend, execution.precision, execution.threads)
        return Loaded(ref, standing.identity, standing.generation, how)


@dataclass(frozen=True, slots=True)
class Question:
    """Rows, bit by bit, and what they are asked of. No digest: two that are equal are the same."""

    asked: Loaded
    dtype: str
    shape: tuple[int, ...]
    values: bytes
    lengths: bytes

    @staticmethod
    def of(asked: Loaded, tensors: Tensors) -> "Question":
        values, lengths = tensors.values, tensors.lengths
        return Question(
            asked, values.dtype.str, values.shape, values.tobytes(), b"" if lengths is None else lengths.tobytes()
        )

    @property
    def num_bytes(self) -> int:
        return len(self.values) + len(self.lengths)


class ResultCache:
    """Outputs (n, k) of questions that were answered, together at most `max_rows` rows and `max_bytes` bytes."""

    def __init__(self, max_rows: int, max_bytes: int) -> None:
        self._max_rows, self._max_bytes = max_rows, max_bytes
        self._answers: OrderedDict[Question, Array] = OrderedDict()
        self.num_rows = 0
        self.num_bytes = 0

    def __len__(self) -> int:
        """Questions whose answer is known."""
        return len(self._answers)

    def get(self, question: Question) -> Array | None:
        """The answer, which is now the one that was used last."""
        answer = self._answers.get(question)
        if answer is not None:
            self._answers.move_to_end(question)
        return answer

    def keep(self, question: Question, answer: Array) -> None:
        """Know an answer, and forget older ones where there is no room for all; one that never fits is not kept."""
        self._forget(question)
        if len(answer) > self._max_rows or question.num_bytes + answer.nbytes > self._max_bytes:
            return
        kept = self._answers[question] = answer.copy()  # it may be a view of a frame, with the answers of others
        kept.setflags(write=False)
        self._count(question, answer, 1)
        while self.num_rows > self._max_rows or self.num_bytes > self._max_bytes:
            self._forget(next(iter(self._answers)))

    def keep_only(self, asked: Collection[Loaded]) -> None:
        """Forget what was asked of anything else."""
        for question in [question for question in self._answers if question.asked not in asked]:
            self._forget(question)

    def _forget(self, question: Question) -> None:
        answer = self._answers.pop(question, None)
        if answer is not None:
            self._count(question, answer, -1)

    def _count(self, question: Question, answer: Array, sign: int) -> None:
        self.num_rows += sign * len(answer)
        self.num_bytes += sign * (question.num_bytes + answer.nbytes)
