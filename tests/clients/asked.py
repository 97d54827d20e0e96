"""What families ask: the same rows as /v1 and as the protocol take them. It needs numpy beside the standard library."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.clients.support import image, picture

Array = NDArray[Any]

# As in models/checkpoints and tests/checkpoints.py.
_LABELLED = ["clothes", "fashion", "thumbnails", "mood", "sentiment", "sentiment-lstm", "codes"]
OUTPUTS = {
    **{model: ["probabilities", "label", "logits"] for model in _LABELLED},
    "sensors": ["probabilities", "logits"],
    "motion": ["embedding"],
    "rent": ["value"],
    "house-price": ["value"],
}


@dataclass(frozen=True)
class Asked:
    """Rows of a model: instances of /v1, and one input tensor with the same."""

    model: str
    instances: list[Any]
    name: str
    datatype: str
    array: Array


def texts(*rows: bytes) -> Array:
    """A tensor of BYTES, one element a row."""
    return np.array([[row] for row in rows], np.object_)


def _texts(model: str, *rows: str) -> Asked:
    return Asked(model, list(rows), "text", "BYTES", texts(*(row.encode() for row in rows)))


def _pictures(model: str, *files: bytes) -> Asked:
    return Asked(model, [image(file) for file in files], "image", "BYTES", texts(*files))


def _numbers(model: str, name: str, datatype: str, array: Array) -> Asked:
    return Asked(model, array.tolist(), name, datatype, array)


ASKED = [
    _texts("mood", "a good film", "it was not very good"),
    _texts("sentiment", "What a film! I laughed and cried.", "Größter Unsinn, 0/10."),
    _texts("sentiment-lstm", "Dull.", "A masterpiece in every way."),
    _pictures("clothes", picture(), picture(shade=100), picture(40, 50)),
    _pictures("fashion", picture(), picture(shade=100)),
    _pictures("thumbnails", picture(6, 4, 3), picture(12, 9, 3, shade=100)),
    _numbers("sensors", "input", "FP32", np.array([[1, 2, 3, 4], [-0.5, 0.25, 1.5, 99]], np.float32)),
    _numbers("codes", "input", "INT64", np.array([[2, 3, 5], [9, 8, 0]], np.int64)),
    _numbers("motion", "input", "FP32", np.linspace(-1, 1, 24, dtype=np.float32).reshape(2, 4, 3)),
    _numbers("rent", "columns", "FP64", np.array([[90, 4], [50.5, 2]], np.float64)),
    _numbers("house-price", "columns", "FP64", np.array([[5850], [4000]], np.float64)),
]
"""Every kind of input and of task."""
BY_MODEL = {asked.model: asked for asked in ASKED}


def strings(array: Array) -> list[str]:
    """The elements of BYTES; clients read texts from JSON, and bytes from bytes."""
    flat = array.reshape(-1).tolist()
    return [element.decode() if isinstance(element, bytes) else element for element in flat]


def check_alike(outputs: Mapping[str, Array], predictions: list[dict[str, Any]]) -> None:
    """That the outputs, all of a model's, say what the predictions of /v1 say, as near as two batches do."""

    def said(name: str) -> list[Any]:
        return [prediction[name] for prediction in predictions]

    match list(outputs):
        case ["probabilities", *more, "logits"]:
            expected = [list(each.values()) for each in said("probabilities")]
            assert np.allclose(outputs["probabilities"], expected, rtol=0, atol=1e-5)
            assert outputs["logits"].shape[0] == len(predictions)
            if more:
                assert outputs["label"].shape == (len(predictions), 1)
                assert strings(outputs["label"]) == said("label")
        case ["value"]:
            assert np.allclose(outputs["value"], [[each] for each in said("value")], rtol=1e-5, atol=0)
        case ["embedding"]:
            assert np.allclose(outputs["embedding"], said("embedding"), rtol=0, atol=1e-5)
        case names:
            raise AssertionError(f"there are {names}")
