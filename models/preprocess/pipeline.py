"""All declared steps of one version, in their order."""

from collections.abc import Callable, Sequence
from typing import Annotated

import numpy as np
from pydantic import Field

from models.preprocess.images import CenterCrop, Grayscale, Resize
from models.preprocess.numeric import Normalize, Pad, Scale, Standardize, Truncate
from models.preprocess.tensors import Array, Tensors
from models.preprocess.text import ReadFile, Tokenize, Vocabulary

RawRows = Array | list[Array] | list[str]
"""Rows as the input contract says: (n, *shape) numbers, a list of sequences (length_i, *features), or texts."""

TextStep = Tokenize | Vocabulary
TensorStep = Grayscale | Resize | CenterCrop | Scale | Normalize | Standardize | Truncate | Pad
Step = Annotated[TextStep | TensorStep, Field(discriminator="step")]


class Preprocessor:
    """Turns raw rows into what the network takes.

    `read_file` gives the bytes of a file of the checkpoint by name; each is read once, here.
    Raises ValueError when the steps can't follow one another or a file is not what its step needs.
    """

    def __init__(self, steps: Sequence[Step], read_file: ReadFile) -> None:
        self._encode: Callable[[Sequence[str]], Tensors] | None = None
        self.largest_id: int | None = None
        """Of those that texts may be given; None where none are taken."""
        self._steps: list[TensorStep] = []
        for position, step in enumerate(steps):
            if not isinstance(step, TextStep):
                self._steps.append(step)
            elif position == 0:
                self._encode, self.largest_id = step.bind(read_file)
            else:
                raise ValueError(f"the step {step.step!r} takes text, so it must come first, not at {position}")

    def __call__(self, rows: RawRows) -> Tensors:
        """Prepare `rows`; whole numbers stay int64, all else becomes float32."""
        tensors = self._start(rows)
        for step in self._steps:
            tensors = step.apply(tensors)
        if tensors.values.dtype in (np.int64, np.float32):
            return tensors
        return Tensors(tensors.values.astype(np.float32), tensors.lengths)

    def _start(self, rows: RawRows) -> Tensors:
        if isinstance(rows, np.ndarray):
            return Tensors(rows)
        texts = [row for row in rows if isinstance(row, str)]
        if not texts:
            return Tensors.packed([row for row in rows if not isinstance(row, str)])
        if self._encode is None:
            raise ValueError("texts need a step tokenize or vocabulary")
        return self._encode(texts)
