import asyncio
from typing import Any

import numpy as np
import orjson
import pytest
from pydantic import ValidationError
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.normalizers import Lowercase
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing

from models.preprocess.text import Tokenize, Vocabulary

WORDS = {"good": 4, "bad": 5, "film": 6, "!": 7}


def tokenizer_file(*, template: bool = False, padding: bool = False) -> bytes:
    tokenizer = Tokenizer(WordLevel({"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3, **WORDS}, unk_token="[UNK]"))
    tokenizer.normalizer = Lowercase()
    tokenizer.pre_tokenizer = Whitespace()
    if template:
        tokenizer.post_processor = TemplateProcessing("[CLS] $A [SEP]", None, [("[CLS]", 2), ("[SEP]", 3)])
    if padding:
        tokenizer.enable_padding(length=32)
        tokenizer.enable_truncation(1)
    return tokenizer.to_str().encode()


def ids(step: Tokenize | Vocabulary, data: bytes, *texts: str) -> list[list[int]]:
    tensors = step.bind({"f": data}.__getitem__).encode(texts)
    assert tensors.values.dtype == np.int64
    return [row.tolist() for row in tensors.rows()]


def tokenize(**options: Any) -> Tokenize:
    return Tokenize(file="f", **{"max_length": 8, **options})


def vocabulary(**options: Any) -> Vocabulary:
    return Vocabulary(file="f", **{"max_length": 8, **options})


def test_a_tokenizer_gives_the_ids_of_its_words() -> None:
    assert ids(tokenize(), tokenizer_file(), "Good film!", "bad") == [[4, 6, 7], [5]]


def test_a_tokenizers_special_tokens_are_kept() -> None:
    assert ids(tokenize(), tokenizer_file(template=True), "good film") == [[2, 4, 6, 3]]


def test_a_tokenizers_own_padding_and_truncation_play_no_part() -> None:
    data = tokenizer_file(padding=True)
    assert ids(tokenize(), data, "good film") == [[4, 6]]
    assert ids(tokenize(), data, "good film", "bad") == [[4, 6], [5]]


def test_one_text_and_many_are_tokenized_alike() -> None:
    texts = ["good", "a bad film!", "", "film " * 20]
    together = ids(tokenize(), tokenizer_file(template=True), *texts)
    assert together == [ids(tokenize(), tokenizer_file(template=True), text)[0] for text in texts]


def test_a_text_without_a_token_gets_the_empty_id() -> None:
    assert ids(tokenize(empty=9), tokenizer_file(), "  ", "good") == [[9], [4]]


@pytest.mark.parametrize(("keep", "kept"), [("head", [4, 5]), ("tail", [5, 6])])
def test_long_texts_keep_their_head_or_their_tail(keep: str, kept: list[int]) -> None:
    assert ids(tokenize(max_length=2, keep=keep), tokenizer_file(), "good bad film") == [kept]
    assert ids(vocabulary(max_length=2, keep=keep), orjson.dumps(WORDS), "good bad film") == [kept]


@pytest.mark.parametrize("data", [b"", b"{}", b"no json", orjson.dumps(WORDS), b"\xff"])
def test_a_file_that_is_no_tokenizer_is_refused_by_name(data: bytes) -> None:
    with pytest.raises(ValueError, match="f is no tokenizer file"):
        tokenize().bind({"f": data}.__getitem__)


def test_a_panic_of_the_tokenizer_library_is_an_error_like_others(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = orjson.loads(tokenizer_file())
    broken["normalizer"] = {"type": "Precompiled", "precompiled_charsmap": "AAAA"}
    data = orjson.dumps(broken)
    with pytest.raises(ValueError, match="f is no tokenizer file that can be served: normalizer of type"):
        tokenize().bind({"f": data}.__getitem__)
    monkeypatch.setattr("models.preprocess.text.check_tokenizer", lambda _: None)
    with pytest.raises(ValueError, match="f is no tokenizer file that can be served"):
        tokenize().bind({"f": data}.__getitem__)


class Panic(BaseException):
    """As the library's Rust code raises it."""


@pytest.mark.parametrize("texts", [["good"], ["good", "bad"]])
@pytest.mark.parametrize(
    ("raised", "seen"),
    [
        (Panic("boom"), ValueError),
        (KeyboardInterrupt(), KeyboardInterrupt),
        (SystemExit(), SystemExit),
        (GeneratorExit(), GeneratorExit),
        (asyncio.CancelledError(), asyncio.CancelledError),
    ],
)
def test_a_panic_on_a_text_is_an_error_and_what_ends_a_thread_or_a_task_stays_itself(
    monkeypatch: pytest.MonkeyPatch, texts: list[str], raised: BaseException, seen: type[BaseException]
) -> None:
    class Panicking:
        def no_padding(self) -> None: ...

        no_truncation = no_padding

        def get_vocab(self, *, with_added_tokens: bool) -> dict[str, int]:
            return {"word": 1}

        def encode(self, _: object) -> None:
            raise raised

        encode_batch_fast = encode

    class Loading:
        @staticmethod
        def from_buffer(_: bytes) -> Panicking:
            return Panicking()

    monkeypatch.setattr("models.preprocess.text.Tokenizer", Loading)
    encode, _ = tokenize().bind({"f": tokenizer_file()}.__getitem__)
    with pytest.raises(seen) as stopped:
        encode(texts)
    assert str(stopped.value) == ("f failed on a text: boom" if seen is ValueError else "")


def test_a_vocabulary_gives_the_ids_of_its_words_and_one_for_all_others() -> None:
    assert ids(vocabulary(unknown=3), orjson.dumps(WORDS), "Good, bad unheard-of FILM") == [[4, 5, 3, 3, 6]]


def test_ids_stand_for_words_in_lower_case_up_to_the_first_that_are_too_many_and_1_for_all_else() -> None:
    step = Vocabulary(file="f", max_length=3)
    assert ids(step, orjson.dumps(WORDS), "Good! unheard film bad", "?") == [[4, 1, 6], [1]]
    assert ids(Tokenize(file="f", max_length=2), tokenizer_file(), "Good film bad", " ") == [[4, 6], [1]]


@pytest.mark.parametrize("name", ["", ".hidden", "a/b", "../f", "/f", "a b", "f\n", "x" * 129])
@pytest.mark.parametrize("step", [Tokenize, Vocabulary])
def test_a_step_names_a_file_of_the_checkpoints_folder_itself(step: type[Tokenize | Vocabulary], name: str) -> None:
    step(file="x" * 128, max_length=1)
    with pytest.raises(ValidationError, match="pattern"):
        step(file=name, max_length=1)


def test_case_counts_where_a_vocabulary_says_so() -> None:
    assert ids(vocabulary(lowercase=False), orjson.dumps(WORDS), "Good good") == [[1, 4]]


@pytest.mark.parametrize(
    ("split", "table", "text", "found"),
    [
        ("words", WORDS, "good!film", [4, 6]),
        ("words_and_marks", WORDS, "good!film", [4, 7, 6]),
        ("whitespace", {"good!film": 8}, " good!film\tx", [8, 1]),
        ("characters", {"a": 2, " ": 3, "\n": 4}, "a \nb", [2, 3, 4, 1]),
    ],
)
def test_a_split_says_what_a_word_is(split: str, table: dict[str, int], text: str, found: list[int]) -> None:
    assert ids(vocabulary(split=split), orjson.dumps(table), text) == [found]


def test_a_text_in_which_no_word_is_found_gets_the_empty_id() -> None:
    assert ids(vocabulary(empty=9), orjson.dumps(WORDS), "?!", "good") == [[9], [4]]


@pytest.mark.parametrize("lowest_or_highest", [0, (1 << 63) - 1])
def test_ids_are_all_whole_numbers_that_int64_holds(lowest_or_highest: int) -> None:
    assert ids(vocabulary(), orjson.dumps({"a": lowest_or_highest}), "a") == [[lowest_or_highest]]


@pytest.mark.parametrize(
    "table",
    [{"a": 1 << 63}, [], "text", {"a": "1"}, {"a": -1}, {"a": 1.5}, {"a": True}, {"a": None}, {"a": (1 << 64) - 1}],
)
def test_a_table_that_is_no_vocabulary_is_refused_by_name(table: Any) -> None:
    with pytest.raises(ValueError, match="f is no vocabulary: expected a JSON object of word -> id"):
        vocabulary().bind({"f": orjson.dumps(table)}.__getitem__)


def test_a_vocabulary_that_is_no_json_is_refused() -> None:
    with pytest.raises(ValueError, match="expected"):
        vocabulary().bind({"f": b"{word: 1}"}.__getitem__)


@pytest.mark.parametrize("step", ["tokenize", "vocabulary"])
def test_a_file_is_read_once(step: str) -> None:
    read: list[str] = []
    data = tokenizer_file() if step == "tokenize" else orjson.dumps(WORDS)

    def read_file(name: str) -> bytes:
        read.append(name)
        return data

    encode = (tokenize() if step == "tokenize" else vocabulary()).bind(read_file).encode
    encode(["good"])
    encode(["bad"])
    assert read == ["f"]


@pytest.mark.parametrize(
    ("step", "data", "largest"),
    [
        (vocabulary(), orjson.dumps({"a": 2, "film": 7}), 7),
        (vocabulary(unknown=9), orjson.dumps({"a": 2}), 9),
        (vocabulary(empty=9), orjson.dumps({"a": 2}), 9),
        (vocabulary(), b"{}", 1),
        (tokenize(empty=99), tokenizer_file(), 99),
        (tokenize(), tokenizer_file(template=True), 7),
    ],
)
def test_the_largest_id_is_of_the_file_or_of_the_step(step: Tokenize | Vocabulary, data: bytes, largest: int) -> None:
    assert step.bind(lambda _: data).largest_id == largest
