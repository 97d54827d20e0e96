"""What an instance may be, and what is refused."""

import base64
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.servoloop.support import Service, answer


def sent(instance: Any) -> Any:
    """What goes over the wire for an instance."""
    service = Service(answer({"value": 1.0}))
    with service.client() as client:
        client.predict("m", instance)
    [form] = service.body["instances"]
    return form


@pytest.mark.parametrize(
    ("instance", "form"),
    [
        ("a text", "a text"),
        ([[1, 2], [3, 4]], [[1, 2], [3, 4]]),
        (np.array([[1.5, 2]], np.float32), [[1.5, 2.0]]),
        ([np.array([1, 2]), np.float32(0.5)], [[1, 2], 0.5]),
        (torch.ones(2, requires_grad=True), [1.0, 1.0]),
        ({"lotsize": 5850}, {"columns": {"lotsize": 5850}}),
        ({"lotsize": np.int64(5850)}, {"columns": {"lotsize": 5850}}),
        ({"values": 3.0}, {"columns": {"values": 3.0}}),
        ({"values": np.zeros(2)}, {"values": [0.0, 0.0]}),
        ({"columns": {"a": 1}}, {"columns": {"a": 1}}),
        ({"text": "a text"}, {"text": "a text"}),
        (b"bytes of a picture", {"image": base64.b64encode(b"bytes of a picture").decode()}),
    ],
)
def test_what_an_instance_may_be(instance: Any, form: Any) -> None:
    assert sent(instance) == form


def test_a_path_is_an_image_file(tmp_path: Path) -> None:
    path = tmp_path / "boot.png"
    path.write_bytes(b"\x89PNG")
    assert sent(path) == {"image": base64.b64encode(b"\x89PNG").decode()}


@pytest.mark.parametrize(
    ("instance", "error", "message"),
    [
        (object(), TypeError, "can't be or hold a object"),
        ([1, {2}], TypeError, "can't be or hold a set"),
        (np.array([np.nan]), ValueError, "NaN"),
    ],
)
def test_what_no_model_takes_is_refused_before_anything_is_sent(
    instance: Any, error: type[Exception], message: str
) -> None:
    service = Service(answer())
    with service.client() as client, pytest.raises(error, match=message):
        client.predict("m", instance)
    assert service.requests == []


@pytest.mark.parametrize("one", ["a text", b"png", {"lotsize": 1}])
def test_one_instance_is_not_taken_for_several(one: Any) -> None:
    with Service(answer()).client() as client, pytest.raises(TypeError, match="several instances"):
        client.predict_many("m", one)
