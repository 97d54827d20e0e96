"""What a tokenizer file may ask for. It is data, but data that can keep a thread busy for ever or fill the memory."""

import re
from collections.abc import Iterator
from typing import Any

from models import strict_json

MAX_BYTES = 64 << 20
_LONGEST_WORD = 10_000

_WORDS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"
_REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
# The patterns by which GPT-2, Llama 3, Qwen 2 and their like split text. Of others,
# one that tries its ways out again and again may never end, and nothing can interrupt it.
PATTERNS = frozenset(
    {
        r"\s+",
        r" {2,}",
        r"\w+|[^\w\s]+",
        r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
        _WORDS + r"\p{N}" + _REST,
        _WORDS + r"\p{N}{1,3}" + _REST,
    }
)

# How many times longer, in bytes of UTF-8, each kind of part makes a text at worst. Unicode's own figures for its
# normal forms: https://unicode.org/faq/normalization.html. Kinds that are not here are refused: `Precompiled` panics.
_GROWTH: dict[str, dict[str, int]] = {
    "normalizer": {
        **dict.fromkeys(("Sequence", "Strip", "StripAccents", "Nmt", "Prepend", "Replace"), 1),
        "NFC": 3,
        "NFD": 3,
        "NFKC": 11,
        "NFKD": 11,
        "Lowercase": 2,
        "BertNormalizer": 12,
        "ByteLevel": 2,
    },
    "pre_tokenizer": {
        **dict.fromkeys(("Sequence", "BertPreTokenizer", "CharDelimiterSplit", "Whitespace", "WhitespaceSplit"), 1),
        **dict.fromkeys(("Split", "Punctuation", "Digits", "UnicodeScripts"), 1),
        "ByteLevel": 4,
        "Metaspace": 4,
    },
    "post_processor": dict.fromkeys(
        ("Sequence", "TemplateProcessing", "BertProcessing", "RobertaProcessing", "ByteLevel"), 1
    ),
    "decoder": {
        **dict.fromkeys(("Sequence", "BPEDecoder", "ByteFallback", "ByteLevel", "CTC", "Fuse"), 1),
        **dict.fromkeys(("Metaspace", "Replace", "Strip", "WordPiece"), 1),
    },
}
_INNER = {
    "normalizer": "normalizers",
    "pre_tokenizer": "pretokenizers",
    "post_processor": "processors",
    "decoder": "decoders",
}
_MOST_GROWTH = 100
_MOST_PARTS = 32
_LONGEST_INSERTION = 64
_LONGEST_ENTRY = 512


def check_tokenizer(data: bytes) -> None:
    """Raise ValueError for a file that is too large, or that could hang a thread or take memory without bounds."""
    if len(data) > MAX_BYTES:
        raise ValueError(f"it has {len(data)} bytes, at most {MAX_BYTES} are read")
    document = strict_json.loads(data)
    if not isinstance(document, dict):
        raise ValueError("it is no JSON object")
    for part in ("normalizer", "pre_tokenizer", "post_processor"):
        _check_patterns(document.get(part))
    _check_growth(document)
    if isinstance(model := document.get("model"), dict):
        longest = model.get("max_input_chars_per_word", 0)
        if not isinstance(longest, int) or longest > _LONGEST_WORD:
            raise ValueError(f"max_input_chars_per_word is {longest}, at most {_LONGEST_WORD} are tried")
        _check_entries(model)


def _check_growth(document: dict[str, Any]) -> None:
    growth = 1
    for name in _GROWTH:
        parts = list(_parts(name, document.get(name)))
        if len(parts) > _MOST_PARTS:
            raise ValueError(f"{name} has {len(parts)} parts, at most {_MOST_PARTS} are run")
        for part in parts:
            kind = part.get("type")
            if not isinstance(kind, str) or kind not in _GROWTH[name]:
                raise ValueError(f"{name} of type {str(kind)[:100]!r} is not served")
            growth *= _GROWTH[name][kind]
            if (name, kind) == ("normalizer", "Replace"):
                growth *= _replace_growth(part)
            if kind == "Prepend":
                _insertion(part.get("prepend"))
            if kind == "TemplateProcessing":
                _check_template(part)
    if growth > _MOST_GROWTH:
        raise ValueError(f"it may make a text {growth} times longer, at most {_MOST_GROWTH} times are allowed")


def _parts(name: str, part: Any) -> Iterator[dict[str, Any]]:
    """A part, or all parts of a sequence with the sequences among them."""
    if part is None:
        return
    if not isinstance(part, dict):
        raise ValueError(f"{name} is no JSON object")
    yield part
    inner = part.get(_INNER[name])
    for each in inner if isinstance(inner, list) else ():
        yield from _parts(name, each)


def _replace_growth(part: dict[str, Any]) -> int:
    pattern, content = part.get("pattern"), _insertion(part.get("content"))
    if isinstance(pattern, dict) and "Regex" in pattern:
        return 1 + content  # it may match the nothing before every byte
    replaced = pattern.get("String") if isinstance(pattern, dict) else None
    if not isinstance(replaced, str) or not replaced:
        raise ValueError("the pattern of a Replace is empty")
    return max(1, -(-content // _num_bytes(replaced)))


def _insertion(text: Any) -> int:
    """Bytes of a text that is put in, once or at every match."""
    if not isinstance(text, str) or _num_bytes(text) > _LONGEST_INSERTION:
        raise ValueError(f"what it puts into a text is longer than {_LONGEST_INSERTION} bytes, or no text")
    return _num_bytes(text)


def _check_template(part: dict[str, Any]) -> None:
    """A template adds a few special tokens to a text, which it holds once."""
    single, special = part.get("single"), part.get("special_tokens")
    pieces = single if isinstance(single, list) else []
    texts = sum(1 for piece in pieces if not isinstance(piece, dict) or "Sequence" in piece)
    if texts > 1 or len(pieces) > _MOST_PARTS:
        raise ValueError("its template repeats the text, or has too many pieces")
    for token in special.values() if isinstance(special, dict) else ():
        ids = token.get("ids") if isinstance(token, dict) else None
        if not isinstance(ids, list) or len(ids) > _MOST_PARTS:
            raise ValueError(f"a special token of its template has more than {_MOST_PARTS} ids")


def _check_entries(model: dict[str, Any]) -> None:
    """Every token of a text is kept with its entry: that for unknown words could be megabytes."""
    vocabulary = model.get("vocab")
    entries = list(vocabulary) if isinstance(vocabulary, dict | list) else []
    # A Unigram model lists pairs of entry and score.
    entries = [entry[0] if isinstance(entry, list) and entry else entry for entry in entries]
    affixes = [model.get("continuing_subword_prefix"), model.get("end_of_word_suffix"), model.get("unk_token")]
    longest = max((len(text) for text in [*entries, *affixes] if isinstance(text, str)), default=0)
    if longest > _LONGEST_ENTRY:
        raise ValueError(f"an entry of its vocabulary has {longest} characters, at most {_LONGEST_ENTRY} are allowed")


def _num_bytes(text: str) -> int:
    return len(text.encode(errors="surrogatepass"))


def _check_patterns(part: Any) -> None:
    """Nesting is bounded by the parser."""
    if isinstance(part, list):
        for inner in part:
            _check_patterns(inner)
    elif isinstance(part, dict):
        pattern = part.get("Regex")
        if pattern is not None and not _surely_ends(pattern):
            raise ValueError(f"the pattern {str(pattern)[:100]!r} is none of those that are known to end")
        for inner in part.values():
            _check_patterns(inner)


def _surely_ends(pattern: Any) -> bool:
    """One repetition, of no group, can't multiply the ways in which a text may match."""
    if not isinstance(pattern, str):
        return False
    return pattern in PATTERNS or ("(" not in pattern and len(re.findall("[*+{]", pattern)) <= 1)
