"""Steps on numbers: scaling, normalising, standardising, and the length of sequences."""

from typing import Annotated, Literal, Self

import numpy as np
from pydantic import Field, FiniteFloat, model_validator

from models.preprocess.tensors import Array, StepConfig, Tensors

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Scale(StepConfig):
    """x * factor + offset, float32."""

    step: Literal["scale"] = "scale"
    factor: FiniteFloat
    offset: FiniteFloat = 0.0

    def apply(self, rows: Tensors) -> Tensors:
        values = rows.values.astype(np.float32)
        values *= np.float32(self.factor)
        if self.offset:
            values += np.float32(self.offset)
        return Tensors(values, rows.lengths)


class _MeanAndStd(StepConfig):
    mean: Annotated[list[FiniteFloat], Field(min_length=1)]
    std: Annotated[list[Positive], Field(min_length=1)]

    @model_validator(mode="after")
    def _same_size(self) -> Self:
        if len(self.mean) != len(self.std):
            raise ValueError(f"mean has {len(self.mean)} values and std {len(self.std)}, they must be as many")
        return self

    def _standardised(self, values: Array, axis: int) -> Array:
        if values.shape[axis] != len(self.mean):
            raise ValueError(f"mean has {len(self.mean)} values for {values.shape[axis]} channels or columns")
        shape = [1] * values.ndim
        shape[axis] = -1
        mean = np.array(self.mean, np.float32).reshape(shape)
        std = np.array(self.std, np.float32).reshape(shape)
        centred: Array = values.astype(np.float32) - mean
        centred /= std
        return centred


class Normalize(_MeanAndStd):
    """(x - mean) / std for each channel of (n, C, H, W), float32."""

    step: Literal["normalize"] = "normalize"

    def apply(self, rows: Tensors) -> Tensors:
        if rows.lengths is not None:
            raise ValueError("the step 'normalize' takes pictures; for sequences there is 'standardize'")
        return Tensors(self._standardised(rows.values, axis=1))


class Standardize(_MeanAndStd):
    """(x - mean) / std for each column, the last axis of rows or sequences, float32."""

    step: Literal["standardize"] = "standardize"

    def apply(self, rows: Tensors) -> Tensors:
        return Tensors(self._standardised(rows.values, axis=-1), rows.lengths)


class Truncate(StepConfig):
    """Sequences longer than `max_length` keep their head or their tail."""

    step: Literal["truncate"] = "truncate"
    max_length: Annotated[int, Field(ge=1)]
    keep: Literal["head", "tail"] = "head"

    def apply(self, rows: Tensors) -> Tensors:
        if rows.lengths is None:
            values = rows.values
            return Tensors(values[:, : self.max_length] if self.keep == "head" else values[:, -self.max_length :])
        if rows.lengths.max() <= self.max_length:
            return rows
        return Tensors.packed([clip(row, self.max_length, self.keep) for row in rows.rows()])


class Pad(StepConfig):
    """Sequences become dense, (n, length, *features), filled at the end with `value`; longer ones are refused."""

    step: Literal["pad"] = "pad"
    length: Annotated[int, Field(ge=1, le=1_000_000)]
    value: FiniteFloat = 0.0

    def apply(self, rows: Tensors) -> Tensors:
        sequences = rows.rows()
        longest = max(map(len, sequences))
        if longest > self.length:
            raise ValueError(f"pad to {self.length} can't hold a sequence of {longest}; truncate before")
        shape = (len(sequences), self.length, *sequences[0].shape[1:])
        dense = np.full(shape, self.value, rows.values.dtype)
        for filled, sequence in zip(dense, sequences, strict=True):
            filled[: len(sequence)] = sequence
        return Tensors(dense)


def clip(row: Array, max_length: int, keep: Literal["head", "tail"]) -> Array:
    """The first or the last `max_length` elements of a sequence."""
    return row[:max_length] if keep == "head" else row[-max_length:]
