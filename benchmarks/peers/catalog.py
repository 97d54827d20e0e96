"""The servers that Servoloop is compared with: what each needs, how it is started and how it is asked."""

import base64
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from benchmarks.networks import Case, Request, in_turn, nested
from benchmarks.reviews import Reviews

# MLServer 1.7.1 needs an event loop that newer uvloop does not give; TorchServe needs pkg_resources and an undeclared
# pyyaml.
# A peer without a fixed version: its newest needs packages that not every index has, and pip finds the next.
Backend = Literal["eager", "openvino"]
"""How a peer runs the network."""

HERE = Path(__file__).parent
# The network's code needs these in every environment. The same torch as ours: another would be a false peer.
# OpenVINO is for `--optimised`, and for the fastest offline forward known here.
# The last two are for texts: the tokenizer of a checkpoint, and what is imported with it.
COMMON = (
    "torch==2.13.0",
    "numpy",
    "safetensors",
    "pydantic>=2.9",
    "orjson",
    "openvino==2026.4.1",
    "tokenizers>=0.20",
    "pillow>=11",
)


def _raw(path: str) -> Callable[[Case], Request]:
    """Numbers as they lie in memory, or {"row": nested numbers}."""

    def ask(case: Case) -> Request:
        if case.format == "binary":
            return Request(path, "application/octet-stream", case.subject.row().tobytes())
        return _json(path, {"row": nested(case.subject.row())})

    return ask


def _base64(path: str) -> Callable[[Case], Request]:
    """{"bytes": base64} for a server that reads nothing but JSON."""

    def ask(case: Case) -> Request:
        if case.format == "json":
            return _raw(path)(case)
        return _json(path, {"bytes": _as_text(case)})

    return ask


def _rows(path: str) -> Callable[[Case], Request]:
    """A batch of one row: base64 of its bytes, or nested numbers."""

    def ask(case: Case) -> Request:
        return _json(path, {"rows": [nested(case.subject.row()) if case.format == "json" else _as_text(case)]})

    return ask


def _tensor(path: str) -> Callable[[Case], Request]:
    """The Open Inference Protocol: base64 of the row's bytes, or a flat list of its numbers."""

    def ask(case: Case) -> Request:
        row = case.subject.row()
        if case.format == "json":
            numbers = [number for plane in nested(row) for line in plane for number in line]
            tensor: dict[str, Any] = {"shape": [1, *row.shape], "datatype": "FP32", "data": numbers}
        else:
            parameters = {"content_type": "base64"}
            tensor = {"shape": [1, 1], "datatype": "BYTES", "parameters": parameters, "data": [_as_text(case)]}
        return _json(path, {"inputs": [{"name": "row", **tensor}]})

    return ask


def _plain(path: str) -> Callable[[Reviews], Request]:
    """The bytes of a text."""
    return lambda case: in_turn(path, "application/octet-stream", (text.encode() for text in case.texts))


def _quoted(path: str) -> Callable[[Reviews], Request]:
    """{"text": text}."""
    return lambda case: in_turn(path, "application/json", (_json(path, {"text": text}).body for text in case.texts))


def _as_text(case: Case) -> str:
    return base64.b64encode(case.subject.row().tobytes()).decode()


def _json(path: str, body: Any) -> Request:
    return Request(path, "application/json", json.dumps(body, separators=(",", ":")).encode())


@dataclass(frozen=True)
class Peer:
    """A server. `script` in this folder starts it; the environment names its port, network, threads and workers."""

    name: str
    requirements: tuple[str, ...]
    script: str
    ask: Callable[[Case], Request]
    ready_path: str = "/"
    ask_texts: Callable[[Reviews], Request] | None = None
    """None where it is not measured on texts."""

    def request(self, case: Case | Reviews) -> Request:
        """What it is asked."""
        if not isinstance(case, Reviews):
            return self.ask(case)
        assert self.ask_texts is not None, f"{self.name} is not measured on texts"
        return self.ask_texts(case)


PEERS = {
    peer.name: peer
    for peer in (
        Peer("mosec", ("mosec==0.9.8",), "mosec_server.py", _raw("/inference"), ask_texts=_plain("/inference")),
        Peer("litserve", ("litserve==0.2.19",), "litserve_server.py", _base64("/predict"), "/health",
             _quoted("/predict")),
        Peer("torchserve", ("torchserve==0.12.0", "torch-model-archiver==0.12.0", "pyyaml", "setuptools<81"),
             "torchserve_server.py", _raw("/predictions/network"), "/ping", _plain("/predictions/network")),
        Peer("bentoml", ("bentoml>=1.4",), "bentoml_server.py", _rows("/predict"), "/readyz"),
        Peer("mlserver", ("mlserver==1.7.1", "uvloop<0.22"), "mlserver_server.py", _tensor("/v2/models/network/infer"),
             "/v2/health/ready"),
        Peer("ray", ("ray[serve]==2.60.0",), "ray_server.py", _raw("/"), "/-/healthz"),
    )
}  # fmt: skip
