"""A model that keeps a core busy for as long as a fault takes."""

import io
from pathlib import Path

import numpy as np

from tests import checkpoints
from tests.end_to_end.connection import request

NAME = "marathon"
NPY_TYPE = "application/x-npy"
PATH = f"/v1/models/{NAME}/predict"


def write(root: Path) -> None:
    """The model: as slow as its input is long."""
    checkpoints.write_steps(root, NAME, max_length=1_000_000)


def rows_of(steps: int) -> bytes:
    """A sequence as .npy; 20,000 steps take about half a second."""
    file = io.BytesIO()
    np.save(file, np.ones((steps, 3), np.float32))
    return file.getvalue()


def ask(steps: int, **headers: str) -> bytes:
    """The bytes of a request."""
    return request(PATH, rows_of(steps), NPY_TYPE, **headers)
