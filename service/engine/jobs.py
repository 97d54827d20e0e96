"""What a request is answered with."""

from typing import NamedTuple

from models.preprocess.tensors import Array


class Answer(NamedTuple):
    """Outputs (rows, k) float32 and, by row, why it failed; times in seconds, of the request's last batch."""

    outputs: Array
    failures: dict[int, str]
    queue_seconds: float
    compute_seconds: float
