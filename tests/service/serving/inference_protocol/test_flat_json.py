"""Both ways of reading tensors in JSON give the same, or the shorter one gives nothing."""

from typing import Any

import numpy as np
import orjson
import pytest

from service.serving.inference_protocol.flat_json import read_flat

MANY = list(range(1000))


def body(*inputs: dict[str, Any], **more: Any) -> bytes:
    return orjson.dumps({"inputs": list(inputs), **more})


def tensor(data: Any, datatype: str = "FP32", **more: Any) -> dict[str, Any]:
    return {"name": "input", "shape": [1, 1000], "datatype": datatype, "data": data, **more}


@pytest.mark.parametrize(
    ("datatype", "dtype"), [("FP32", np.float64), ("FP64", np.float64), ("INT8", np.int64), ("UINT64", np.uint64)]
)
def test_flat_numbers_are_read_at_once(datatype: str, dtype: type) -> None:
    document = read_flat(body(tensor(MANY, datatype), id="mine", parameters={"priority": 1}, outputs=[{"name": "x"}]))
    assert document is not None
    (one,) = document.pop("inputs")
    data = one.pop("data")
    assert data.dtype == dtype
    assert data.tolist() == MANY
    assert one == {"name": "input", "shape": [1, 1000], "datatype": datatype}
    assert document == {"id": "mine", "parameters": {"priority": 1}, "outputs": [{"name": "x"}]}


def test_the_largest_whole_numbers_stay_what_they_are() -> None:
    numbers = [2**64 - 1, *MANY]
    document = read_flat(body(tensor(numbers, "UINT64")))
    assert document is not None
    assert document["inputs"][0]["data"].tolist() == numbers


@pytest.mark.parametrize(
    "sent",
    [
        body(tensor([MANY])),
        body(tensor([*MANY, [1]])),
        body(tensor([*MANY, True])),
        body(tensor([*MANY, "7"])),
        body(tensor([*MANY, None])),
        body(tensor([*MANY, 1.5], "INT64")),
        body(tensor([*MANY, -1], "UINT8")),
        body(tensor(MANY, "BOOL")),
        body(tensor(MANY, "BYTES")),
        body(tensor(MANY, "float")),
        body(tensor(MANY), parameters={"list": [1]}),
        body(tensor(MANY, note="[")),
        body(tensor({"a": MANY})),
        body(tensor([*MANY[2:], [1, 2]]), outputs=None),
        body(tensor([MANY]), outputs={}),
        b"\xef\xbb\xbf" + body(tensor(MANY)),
        body(tensor(7, note="x" * 2048)),
        body({"name": "input", "note": "x" * 2048}),
        body(5, tensor(MANY)),
        orjson.dumps({"inputs": tensor(MANY)}),
        orjson.dumps({"rows": MANY}),
        orjson.dumps(MANY),
        body(tensor(MANY))[:-1],
        body(tensor(MANY)) + b"{}",
        body(tensor(MANY))[:-1] + b',"inputs":5}',
        b'{"inputs":[{"datatype":"FP32","shape":[1],"data":[' + b"1," * 1000 + b'1],"data":7}]}',
        body(tensor([1, 2, 3])),
    ],
    ids=lambda sent: f"{sent[:60]!r} ... {sent[-24:]!r}",
)
def test_all_else_is_read_the_long_way(sent: bytes) -> None:
    assert read_flat(sent) is None


def test_outputs_that_are_no_array_count_for_none() -> None:
    document = read_flat(body(tensor(MANY), outputs=None))
    assert document is not None
    assert document["outputs"] is None


def test_a_parser_reads_again_after_what_it_could_not_read() -> None:
    assert read_flat(body(tensor([MANY]))) is None
    assert read_flat(body(tensor(MANY))) is not None
