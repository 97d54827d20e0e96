"""What a tokenizer file may ask for. It is data, but data that can keep a thread busy for ever."""

import re
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


def check_tokenizer(data: bytes) -> None:
    """Raise ValueError for a file that is too large, or that holds a pattern or a limit that could hang a thread."""
    if len(data) > MAX_BYTES:
        raise ValueError(f"it has {len(data)} bytes, at most {MAX_BYTES} are read")
    document = strict_json.loads(data)
    if not isinstance(document, dict):
        raise ValueError("it is no JSON object")
    for part in ("normalizer", "pre_tokenizer", "post_processor"):
        _check_patterns(document.get(part))
    model = document.get("model")
    longest = model.get("max_input_chars_per_word", 0) if isinstance(model, dict) else 0
    if not isinstance(longest, int) or longest > _LONGEST_WORD:
        raise ValueError(f"max_input_chars_per_word is {longest}, at most {_LONGEST_WORD} are tried")


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
