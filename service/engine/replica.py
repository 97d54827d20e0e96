"""A running copy of one version on a device: assembles a batch, runs the network, checks what came out."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from models.architectures import Network
from models.checkpoint import load_network
from models.manifest import WEIGHTS, BrokenCheckpoint, CheckpointFiles, Manifest, TensorInput
from models.preprocess import Preprocessor, Tensors
from models.preprocess.tensors import Array
from models.samples import sample_rows
from service.errors import BrokenContract


@dataclass(frozen=True, slots=True)
class Fill:
    """Elements that a batch ran over, and how many of them were padding."""

    elements: int
    padding: int


def free_memory() -> None:
    """Give back what PyTorch keeps of the device's memory for later."""
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


class Replica:
    """Not thread-safe: one batch at a time, in the engine's compute thread."""

    canary: Tensors
    """One prepared sample row; there once it is warmed up."""

    def __init__(self, manifest: Manifest, network: Network, device: torch.device) -> None:
        self.manifest = manifest
        self._device = device
        self._network = network.to(device).eval()
        self._image_like = manifest.input.kind == "image"
        if self._image_like:
            self._network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    @staticmethod
    def load(folder: Path, device: torch.device) -> "Replica":
        """Load a checkpoint and warm it up. Raises BrokenCheckpoint with the reason why it can't be served."""
        files = CheckpointFiles(folder)
        network = load_network(files.read(WEIGHTS), files.manifest)
        _check_ids(files.manifest, network)
        replica = Replica(files.manifest, network, device)
        try:
            preprocess = Preprocessor(files.manifest.preprocess, files.read)
        except BrokenCheckpoint:
            raise
        except Exception as error:
            raise BrokenCheckpoint(f"its preprocessing can't be loaded: {error}") from error
        try:
            replica.warm_up(preprocess)
        except BrokenCheckpoint:
            raise
        except Exception as error:
            raise BrokenCheckpoint(f"the network failed on a sample input: {error}") from error
        return replica

    def warm_up(self, preprocess: Preprocessor) -> None:
        """Run sample rows through preprocessing and network; the answer must be finite and of the task's width."""
        for num_rows in (1, 2):
            tensors = preprocess(sample_rows(self.manifest.input, num_rows))
            outputs, _ = self.run(tensors.rows(), ragged=tensors.lengths is not None)
            if not np.isfinite(outputs).all():
                raise BrokenCheckpoint("the network answers a sample input with NaN or infinity")
            if num_rows == 1:
                self.canary = tensors

    def run(self, rows: Sequence[Array], *, ragged: bool) -> tuple[Array, Fill]:
        """Logits or values, (len(rows), outputs) float32, in the order of `rows`."""
        if ragged:
            x, lengths, fill = _pad(rows)
        else:
            x, lengths = torch.from_numpy(np.stack(rows)), None
            fill = Fill(len(rows), 0)
        with torch.inference_mode():
            outputs = self._network(self._place(x), None if lengths is None else lengths.to(self._device))
            logits: Array = outputs.float().cpu().numpy()
        width = self.manifest.num_outputs
        if logits.shape[0] != len(rows) or (width is not None and logits.shape[1:] != (width,)):
            raise BrokenContract("outputs of the network", expected=(len(rows), width), got=logits.shape)
        return logits, fill

    def _place(self, x: Tensor) -> Tensor:
        if self._image_like and x.ndim == 4:
            return x.to(self._device, memory_format=torch.channels_last)
        return x.to(self._device)


def _check_ids(manifest: Manifest, network: Network) -> None:
    """Raise BrokenCheckpoint where an id that the input allows lies outside of the embedding: on a GPU it is fatal."""
    contract, embedding = manifest.input, getattr(network, "embedding", None)
    if not isinstance(contract, TensorInput) or contract.dtype != "int64" or not isinstance(embedding, nn.Embedding):
        return
    least, most = contract.minimum, contract.maximum
    if least is None or most is None or least < 0 or most >= embedding.num_embeddings:
        raise BrokenCheckpoint(
            f"the input allows ids from {least} to {most}, the embedding has 0 to {embedding.num_embeddings - 1}"
        )


def _pad(rows: Sequence[Array]) -> tuple[Tensor, Tensor, Fill]:
    """(B, T, *features) filled with zeros, lengths (B,) int64."""
    lengths = [len(row) for row in rows]
    longest = max(lengths)
    x_BT = np.zeros((len(rows), longest, *rows[0].shape[1:]), rows[0].dtype)
    for filled, row in zip(x_BT, rows, strict=True):
        filled[: len(row)] = row
    used = sum(lengths)
    total = longest * len(rows)
    return torch.from_numpy(x_BT), torch.tensor(lengths), Fill(total, total - used)
