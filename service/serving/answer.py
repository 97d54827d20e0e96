"""A request's answer, before and after a codec has encoded it."""

from collections.abc import Sequence
from typing import NamedTuple

from service.serving.postprocess import Prediction, Probabilities
from service.wire.inference import Outputs


class Computed(NamedTuple):
    """What the network gave for a request's rows, what that means, and the id of each prediction."""

    outputs: Outputs
    predictions: Sequence[Prediction]
    probabilities: Probabilities | None
    prediction_ids: Sequence[str]


class Encoded(NamedTuple):
    """Bytes, what they are, and headers that belong to them."""

    body: bytes
    media_type: bytes = b"application/json"
    headers: tuple[tuple[bytes, bytes], ...] = ()
