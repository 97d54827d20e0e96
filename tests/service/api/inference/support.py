"""Requests of the Open Inference Protocol as its clients write them, and answers as they read them."""

import struct
from typing import Any

import httpx
import numpy as np
import orjson

from models.preprocess.tensors import Array

LENGTH = "Inference-Header-Content-Length"
DTYPES = {
    "BOOL": "?", "UINT8": "<u1", "UINT16": "<u2", "UINT32": "<u4", "UINT64": "<u8", "INT8": "<i1", "INT16": "<i2",
    "INT32": "<i4", "INT64": "<i8", "FP16": "<f2", "FP32": "<f4", "FP64": "<f8",
}  # fmt: skip


def elements(*texts: bytes) -> bytes:
    """BYTES as they travel: each behind its length."""
    return b"".join(struct.pack("<I", len(text)) + text for text in texts)


def bfloat16(values: Array) -> bytes:
    """The upper halves of float32."""
    return (values.astype("<f4").view("<u4") >> 16).astype("<u2").tobytes()


def tensor(name: str, datatype: str, shape: list[int], data: Any) -> dict[str, Any]:
    """An input in JSON."""
    return {"name": name, "datatype": datatype, "shape": shape, "data": data}


def binary(inputs: list[tuple[str, str, list[int], bytes]], **more: Any) -> tuple[bytes, dict[str, str]]:
    """A body with its tensors as bytes, and the header that says so."""
    document = {
        "inputs": [
            {"name": name, "datatype": datatype, "shape": shape, "parameters": {"binary_data_size": len(data)}}
            for name, datatype, shape, data in inputs
        ],
        **more,
    }
    text = orjson.dumps(document)
    return text + b"".join(data for *_, data in inputs), {LENGTH: str(len(text))}


async def infer(
    client: httpx.AsyncClient, model: str, inputs: list[dict[str, Any]], *, version: str | None = None, **more: Any
) -> httpx.Response:
    """A request in JSON, without any Content-Type, as tritonclient sends it."""
    return await client.post(infer_path(model, version), content=orjson.dumps({"inputs": inputs, **more}))


def infer_path(model: str, version: str | None = None) -> str:
    return f"/v2/models/{model}/infer" if version is None else f"/v2/models/{model}/versions/{version}/infer"


def outputs_of(response: httpx.Response) -> dict[str, Any]:
    """The tensors of an answer by name: arrays of their shapes, and lists of the elements of BYTES."""
    assert response.status_code == 200, response.text
    length = response.headers.get(LENGTH)
    text = response.content if length is None else response.content[: int(length)]
    rest = b"" if length is None else response.content[int(length) :]
    read: dict[str, Any] = {}
    for one in orjson.loads(text)["outputs"]:
        size = one.get("parameters", {}).get("binary_data_size")
        if size is None:
            read[one["name"]] = _from_json(one)
        else:
            read[one["name"]] = _from_bytes(one, rest[:size])
            rest = rest[size:]
    assert not rest
    return read


def error_of(response: httpx.Response) -> str:
    """What is wrong, once the form of the answer is checked."""
    assert response.status_code >= 400
    assert response.headers["content-type"] == "application/json"
    assert response.headers["x-request-id"]
    body = response.json()
    assert list(body) == ["error"]
    text: str = body["error"]
    return text


def _from_json(one: dict[str, Any]) -> Any:
    if one["datatype"] == "BYTES":
        assert len(one["data"]) == np.prod(one["shape"])
        return one["data"]
    return np.array(one["data"], DTYPES[one["datatype"]]).reshape(one["shape"])


def _from_bytes(one: dict[str, Any], data: bytes) -> Any:
    if one["datatype"] != "BYTES":
        return np.frombuffer(data, DTYPES[one["datatype"]]).reshape(one["shape"])
    texts = []
    while data:
        (size,) = struct.unpack_from("<I", data)
        texts.append(data[4 : 4 + size].decode())
        data = data[4 + size :]
    assert len(texts) == np.prod(one["shape"])
    return texts
