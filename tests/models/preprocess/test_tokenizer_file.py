"""What a tokenizer file may not ask for."""

import json
from typing import Any

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


def file_of(**parts: Any) -> bytes:
    return json.dumps({"model": {}, **parts}).encode()


def replace(pattern: Any, content: Any) -> dict[str, Any]:
    return {"type": "Replace", "pattern": pattern, "content": content}


def sequence(*normalizers: dict[str, Any]) -> dict[str, Any]:
    return {"type": "Sequence", "normalizers": list(normalizers)}


@pytest.mark.parametrize(
    "normalizer",
    [
        sequence(replace({"Regex": "<br ?/?>"}, " "), {"type": "NFKC"}, {"type": "Lowercase"}),
        sequence({"type": "Prepend", "prepend": "\u2581"}, replace({"String": " "}, "\u2581")),
        sequence(*[replace({"String": "``"}, '"')] * 9),
        {"type": "BertNormalizer"},
        None,
    ],
)
def test_usual_normalizers_are_taken(normalizer: Any) -> None:
    check_tokenizer(file_of(normalizer=normalizer))


@pytest.mark.parametrize(
    ("normalizer", "reason"),
    [
        (sequence(*[replace({"String": "a"}, "a" * 10)] * 9), "times longer"),
        (sequence(sequence(*[{"type": "ByteLevel"}] * 8)), "times longer"),
        (sequence(*[replace({"Regex": "b?"}, "x")] * 8), "times longer"),
        (replace({"String": ""}, "x" * 10), "is empty"),
        (replace({}, "x"), "is empty"),
        (replace({"String": "a" * 100}, "x" * 100), "longer than 64 bytes"),
        ({"type": "Prepend", "prepend": "x" * 100}, "longer than 64 bytes"),
        (sequence(*[{"type": "Strip"}] * 40), "41 parts"),
        ("Lowercase", "no JSON object"),
    ],
)
def test_a_normalizer_that_may_blow_texts_up_is_refused(normalizer: Any, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        check_tokenizer(file_of(normalizer=normalizer))


def test_growth_counts_over_normalizer_and_pre_tokenizer_together() -> None:
    parts = {"type": "Sequence", "pretokenizers": [{"type": "ByteLevel"}] * 3}
    check_tokenizer(file_of(pre_tokenizer=parts))
    with pytest.raises(ValueError, match="times longer"):
        check_tokenizer(file_of(normalizer={"type": "NFC"}, pre_tokenizer=parts))


@pytest.mark.parametrize("part", ["normalizer", "pre_tokenizer", "post_processor", "decoder"])
@pytest.mark.parametrize("kind", ["Precompiled", "Unheard", None, ["Strip"]])
def test_a_part_of_a_kind_that_is_not_listed_is_refused(part: str, kind: Any) -> None:
    with pytest.raises(ValueError, match="is not served"):
        check_tokenizer(file_of(**{part: {"type": kind}}))


def test_a_template_holds_the_text_once_and_few_special_tokens() -> None:
    text, begin = {"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": "[CLS]", "type_id": 0}}

    def template(*pieces: Any, num_ids: int = 1) -> bytes:
        tokens = {"[CLS]": {"id": "[CLS]", "ids": [2] * num_ids, "tokens": ["[CLS]"] * num_ids}}
        return file_of(post_processor={"type": "TemplateProcessing", "single": pieces, "special_tokens": tokens})

    check_tokenizer(template(begin, text))
    for wrong in (template(text, text), template("$A", text), template(*[begin] * 40), template(text, num_ids=40)):
        with pytest.raises(ValueError, match="its template"):
            check_tokenizer(wrong)


@pytest.mark.parametrize(
    "model",
    [{"vocab": {"x" * 600: 1}}, {"vocab": [["x" * 600, 0.0]]}, {"vocab": {}, "continuing_subword_prefix": "x" * 600}],
)
def test_an_entry_that_every_unknown_word_would_repeat_is_bounded(model: Any) -> None:
    with pytest.raises(ValueError, match="600 characters"):
        check_tokenizer(file_of(model=model))
