"""What a model takes: the raw input contract, which all versions of a model share."""

import math
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, model_validator

# The whole numbers up to here are exact as float64, which bounds are.
_EXACT = 1 << 53
# Of a row, or of a step of a sequence: 256 MB.
_MOST_ELEMENTS = 1 << 26


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ImageInput(_Value):
    """Pixels 0..255 of one picture. Files of other sizes are brought to this one as `fit` says."""

    kind: Literal["image"] = "image"
    channels: Literal[1, 3]
    height: Annotated[int, Field(ge=1, le=4096)]
    width: Annotated[int, Field(ge=1, le=4096)]
    fit: Literal["stretch", "contain", "cover"] = "stretch"

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.channels, self.height, self.width)


class TextInput(_Value):
    """One text."""

    kind: Literal["text"] = "text"
    max_characters: Annotated[int, Field(ge=1, le=10_000_000)] = 100_000


class TensorInput(_Value):
    """Numbers of one shape; a first dimension of -1 is a sequence of any length up to `max_length`."""

    kind: Literal["tensor"] = "tensor"
    shape: Annotated[list[int], Field(min_length=1, max_length=6)]
    dtype: Literal["float32", "int64"] = "float32"
    max_length: Annotated[int, Field(ge=1, le=1_000_000)] = 4096
    minimum: FiniteFloat | None = None
    maximum: FiniteFloat | None = None

    @model_validator(mode="after")
    def _dimensions(self) -> Self:
        first, *others = self.shape
        if (first < 1 and first != -1) or any(size < 1 for size in others):
            raise ValueError(f"shape {self.shape}: sizes are positive, and only the first may be -1")
        if math.prod(others, start=1 if first == -1 else first) > _MOST_ELEMENTS:
            raise ValueError(f"shape {self.shape}: a row, or a step, has more than {_MOST_ELEMENTS} numbers")
        if self.dtype == "int64" and (self.minimum is None or self.maximum is None):
            raise ValueError("whole numbers are ids and need a minimum and a maximum, or one could lie outside a table")
        if self.dtype == "int64" and max(abs(self.minimum or 0), abs(self.maximum or 0)) > _EXACT:
            raise ValueError(f"bounds of whole numbers must lie within +-{_EXACT}, where floats are exact")
        return self

    @property
    def variable(self) -> bool:
        return self.shape[0] == -1


class Column(_Value):
    """One named number, with the range in which values are plausible."""

    name: Annotated[str, Field(min_length=1, max_length=128)]
    minimum: FiniteFloat | None = None
    maximum: FiniteFloat | None = None
    unit: str | None = None


class ColumnsInput(_Value):
    """Named numbers."""

    kind: Literal["columns"] = "columns"
    columns: Annotated[list[Column], Field(min_length=1, max_length=4096)]

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        if len(set(self.names)) != len(self.columns):
            raise ValueError("column names must differ")
        return self

    @property
    def names(self) -> list[str]:
        return [column.name for column in self.columns]


InputContract = Annotated[ImageInput | TextInput | TensorInput | ColumnsInput, Field(discriminator="kind")]
