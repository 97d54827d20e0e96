"""Contracts of models, bodies that are sent to them, and reading the one by the other."""

import io
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson
import pytest

from models.inputs import Column, ColumnsInput, ImageInput, TensorInput, TextInput
from service.domain import PredictParameters
from service.errors import InvalidInput
from service.serving.allowance import Allowance
from service.serving.codec import Body, parse_rows

GREY = ImageInput(channels=1, height=2, width=2)
TEXT = TextInput(max_characters=50)
COLUMNS = ColumnsInput(columns=[Column(name="area"), Column(name="rooms")])
STEPS = TensorInput(shape=[-1, 2], max_length=4)
PAIR = TensorInput(shape=[2])


def body(data: Any, content_type: str | None = "application/json", **query: str) -> Body:
    return Body(data if isinstance(data, bytes) else orjson.dumps(data), content_type, list(query.items()))


@dataclass(frozen=True)
class Decoded:
    rows: Any
    parameters: PredictParameters


def read(sent: Body, contract: Any = TEXT, *, max_rows: int = 3) -> Decoded:
    parsed = parse_rows(sent, contract, max_rows=max_rows)
    return Decoded(parsed.rows(Allowance(lambda: None)), parsed.parameters)


def fault(kind: type[InvalidInput], sent: Body, contract: Any = TEXT) -> InvalidInput:
    with pytest.raises(kind) as raised:
        read(sent, contract)
    assert type(raised.value) is kind
    return raised.value


def npy(array: Any) -> bytes:
    stream = io.BytesIO()
    np.save(stream, np.asarray(array))
    return stream.getvalue()
