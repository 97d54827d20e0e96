"""Raw rows that satisfy an input contract, for warming up a network before the first caller comes."""

import numpy as np

from models.inputs import ColumnsInput, ImageInput, InputContract, TensorInput, TextInput
from models.preprocess import RawRows

_STEPS = 8


def sample_rows(contract: InputContract, num_rows: int) -> RawRows:
    """`num_rows` plain rows: mid-grey pictures, a short sentence, the middle of each range."""
    match contract:
        case ImageInput():
            return np.full((num_rows, *contract.shape), 127, np.uint8)
        case TextInput():
            return ["a short sentence of everyday words"[: contract.max_characters]] * num_rows
        case ColumnsInput():
            row = [_middle(column.minimum, column.maximum) for column in contract.columns]
            return np.array([row] * num_rows, np.float64)
        case TensorInput():
            shape = [min(_STEPS, contract.max_length) if size == -1 else size for size in contract.shape]
            value = _middle(contract.minimum, contract.maximum)
            dense = np.full((num_rows, *shape), value, contract.dtype)
            return list(dense) if contract.variable else dense


def _middle(minimum: float | None, maximum: float | None) -> float:
    if minimum is not None and maximum is not None:
        return minimum + (maximum - minimum) / 2
    return minimum if minimum is not None else maximum if maximum is not None else 0.0
