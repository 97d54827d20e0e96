"""Sample rows keep their contract: what warms a network up is what a caller could have sent."""

from typing import Any

import numpy as np
import pytest
from pydantic import TypeAdapter

from models.inputs import InputContract
from models.samples import sample_rows

CONTRACTS: list[dict[str, Any]] = [
    {"kind": "image", "channels": 3, "height": 4, "width": 6},
    {"kind": "tensor", "shape": [2, 3]},
    {"kind": "tensor", "shape": [4], "minimum": -1, "maximum": -0.5},
    {"kind": "tensor", "shape": [4], "minimum": 3},
    {"kind": "tensor", "shape": [4], "maximum": -3},
    {"kind": "tensor", "shape": [-1, 3], "max_length": 5},
    {"kind": "tensor", "shape": [-1], "dtype": "int64", "minimum": 3, "maximum": 3},
    {"kind": "columns", "columns": [{"name": "a", "minimum": 5, "maximum": 6}, {"name": "b"}]},
]


@pytest.mark.parametrize("described", CONTRACTS)
@pytest.mark.parametrize("num_rows", [1, 3])
def test_samples_have_the_shape_and_lie_in_the_range_of_their_contract(
    described: dict[str, Any], num_rows: int
) -> None:
    contract: Any = TypeAdapter(InputContract).validate_python(described)
    rows = sample_rows(contract, num_rows)
    assert len(rows) == num_rows
    shape = [len(contract.columns)] if contract.kind == "columns" else list(contract.shape)
    for row in rows:
        assert isinstance(row, np.ndarray)
        assert [s if want != -1 else -1 for s, want in zip(row.shape, shape, strict=True)] == shape
        assert len(row) <= getattr(contract, "max_length", len(row))
        ranges = contract.columns if contract.kind == "columns" else [contract] * len(row)
        for value, bounds in zip(row, ranges, strict=True):
            assert np.all(value >= (getattr(bounds, "minimum", None) or -np.inf))
            assert np.all(value <= (getattr(bounds, "maximum", None) or np.inf))


def test_whole_numbers_stay_whole() -> None:
    contract: Any = TypeAdapter(InputContract).validate_python(
        {"kind": "tensor", "shape": [-1], "dtype": "int64", "minimum": 0, "maximum": 9}
    )
    rows = sample_rows(contract, 2)
    assert all(isinstance(row, np.ndarray) and row.dtype == np.int64 for row in rows)


def test_a_sample_text_is_no_longer_than_its_contract_allows() -> None:
    contract: Any = TypeAdapter(InputContract).validate_python({"kind": "text", "max_characters": 7})
    rows = sample_rows(contract, 2)
    assert all(isinstance(row, str) and 0 < len(row) <= 7 for row in rows)
