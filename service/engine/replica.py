"""A running copy of one version on a device: assembles a batch, runs the network, checks what came out."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext

import numpy as np
import torch
from torch import Tensor, nn

from models.architectures import Network
from models.checkpoint import network_of
from models.manifest import WEIGHTS, BrokenCheckpoint, CheckpointFiles, Manifest, TensorInput
from models.preprocess import Preprocessor, Tensors
from models.preprocess.tensors import Array
from models.samples import sample_rows
from service.domain import Precision
from service.engine.devices import peak_of, resident_bytes
from service.engine.failures import DeviceLost, Failure, failure_of
from service.engine.wanted import Fill, Wanted
from service.errors import BrokenContract

_LOWER: dict[Precision, torch.dtype] = {Precision.BFLOAT16: torch.bfloat16, Precision.FLOAT16: torch.float16}


class Replica:
    """Not thread-safe: one batch at a time, in the device's thread.

    With a lower precision PyTorch's autocast chooses what is computed with it; weights and answers stay float32.
    """

    canary: Tensors
    """One prepared sample row; there where it was loaded from a checkpoint."""

    def __init__(
        self,
        manifest: Manifest,
        network: Network,
        device: torch.device,
        precision: Precision = Precision.FLOAT32,
        samples: Sequence[Tensors] = (),
    ) -> None:
        self.manifest = manifest
        self._device = device
        self._dtype = _LOWER.get(precision)
        self._network = network.to(device).eval()
        self._samples = samples
        if samples:
            self.canary = samples[0]
        self._image_like = manifest.input.kind == "image"
        if self._image_like:
            self._network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._resident_bytes = resident_bytes(network, device)
        self._peak_bytes = 0

    @property
    def num_bytes(self) -> int:
        """Bytes of its weights and buffers as they lie on the device; on a GPU, and what its warm-up took at its peak.

        The weights are counted, not read off the allocator, whose count batches of others move meanwhile. A larger
        batch than the warm-up's takes more than its peak.
        """
        return self._resident_bytes + self._peak_bytes

    @staticmethod
    def load(wanted: Wanted, device: torch.device) -> "Replica":
        """Read and check a checkpoint, and build its network on the device; it runs nothing there.

        Raises BrokenCheckpoint with the reason why it can't be served.
        """
        if wanted.precision is Precision.FLOAT16 and device.type != "cuda":
            raise BrokenCheckpoint(f"float16 needs a GPU, and this engine's device is {device}; choose bfloat16")
        files = CheckpointFiles(wanted.folder)
        if wanted.identity not in ("", files.identity):
            raise BrokenCheckpoint(
                "its files changed since they were found; register them as a new version, or restart the service"
            )
        network = network_of(files.read(WEIGHTS), files.manifest)
        _check_ids(files.manifest, network)
        return Replica(files.manifest, network, device, wanted.precision, _samples(files))

    def warm_up(self) -> None:
        """Run sample rows; the answer must be finite and of the task's width.

        Raises BrokenCheckpoint, and DeviceLost where the device answers nothing any more.
        """
        try:
            self._peak_bytes = peak_of(self._run_samples, self._device)
        except BrokenCheckpoint:
            raise
        except Exception as error:
            match failure_of(error):
                case Failure.DEVICE:
                    raise DeviceLost from error
                case Failure.MEMORY:
                    raise
            raise BrokenCheckpoint(f"the network failed on a sample input: {error}") from error

    def _run_samples(self) -> None:
        for tensors in self._samples:
            outputs, _ = self.run(tensors.rows(), ragged=tensors.lengths is not None)
            if not np.isfinite(outputs).all():
                with_precision = "" if self._dtype is None else f", computing with {str(self._dtype)[6:]}"
                raise BrokenCheckpoint(f"the network answers a sample input with NaN or infinity{with_precision}")

    def run(self, rows: Sequence[Array], *, ragged: bool) -> tuple[Array, Fill]:
        """Logits or values, (len(rows), outputs) float32, in the order of `rows`."""
        if ragged:
            x, lengths, fill = _pad(rows)
        else:
            x, lengths = torch.from_numpy(np.stack(rows)), None
            fill = Fill(len(rows), 0)
        with torch.inference_mode(), self._precision():
            outputs = self._network(self._place(x), None if lengths is None else lengths.to(self._device))
            logits: Array = outputs.float().cpu().numpy()
        width = self.manifest.num_outputs
        if logits.shape[0] != len(rows) or (width is not None and logits.shape[1:] != (width,)):
            raise BrokenContract("outputs of the network", expected=(len(rows), width), got=logits.shape)
        return logits, fill

    def _precision(self) -> AbstractContextManager[object]:
        return nullcontext() if self._dtype is None else torch.autocast(self._device.type, self._dtype)

    def _place(self, x: Tensor) -> Tensor:
        if self._image_like and x.ndim == 4:
            return x.to(self._device, memory_format=torch.channels_last)
        return x.to(self._device)


def _samples(files: CheckpointFiles) -> list[Tensors]:
    """One and two prepared sample rows. Raises BrokenCheckpoint."""
    manifest = files.manifest
    try:
        preprocess = Preprocessor(manifest.preprocess, files.read)
    except BrokenCheckpoint:
        raise
    except Exception as error:
        raise BrokenCheckpoint(f"its preprocessing can't be loaded: {error}") from error
    try:
        return [preprocess(sample_rows(manifest.input, num_rows)) for num_rows in (1, 2)]
    except Exception as error:
        raise BrokenCheckpoint(f"its preprocessing failed on a sample input: {error}") from error


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
