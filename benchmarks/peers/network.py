"""What every peer serves: the network of a checkpoint folder, told where it is and how to run it by the environment.

Imported inside the peers' environments: torch, numpy, safetensors and pydantic are there, Servoloop's service is not.
"""

import json
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor

from models.architectures import Network, build

MAX_BATCH = 32


def option(name: str, default: str = "") -> str:
    """A setting of this run: BENCHMARK_<name>."""
    return os.environ.get(f"BENCHMARK_{name}", default)


def port() -> int:
    """Where to listen, on the loopback address."""
    return int(option("PORT", "8000"))


def workers() -> int:
    """How many processes run the network."""
    return int(option("WORKERS", "1"))


def max_wait_seconds() -> float:
    """How long a batch waits for more rows."""
    return float(option("MAX_WAIT_MS", "2")) / 1000


def free_port() -> int:
    """One for what the server also wants to listen on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        found: int = probe.getsockname()[1]
        return found


def load(folder: Path) -> Network:
    """The network with its weights, in eval mode."""
    architecture = json.loads((folder / "manifest.json").read_text())["architecture"]
    network = build(architecture["family"], architecture["config"])
    network.load_state_dict(load_file(folder / "weights.safetensors"))
    return network.eval()


def _optimised(network: Network, contract: Any) -> Callable[[Tensor], Tensor]:
    """The network in bfloat16 by OpenVINO, for batches of any size: what a user of a peer could do by hand."""
    import openvino

    shape = [-1, *contract["shape"]]
    dtype = getattr(torch, contract["dtype"])
    example = torch.ones([2, *(16 if size == -1 else size for size in contract["shape"])], dtype=dtype)
    options = {
        "INFERENCE_PRECISION_HINT": "bf16",
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "NUM_STREAMS": 1,
        "PERFORMANCE_HINT": "LATENCY",
    }
    converted = openvino.convert_model(network, example_input=example, input=[shape])
    request = openvino.compile_model(converted, "CPU", options).create_infer_request()
    return lambda x: torch.from_numpy(np.array(request.infer([x.numpy()], share_inputs=True)[0]))


class Model:
    """The network of this run. A row comes as bytes of its numbers, or as nested lists."""

    def __init__(self) -> None:
        torch.set_num_threads(int(option("THREADS", "1")))
        folder = Path(option("NETWORK"))
        self._input = json.loads((folder / "manifest.json").read_text())["input"]
        self._shape = self._input["shape"]
        self._dtype = np.dtype(self._input["dtype"])
        network = load(folder)
        self._logits = _optimised(network, self._input) if option("BACKEND") == "openvino" else network

    def from_bytes(self, data: bytes) -> NDArray[Any]:
        """A row of the numbers as they lie in memory."""
        return np.frombuffer(data, self._dtype).reshape(self._shape)

    def from_lists(self, numbers: Any) -> NDArray[Any]:
        """A row of nested lists."""
        return np.asarray(numbers, self._dtype).reshape(self._shape)

    def predict(self, rows: list[NDArray[Any]]) -> list[dict[str, Any]]:
        """The most likely label of each row, and its probability."""
        with torch.inference_mode():
            probabilities = self._logits(torch.from_numpy(np.stack(rows))).softmax(dim=1)
            best = probabilities.max(dim=1)
        return [
            {"label": str(index), "probability": probability}
            for index, probability in zip(best.indices.tolist(), best.values.tolist(), strict=True)
        ]
