"""What a tokenizer file may not ask for."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from tokenizers import normalizers

from models.preprocess.tokenizer_file import MAX_BYTES, PATTERNS, check_tokenizer


def file_with(pattern: object) -> bytes:
    split = {"type": "Split", "pattern": {"Regex": pattern}}
    return json.dumps({"pre_tokenizer": {"type": "Sequence", "pretokenizers": [split]}, "model": {}}).encode()


def refusal(data: bytes) -> str:
    with pytest.raises(ValueError, match=r".") as raised:
        check_tokenizer(data)
    return str(raised.value)


@pytest.mark.parametrize("pattern", [*sorted(PATTERNS), "<br ?/?>", "[0-9]", r"\d+", "a|b|c"])
def test_a_pattern_that_ends_is_taken(pattern: str) -> None:
    check_tokenizer(file_with(pattern))


@pytest.mark.parametrize("pattern", ["(a+)+$", "(a|a)*b", r"\s*\s*\s*x", "(?:a*)*", "a{1,}b+", r"(.)\1+", 7, ["a"]])
def test_a_pattern_that_may_never_end_is_refused(pattern: object) -> None:
    with pytest.raises(ValueError, match="none of those that are known to end"):
        check_tokenizer(file_with(pattern))


def test_a_refused_pattern_is_named_but_a_long_one_not_whole() -> None:
    assert refusal(file_with("(a+)+$")) == "the pattern '(a+)+$' is none of those that are known to end"
    assert refusal(file_with("a+" * 99)) == f"the pattern '{'a+' * 50}' is none of those that are known to end"


@pytest.mark.parametrize(
    ("part", "inner"),
    [("normalizer", "normalizers"), ("pre_tokenizer", "pretokenizers"), ("post_processor", "processors")],
)
def test_a_pattern_is_found_in_every_part_that_is_run(part: str, inner: str) -> None:
    sought = {"type": "Replace", "pattern": {"Regex": "(a+)+$"}, "content": ""}
    assert "known to end" in refusal(file_of(**{part: {"type": "Sequence", inner: [sought]}}))


@pytest.mark.parametrize("longest", [10_001, 1 << 40, "100", None, 1.5])
def test_a_word_that_takes_too_long_is_refused(longest: object) -> None:
    said = refusal(json.dumps({"model": {"max_input_chars_per_word": longest}}).encode())
    assert said == f"max_input_chars_per_word is {longest}, at most 10000 are tried"


def test_the_longest_word_that_is_tried() -> None:
    check_tokenizer(json.dumps({"model": {"max_input_chars_per_word": 10_000}}).encode())


def test_a_file_that_is_too_large_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    assert refusal(b" " * (MAX_BYTES + 1)) == "it has 67108865 bytes, at most 67108864 are read"
    monkeypatch.setattr("models.preprocess.tokenizer_file.MAX_BYTES", 2)
    check_tokenizer(b"{}")


def test_a_file_that_is_no_object_is_refused() -> None:
    assert refusal(b"[]") == "it is no JSON object"


@pytest.mark.parametrize(
    "parts",
    [
        {"model": None},
        {"model": ["WordLevel"]},
        {"post_processor": {"type": "TemplateProcessing"}},
        {"post_processor": {"type": "TemplateProcessing", "single": "$A", "special_tokens": 7}},
        {"normalizer": {"type": "Sequence", "normalizers": "Strip"}},
    ],
)
def test_what_has_another_form_is_left_to_the_library(parts: dict[str, Any]) -> None:
    check_tokenizer(file_of(**parts))


def file_of(**parts: Any) -> bytes:
    return json.dumps({"model": {}, **parts}).encode()


def replace(pattern: Any, content: Any) -> dict[str, Any]:
    return {"type": "Replace", "pattern": pattern, "content": content}


def sequence(*normalizers: Any) -> dict[str, Any]:
    return {"type": "Sequence", "normalizers": list(normalizers)}


@pytest.mark.parametrize(
    "normalizer",
    [
        sequence(replace({"Regex": "<br ?/?>"}, " "), {"type": "NFKC"}, {"type": "Lowercase"}),
        sequence({"type": "Prepend", "prepend": "\u2581"}, replace({"String": " "}, "\u2581")),
        sequence(*[replace({"String": "``"}, '"')] * 9),
        sequence(*[replace({"Regex": "b?"}, "x" * 9)] * 2),
        sequence(*[replace({"String": "ab"}, "xyz")] * 6),
        sequence(*[{"type": "Strip"}] * 31),
        {"type": "Prepend", "prepend": "x" * 64},
        {"type": "BertNormalizer"},
        None,
    ],
)
def test_usual_normalizers_are_taken(normalizer: Any) -> None:
    check_tokenizer(file_of(normalizer=normalizer))


TOO_LONG = "what it puts into a text is longer than 64 bytes, or no text"


@pytest.mark.parametrize(
    ("normalizer", "said"),
    [
        (sequence(*[replace({"String": "a"}, "a" * 5)] * 3), "it may make a text 125 times longer, at most 100"),
        (sequence(*[replace({"String": "ab"}, "xyz")] * 7), "it may make a text 128 times longer, at most 100"),
        (sequence(sequence(*[{"type": "ByteLevel"}] * 8)), "it may make a text 256 times longer, at most 100"),
        (sequence(*[replace({"Regex": "b?"}, "x")] * 7), "it may make a text 128 times longer, at most 100"),
        (replace({"String": ""}, "x" * 10), "the pattern of a Replace is empty"),
        (replace({}, "x"), "the pattern of a Replace is empty"),
        (replace("a", "x"), "the pattern of a Replace is empty"),
        (replace({"String": "a" * 100}, "x" * 65), TOO_LONG),
        (replace({"String": "a"}, None), TOO_LONG),
        ({"type": "Prepend", "prepend": "x" * 65}, TOO_LONG),
        ({"type": "Prepend", "prepend": "\u2581" * 22}, TOO_LONG),
        ({"type": "Prepend"}, TOO_LONG),
        (sequence(*[{"type": "Strip"}] * 32), "normalizer has 33 parts, at most 32 are run"),
        ("Lowercase", "normalizer is no JSON object"),
        (sequence("Lowercase"), "normalizer is no JSON object"),
    ],
)
def test_a_normalizer_that_may_blow_texts_up_is_refused(normalizer: Any, said: str) -> None:
    assert refusal(file_of(normalizer=normalizer)).startswith(said)


@pytest.mark.parametrize(
    ("kind", "growth"),
    [
        ("Strip", 1),
        ("NFC", 3),
        ("NFD", 3),
        ("NFKC", 11),
        ("NFKD", 11),
        ("Lowercase", 2),
        ("BertNormalizer", 12),
        ("ByteLevel", 2),
    ],
)
def test_each_normalizer_has_its_growth(kind: str, growth: int) -> None:
    def after(content: int) -> bytes:
        return file_of(
            normalizer=sequence({"type": "ByteLevel"}, {"type": kind}, replace({"String": "a"}, "x" * content))
        )

    most = 50 // growth
    check_tokenizer(after(most))
    assert f"{2 * growth * (most + 1)} times longer" in refusal(after(most + 1))


@pytest.mark.parametrize(
    ("normalizer", "text", "growth"),
    [
        (normalizers.NFC(), "\U0001d160", 3),
        (normalizers.NFD(), "\u0390", 3),
        (normalizers.NFKC(), "\ufdfa", 11),
        (normalizers.NFKD(), "\ufdfa", 11),
        (normalizers.Lowercase(), "\u023a", 2),
        (normalizers.ByteLevel(), "\u00e9", 2),
    ],
    ids=lambda value: type(value).__name__,
)
def test_the_library_lengthens_the_worst_of_texts_no_more_than_is_counted(
    normalizer: normalizers.Normalizer, text: str, growth: int
) -> None:
    longer = len(normalizer.normalize_str(text * 100).encode()) / len((text * 100).encode())
    assert growth - 1 < longer <= growth


@pytest.mark.parametrize(("kind", "growth"), [("Whitespace", 1), ("ByteLevel", 4), ("Metaspace", 4)])
def test_each_pre_tokenizer_has_its_growth(kind: str, growth: int) -> None:
    def before(content: int) -> bytes:
        return file_of(normalizer=replace({"String": "a"}, "x" * content), pre_tokenizer={"type": kind})

    if growth > 1:
        assert f"{growth * (100 // growth + 1)} times longer" in refusal(before(100 // growth + 1))
    check_tokenizer(before(min(64, 100 // growth)))


def test_growth_counts_over_normalizer_and_pre_tokenizer_together() -> None:
    parts = {"type": "Sequence", "pretokenizers": [{"type": "ByteLevel"}] * 3}
    check_tokenizer(file_of(pre_tokenizer=parts))
    with pytest.raises(ValueError, match="times longer"):
        check_tokenizer(file_of(normalizer={"type": "NFC"}, pre_tokenizer=parts))


@pytest.mark.parametrize("part", ["normalizer", "pre_tokenizer", "post_processor", "decoder"])
@pytest.mark.parametrize("kind", ["Precompiled", "Unheard", None, ["Strip"]])
def test_a_part_of_a_kind_that_is_not_listed_is_refused(part: str, kind: Any) -> None:
    assert refusal(file_of(**{part: {"type": kind}})) == f"{part} of type {str(kind)!r} is not served"


@pytest.mark.parametrize(
    ("part", "inner"),
    [
        ("normalizer", "normalizers"),
        ("pre_tokenizer", "pretokenizers"),
        ("post_processor", "processors"),
        ("decoder", "decoders"),
    ],
)
def test_a_sequence_hides_no_part(part: str, inner: str) -> None:
    hidden = {"type": "Sequence", inner: [{"type": "Sequence", inner: [{"type": "Unheard"}]}]}
    assert refusal(file_of(**{part: hidden})) == f"{part} of type 'Unheard' is not served"


def test_a_long_kind_is_not_repeated_whole() -> None:
    assert refusal(file_of(decoder={"type": "x" * 101})) == f"decoder of type '{'x' * 100}' is not served"


def test_a_template_holds_the_text_once_and_few_special_tokens() -> None:
    text, begin = {"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": "[CLS]", "type_id": 0}}

    def template(*pieces: Any, num_ids: int = 1) -> bytes:
        tokens = {"[CLS]": {"id": "[CLS]", "ids": [2] * num_ids, "tokens": ["[CLS]"] * num_ids}}
        return file_of(post_processor={"type": "TemplateProcessing", "single": pieces, "special_tokens": tokens})

    check_tokenizer(template(begin, text))
    check_tokenizer(template(text, *[begin] * 31, num_ids=32))
    for wrong in (template(text, text), template("$A", text), template(*[begin] * 33)):
        assert refusal(wrong) == "its template repeats the text, or has too many pieces"
    assert refusal(template(text, num_ids=33)) == "a special token of its template has more than 32 ids"


@pytest.mark.parametrize("token", [2, {}, {"ids": 2}])
def test_a_special_token_of_a_template_lists_its_ids(token: Any) -> None:
    part = {"type": "TemplateProcessing", "single": [], "special_tokens": {"[CLS]": token}}
    assert refusal(file_of(post_processor=part)) == "a special token of its template has more than 32 ids"


@pytest.mark.parametrize(
    "entry",
    [
        lambda text: {"vocab": {"a": 0, text: 1}},
        lambda text: {"vocab": [["a", 0.0], [text, 0.0]]},
        lambda text: {"vocab": ["a", text]},
        lambda text: {"vocab": {}, "continuing_subword_prefix": text},
        lambda text: {"end_of_word_suffix": text},
        lambda text: {"unk_token": text},
    ],
)
def test_an_entry_that_every_unknown_word_would_repeat_is_bounded(entry: Callable[[str], dict[str, Any]]) -> None:
    check_tokenizer(file_of(model=entry("x" * 512)))
    said = "an entry of its vocabulary has 513 characters, at most 512 are allowed"
    assert refusal(file_of(model=entry("x" * 513))) == said


def test_entries_of_another_form_are_left_to_the_library() -> None:
    check_tokenizer(file_of(model={"vocab": [[], 7, [7, "a"], None], "unk_token": None}))
    check_tokenizer(file_of(model={"vocab": "x" * 600}))
