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
from models.checkpoint_files import CheckpointFiles
from models.preprocess import Preprocessor

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


def _optimised(network: Network, contract: Any) -> Callable[..., Tensor]:
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
    """The network of this run. A row comes as bytes of its numbers, as nested lists, or as a text."""

    def __init__(self) -> None:
        torch.set_num_threads(int(option("THREADS", "1")))
        folder = Path(option("NETWORK"))
        manifest = json.loads((folder / "manifest.json").read_text())
        self._input, self._labels = manifest["input"], manifest["labels"]
        network = load(folder)
        self._network = _optimised(network, self._input) if option("BACKEND") == "openvino" else network
        self._preprocess: Preprocessor | None = None
        if self._input["kind"] == "text":
            files = CheckpointFiles(folder)
            self._preprocess = Preprocessor(files.manifest.preprocess, files.read)

    def from_bytes(self, data: bytes) -> NDArray[Any]:
        """A row of the numbers as they lie in memory, or of a text's ids."""
        if self._preprocess is not None:
            return self.from_text(data.decode())
        return np.frombuffer(data, np.dtype(self._input["dtype"])).reshape(self._input["shape"])

    def from_lists(self, numbers: Any) -> NDArray[Any]:
        """A row of nested lists."""
        return np.asarray(numbers, np.dtype(self._input["dtype"])).reshape(self._input["shape"])

    def from_text(self, text: str) -> NDArray[Any]:
        """The ids of a text."""
        assert self._preprocess is not None
        return self._preprocess([text]).values

    def predict(self, rows: list[NDArray[Any]]) -> list[dict[str, Any]]:
        """The most likely label of each row, and its probability."""
        with torch.inference_mode():
            logits = self._logits(rows)
            # Of two labels a network may tell the second one's share alone.
            probabilities = (
                logits.softmax(dim=1) if logits.shape[1] > 1 else torch.cat([(-logits).sigmoid(), logits.sigmoid()], 1)
            )
            best = probabilities.max(dim=1)
        return [
            {"label": self._labels[index], "probability": probability}
            for index, probability in zip(best.indices.tolist(), best.values.tolist(), strict=True)
        ]

    def _logits(self, rows: list[NDArray[Any]]) -> Tensor:
        """Of a batch that is padded to its longest row where rows are texts."""
        if self._preprocess is None:
            return self._network(torch.from_numpy(np.stack(rows)))
        lengths = [len(row) for row in rows]
        x = np.zeros((len(rows), max(lengths)), np.int64)
        for row, length, ids in zip(x, lengths, rows, strict=True):
            row[:length] = ids
        return self._network(torch.from_numpy(x), torch.tensor(lengths))
