"""What a version's network takes: its rows once they are preprocessed, described as raw rows are."""

from collections.abc import Sequence

import numpy as np

from models.inputs import InputContract, TensorInput
from models.preprocess import Preprocessor, Step
from models.preprocess.numeric import Pad, Truncate
from models.preprocess.text import Tokenize, Vocabulary
from models.samples import sample_rows


def prepared_input(contract: InputContract, steps: Sequence[Step], preprocess: Preprocessor) -> TensorInput:
    """The contract of rows that `preprocess`, made of `steps`, would give for rows that keep `contract`.

    Its bounds are there for ids alone: no id that preprocessing can't give is let through to a network, which may have
    no vector for it. Of other numbers no range is known. Raises ValueError where a plain row can't be prepared.
    """
    if isinstance(contract, TensorInput) and not steps:
        return contract
    sample = preprocess(sample_rows(contract, 1))
    dtype = "int64" if sample.values.dtype == np.int64 else "float32"
    is_dense = sample.lengths is None
    shape = [*sample.values.shape[1:]] if is_dense else [-1, *sample.values.shape[1:]]
    least, most = _ids(contract, steps, preprocess.largest_id) if dtype == "int64" else (None, None)
    longest = {} if is_dense else {"max_length": _longest(contract, steps)}
    return TensorInput(shape=shape, dtype=dtype, minimum=least, maximum=most, **longest)


def _ids(contract: InputContract, steps: Sequence[Step], largest: int | None) -> tuple[float | None, float | None]:
    least: float | None = 0
    most: float | None = largest
    if isinstance(contract, TensorInput):
        least, most = contract.minimum, contract.maximum
    for step in steps:
        if isinstance(step, Pad) and least is not None and most is not None:
            least, most = min(least, step.value), max(most, step.value)
    return least, most


def _longest(contract: InputContract, steps: Sequence[Step]) -> int:
    """The most steps of a sequence."""
    bounds = [step.max_length for step in steps if isinstance(step, Tokenize | Vocabulary | Truncate)]
    if isinstance(contract, TensorInput):
        bounds.append(contract.max_length)
    return min(bounds)
