import pytest

from models import strict_json


def test_what_everybody_reads_alike_is_read() -> None:
    assert strict_json.loads(b'{"a": [1, -2.5, 1e300], "b": {"c": null}}') == {"a": [1, -2.5, 1e300], "b": {"c": None}}


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999", "-1e999"])
def test_numbers_are_finite(number: str) -> None:
    with pytest.raises(ValueError, match=f"^no JSON: {number} is no number$"):
        strict_json.loads(f'{{"a": {number}}}'.encode())


def test_a_name_stands_once() -> None:
    with pytest.raises(ValueError, match="'a' stands twice in one object"):
        strict_json.loads(b'{"a": 1, "b": {}, "a": 1}')


@pytest.mark.parametrize("levels", [strict_json.MAX_DEPTH + 1, 100_000])
def test_nesting_ends_soon(levels: int) -> None:
    assert strict_json.loads(b"[" * strict_json.MAX_DEPTH + b"]" * strict_json.MAX_DEPTH)
    with pytest.raises(ValueError, match="nested too deeply"):
        strict_json.loads(b"[" * levels + b"]" * levels)


@pytest.mark.parametrize(
    ("data", "what"), [(b"{", "character 1"), (b"[1] 2", "character 4"), (b'"\xff"', "byte 1 is not UTF-8")]
)
def test_what_is_no_json_is_told_where(data: bytes, what: str) -> None:
    with pytest.raises(ValueError, match=what):
        strict_json.loads(data)
