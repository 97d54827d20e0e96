"""What a tokenizer file may not ask for."""

import json

import pytest

from models.preprocess.tokenizer_file import MAX_BYTES, PATTERNS, check_tokenizer


def file_with(pattern: object) -> bytes:
    split = {"type": "Split", "pattern": {"Regex": pattern}}
    return json.dumps({"pre_tokenizer": {"type": "Sequence", "pretokenizers": [split]}, "model": {}}).encode()


@pytest.mark.parametrize("pattern", [*sorted(PATTERNS), "<br ?/?>", "[0-9]", r"\d+", "a|b|c"])
def test_a_pattern_that_ends_is_taken(pattern: str) -> None:
    check_tokenizer(file_with(pattern))


@pytest.mark.parametrize("pattern", ["(a+)+$", "(a|a)*b", r"\s*\s*\s*x", "(?:a*)*", "a{1,}b+", r"(.)\1+", 7, ["a"]])
def test_a_pattern_that_may_never_end_is_refused(pattern: object) -> None:
    with pytest.raises(ValueError, match="none of those that are known to end"):
        check_tokenizer(file_with(pattern))


@pytest.mark.parametrize("longest", [10_001, 1 << 40, "100", None, 1.5])
def test_a_word_that_takes_too_long_is_refused(longest: object) -> None:
    with pytest.raises(ValueError, match="max_input_chars_per_word"):
        check_tokenizer(json.dumps({"model": {"max_input_chars_per_word": longest}}).encode())


def test_a_file_that_is_too_large_or_no_object_is_refused() -> None:
    with pytest.raises(ValueError, match="at most"):
        check_tokenizer(b" " * (MAX_BYTES + 1))
    with pytest.raises(ValueError, match="no JSON object"):
        check_tokenizer(b"[]")
