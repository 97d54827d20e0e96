import pytest

from models.manifest import MANIFEST
from tests.models.manifests import Fields, fields, reason

TENSOR = {"kind": "tensor", "shape": [-1], "dtype": "int64"}
COLUMN = {"name": "area"}


@pytest.mark.parametrize(
    ("contract", "said"),
    [
        (TENSOR, "need a minimum and a maximum"),
        ({**TENSOR, "minimum": 0}, "need a minimum and a maximum"),
        ({**TENSOR, "minimum": 0, "maximum": 1e17}, "where floats are exact"),
        ({"kind": "tensor", "shape": [3, -1]}, "only the first may be -1"),
        ({"kind": "tensor", "shape": [0]}, "sizes are positive"),
        ({"kind": "tensor", "shape": [-2, 3]}, "sizes are positive"),
        ({"kind": "tensor", "shape": []}, "input.tensor.shape: List should have at least 1 item"),
        ({"kind": "columns", "columns": [COLUMN, COLUMN]}, "column names must differ"),
        ({"kind": "columns", "columns": []}, "input.columns.columns: List should have at least 1 item"),
        ({"kind": "image", "channels": 2, "height": 1, "width": 1}, "input.image.channels: "),
        ({"kind": "sound"}, "input: Input tag 'sound'"),
        ({"kind": "text", "surprise": 1}, "input.text.surprise: Extra inputs are not permitted"),
    ],
)
def test_a_wrong_contract_is_refused_with_its_fault(contract: Fields, said: str) -> None:
    text = reason(fields(input=contract))
    assert text.startswith(f"{MANIFEST}: ")
    assert said in text
