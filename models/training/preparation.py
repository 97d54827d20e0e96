"""From a recipe's plan to declared preprocess steps: what must be learned from data is learned on the training part.

A plan is a list of steps as a manifest declares them, where `fit_normalize`, `fit_standardize` and `fit_tokenizer`
stand for steps whose numbers or vocabulary come from the training rows.
"""

from collections.abc import Iterable, Sequence
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers

from models.preprocess import Preprocessor, RawRows, Step
from models.preprocess.numeric import Normalize, Standardize
from models.preprocess.text import Tokenize

PADDING, UNKNOWN = "[PAD]", "[UNK]"
UNKNOWN_ID = 1
TOKENIZER_FILE = "tokenizer.json"

_WORDS_AND_EXCLAMATIONS = r"[\w']+|[!?]"


class _Fit(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class FitNormalize(_Fit):
    """Becomes `normalize` with each channel's mean and standard deviation."""

    step: Literal["fit_normalize"] = "fit_normalize"


class FitStandardize(_Fit):
    """Becomes `standardize` with each column's mean and standard deviation."""

    step: Literal["fit_standardize"] = "fit_standardize"


class FitTokenizer(_Fit):
    """Becomes `tokenize` with a tokenizer of at most `vocabulary` entries: 0 is padding, 1 is unknown.

    Text is put in lower case without HTML line breaks. "words" keeps words, numbers, `!` and `?`; "wordpiece" builds
    what is rare from pieces.
    """

    step: Literal["fit_tokenizer"] = "fit_tokenizer"
    kind: Literal["words", "wordpiece"] = "words"
    vocabulary: Annotated[int, Field(ge=3)]
    min_frequency: Annotated[int, Field(ge=1)] = 2
    max_length: Annotated[int, Field(ge=1)]
    keep: Literal["head", "tail"] = "head"

    def train(self, texts: Iterable[str]) -> Tokenizer:
        """Return a tokenizer learned from `texts`."""
        special = [PADDING, UNKNOWN]
        if self.kind == "words":
            tokenizer = Tokenizer(models.WordLevel(unk_token=UNKNOWN))
            trainer: Any = trainers.WordLevelTrainer(
                vocab_size=self.vocabulary, min_frequency=self.min_frequency, special_tokens=special
            )
        else:
            tokenizer = Tokenizer(models.WordPiece(unk_token=UNKNOWN))
            trainer = trainers.WordPieceTrainer(
                vocab_size=self.vocabulary, min_frequency=self.min_frequency, special_tokens=special
            )
        tokenizer.normalizer = normalizers.Sequence(
            [normalizers.Replace(Regex("<br ?/?>"), " "), normalizers.NFKC(), normalizers.Lowercase()]
        )
        tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(_WORDS_AND_EXCLAMATIONS), "removed", invert=True)
        tokenizer.train_from_iterator(texts, trainer)
        return tokenizer


PlannedStep = Annotated[FitNormalize | FitStandardize | FitTokenizer | Step, Field(discriminator="step")]


def fit(plan: Sequence[PlannedStep], training_rows: RawRows) -> tuple[list[Step], dict[str, bytes]]:
    """Return the steps to declare and the files that they read, by name."""
    steps: list[Step] = []
    files: dict[str, bytes] = {}
    for planned in plan:
        match planned:
            case FitTokenizer():
                tokenizer = planned.train(row for row in training_rows if isinstance(row, str))
                files[TOKENIZER_FILE] = tokenizer.to_str().encode()
                steps.append(Tokenize(file=TOKENIZER_FILE, max_length=planned.max_length, keep=planned.keep))
            case FitNormalize():
                mean, std = _moments(_so_far(steps, files, training_rows), channel_axis=1)
                steps.append(Normalize(mean=mean, std=std))
            case FitStandardize():
                mean, std = _moments(_so_far(steps, files, training_rows), channel_axis=-1)
                steps.append(Standardize(mean=mean, std=std))
            case _:
                steps.append(planned)
    return steps, files


def _so_far(steps: Sequence[Step], files: dict[str, bytes], rows: RawRows) -> Any:
    return Preprocessor(steps, files.__getitem__)(rows).values


def _moments(values: Any, channel_axis: int) -> tuple[list[float], list[float]]:
    """Return mean and standard deviation of each channel; 1 stands for the deviation of a constant one."""
    columns = np.moveaxis(values, channel_axis, -1).reshape(-1, values.shape[channel_axis]).astype(np.float64)
    std = columns.std(axis=0)
    return columns.mean(axis=0).tolist(), np.where(std > 0, std, 1.0).tolist()
