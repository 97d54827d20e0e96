"""Steps from text to token ids, packed int64."""

import asyncio
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
import orjson
from pydantic import Field
from tokenizers import Tokenizer

from models.preprocess.numeric import clip
from models.preprocess.tensors import Array, StepConfig, Tensors
from models.preprocess.tokenizer_file import check_tokenizer

ReadFile = Callable[[str], bytes]
FileName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$")]


_MAX_ID = (1 << 63) - 1


class Encoder(NamedTuple):
    """A step with its file read: `encode` gives packed ids, from 0 to `largest_id`."""

    encode: Callable[[Sequence[str]], Tensors]
    largest_id: int


class _ToIds(StepConfig):
    file: FileName
    max_length: Annotated[int, Field(ge=1, le=1_000_000)]
    keep: Literal["head", "tail"] = "head"
    empty: Annotated[int, Field(ge=0)] = 1
    """The id that stands for a text in which nothing was recognised, so that no sequence is empty."""

    def _pack(self, rows: Sequence[Sequence[int]]) -> Tensors:
        sequences: list[Array] = [
            clip(np.array(ids or [self.empty], np.int64), self.max_length, self.keep) for ids in rows
        ]
        return Tensors.packed(sequences)


class Tokenize(_ToIds):
    """Ids by a file of Hugging Face `tokenizers`, with its normaliser and special tokens, without its padding."""

    step: Literal["tokenize"] = "tokenize"

    def bind(self, read_file: ReadFile) -> Encoder:
        """Load the file once. Raises ValueError when it is no tokenizer, and so does `encode` when it fails."""
        tokenizer = self._load(read_file)
        ids = tokenizer.get_vocab(with_added_tokens=True).values()

        def apply(texts: Sequence[str]) -> Tensors:
            with _panics_contained(f"{self.file} failed on a text"):
                # For a single text too: `encode` also finds out where in the text each token was.
                return self._pack([encoding.ids for encoding in tokenizer.encode_batch_fast(list(texts))])

        return Encoder(apply, max([*ids, self.empty]))

    def _load(self, read_file: ReadFile) -> Tokenizer:
        data = read_file(self.file)
        with _panics_contained(f"{self.file} is no tokenizer file that can be served"):
            check_tokenizer(data)
            tokenizer = Tokenizer.from_buffer(data)
            tokenizer.no_padding()
            tokenizer.no_truncation()
        return tokenizer


@contextmanager
def _panics_contained(what: str) -> Iterator[None]:
    """Raise ValueError, `what` and the reason, for whatever a tokenizer file makes the library raise.

    It raises bare Exceptions, and a panic in its Rust code arrives as a BaseException, which would end the process.
    """
    try:
        yield
    except (KeyboardInterrupt, SystemExit, GeneratorExit, asyncio.CancelledError):
        raise
    except BaseException as error:  # noqa: BLE001  the class of panics can't be imported
        raise ValueError(f"{what}: {error}") from None


_SPLITS: dict[str, re.Pattern[str]] = {
    "words": re.compile(r"\w+"),
    "words_and_marks": re.compile(r"\w+|[^\w\s]"),
    "whitespace": re.compile(r"\S+"),
    "characters": re.compile(r".", re.DOTALL),
}


class Vocabulary(_ToIds):
    """Ids by a list of words: `file` holds a JSON object word -> id; `split` says what a word is.

    The ways to split are a closed list: a pattern out of a checkpoint could be one that never ends.
    """

    step: Literal["vocabulary"] = "vocabulary"
    split: Literal["words", "words_and_marks", "whitespace", "characters"] = "words"
    lowercase: bool = True
    unknown: Annotated[int, Field(ge=0)] = 1

    def bind(self, read_file: ReadFile) -> Encoder:
        """Load the file once. Raises ValueError when it is no vocabulary."""
        table = self._load(read_file)
        words = _SPLITS[self.split]

        def apply(texts: Sequence[str]) -> Tensors:
            prepared = (text.lower() if self.lowercase else text for text in texts)
            return self._pack([[table.get(word, self.unknown) for word in words.findall(t)] for t in prepared])

        return Encoder(apply, max([*table.values(), self.unknown, self.empty]))

    def _load(self, read_file: ReadFile) -> dict[str, int]:
        table: Any = orjson.loads(read_file(self.file))
        if not isinstance(table, dict) or not all(type(i) is int and 0 <= i <= _MAX_ID for i in table.values()):
            raise ValueError(f"{self.file} is no vocabulary: expected a JSON object of word -> id")
        return table
