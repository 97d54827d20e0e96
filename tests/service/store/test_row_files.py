"""What is written of rows, and what a label is where it comes back."""

import csv
import io
from typing import Any

import orjson
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.store import row_files
from service.store.row_files import Content, Format, encoder, label_in

TEXTS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1)
LABELS = {"label": Content.LABEL}


def written(form: Format, columns: row_files.Columns, *groups: list[dict[str, Any]]) -> bytes:
    writing = encoder(form, columns)
    return b"".join([*map(writing.add, groups), writing.finish()])


@given(st.lists(TEXTS | st.sampled_from(["[", '"', '["a"]', '"a"', "[]"]) | st.lists(TEXTS, min_size=1), min_size=1))
def test_a_label_comes_back_as_it_was(labels: list[str | list[str]]) -> None:
    rows = [{"label": label} for label in labels]
    text = written(Format.CSV, LABELS, rows).decode()
    assert [label_in(row["label"]) for row in csv.DictReader(io.StringIO(text, newline=""))] == labels
    table = pyarrow.parquet.read_table(io.BytesIO(written(Format.PARQUET, LABELS, rows)))
    assert [label_in(text) for text in table["label"].to_pylist()] == labels
    assert list(map(orjson.loads, written(Format.NDJSON, LABELS, rows).splitlines())) == rows


@pytest.mark.parametrize("text", ["[torn", '"torn', "plain"])
def test_a_label_that_others_wrote_is_taken_as_it_is(text: str) -> None:
    assert label_in(text) == text


def test_a_formula_stays_what_it_was() -> None:
    assert written(Format.CSV, LABELS, [{"label": "=1+1"}]) == b"label\r\n=1+1\r\n"


def test_parquet_holds_no_more_than_a_group(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_files, "_GROUP_BYTES", 10_000)
    writing = encoder(Format.PARQUET, {"numbers": Content.NUMBERS})
    sizes = [len(writing.add([{"numbers": [float(number)] * 100}] * 10)) for number in range(9)]
    assert [size > 0 for size in sizes] == [True, False, True, False, False, True, False, False, True]
