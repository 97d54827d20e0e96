"""Rows in columns, as a dictionary would have them."""

from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from uuid_utils import uuid7

from service.learning.table import Column, Table, keys_of

COLUMNS = {"number": Column("i4"), "pair": Column("f4", (2,), np.nan)}


def put(table: Table, rows: dict[int, int] | list[tuple[int, int]]) -> None:
    items = list(rows.items()) if isinstance(rows, dict) else rows
    keys = np.array([key for key, _ in items], np.uint64)
    numbers = np.array([number for _, number in items], np.int32)
    table.put(keys, {"number": numbers, "pair": np.stack([numbers, -numbers], axis=1)})


def held(table: Table) -> list[int]:
    return sorted(table["number"][table["there"]].tolist())


def test_a_new_table_is_empty() -> None:
    table = Table(COLUMNS)
    assert (len(table), held(table)) == (0, [])
    table.remove(np.array([1], np.uint64))


def test_rows_are_put_replaced_and_removed() -> None:
    table = Table(COLUMNS)
    put(table, {1: 10, 2**64 - 1: 20})
    put(table, {1: 11, 3: 30})
    table.remove(np.array([3, 4], np.uint64))
    assert held(table) == [11, 20]
    put(table, {3: 31})
    assert (held(table), len(table)) == ([11, 20, 31], 3)
    assert table["pair"].tolist() == [[11, -11], [20, -20], [31, -31]]


def test_of_a_key_that_comes_twice_the_last_counts() -> None:
    table = Table(COLUMNS)
    put(table, [(1, 10), (2, 20), (1, 11)])
    assert held(table) == [11, 20]


def test_a_column_that_is_not_written_is_empty() -> None:
    table = Table(COLUMNS)
    table.put(np.array([1], np.uint64), {"number": np.array([1])})
    assert np.isnan(table["pair"]).all()


def test_many_rows_are_found_again() -> None:
    table = Table(COLUMNS)
    keys = np.random.default_rng(0).permutation(5000)
    for part in np.split(keys, 50):
        put(table, {int(key): int(key) for key in part})
    put(table, {key: key + 10_000 for key in range(100)})
    assert held(table) == [*range(100, 5000), *range(10_000, 10_100)]


def test_rows_come_to_lie_in_the_order_of_their_keys() -> None:
    table = Table(COLUMNS)
    keys = np.random.default_rng(0).permutation(20_000)
    for part in np.split(keys, 50):
        put(table, {int(key): int(key) for key in part})
    places = table.chosen(table["there"])
    assert table["number"][places].tolist() == list(range(20_000))
    assert (np.diff(table["number"][: len(keys) // 3]) > 0).all()


def test_what_is_not_kept_is_let_go() -> None:
    table = Table(COLUMNS)
    put(table, {key: key for key in range(10)})
    table.remove(np.array([9], np.uint64))
    table.compact(table["number"] >= 5)
    assert (held(table), len(table)) == ([5, 6, 7, 8], 4)
    put(table, {5: 50, 1: 1, 9: 90})
    assert (held(table), len(table)) == ([1, 6, 7, 8, 50, 90], 6)


STEPS = st.lists(
    st.tuples(st.sampled_from(["put", "remove", "compact"]), st.lists(st.integers(0, 12), max_size=6)), max_size=12
)


@given(steps=STEPS)
def test_a_table_is_a_dictionary(steps: list[tuple[str, list[int]]]) -> None:
    table, expected = Table(COLUMNS), dict[int, Any]()
    for number, (step, keys) in enumerate(steps):
        if step == "put":
            rows = [(key, 100 * number + place) for place, key in enumerate(keys)]
            put(table, rows)
            expected.update(rows)
        elif step == "remove":
            table.remove(np.array(keys, np.uint64))
            expected = {key: value for key, value in expected.items() if key not in keys}
        else:
            table.compact(table["number"] % 2 == 0)
            expected = {key: value for key, value in expected.items() if value % 2 == 0}
        assert held(table) == sorted(expected.values())


def test_keys_of_ids_differ_within_a_millisecond() -> None:
    ids = [str(uuid7()) for _ in range(2000)]
    assert len(np.unique(keys_of(ids))) == 2000
    assert keys_of(ids[:1]).dtype == np.uint64
