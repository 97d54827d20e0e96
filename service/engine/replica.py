"""A running copy of one version on a device: assembles a batch, runs the network, checks what came out."""

import logging
import time
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import nn

from models.architectures import Network
from models.checkpoint import network_of
from models.checkpoint_files import CheckpointFiles
from models.inputs import TensorInput
from models.manifest import WEIGHTS, BrokenCheckpoint, Manifest
from models.preprocess import Preprocessor, Tensors
from models.preprocess.tensors import Array
from models.samples import sample_rows
from service.domain import Execution, Precision
from service.engine.backends.base import NotBuilt, Typical, none_shipped
from service.engine.backends.eager import Eager
from service.engine.device_memory import peak_of
from service.engine.failures import DeviceLost, Failure, failure_of
from service.engine.heldout import shipped_rows
from service.engine.plans import Plan, Planner, eager, eager_always
from service.engine.runner import Fill
from service.errors import BrokenContract
from service.wire.report import Wanted

log = logging.getLogger(__name__)

# Of the answers' scale: what bfloat16 may be away from float32. Whoever chose the back end measured it more closely.
_ALIKE = 5e-2


class Replica:
    """Batches run in several threads at once, as many as its plan says; a warm-up has the device for itself.

    With a lower precision PyTorch's autocast chooses what is computed with it; weights and answers stay float32. What a
    plan names instead of PyTorch is used for as long as it builds the network and answers its samples alike.
    """

    execution: Execution
    """How it computes, and why so; final once it is warm."""

    def __init__(
        self,
        manifest: Manifest,
        network: Network,
        device: torch.device,
        precision: Precision = Precision.FLOAT32,
        samples: Sequence[Tensors] = (),
        plan: Plan | None = None,
        typical: Typical = none_shipped,
    ) -> None:
        self.manifest = manifest
        self._precision = precision
        self._samples = samples
        plan = plan or eager(device, precision)
        self._plain = eager(plan.place.device, precision, plan.place.threads)
        self._spare: Network | None = None if plan.backend == self._plain.backend else network.eval()
        try:
            self._compiled = plan.backend.build(network, manifest, samples, plan.place, typical)
            self.execution = plan.execution
        except NotBuilt as error:
            self._fall_back(str(error))
        self._peak_bytes = 0

    @property
    def canary(self) -> Tensors:
        """One prepared sample row; it must have been made with samples, as it is from a checkpoint."""
        return self._samples[0]

    @property
    def has_own_threads(self) -> bool:
        """Whether it computes with threads of its own, whichever thread calls it."""
        return self._compiled.has_own_threads

    @property
    def num_bytes(self) -> int:
        """Bytes of its weights and buffers as they lie on the device; on a GPU, and what its warm-up took at its peak.

        The weights are counted, not read off the allocator, whose count batches of others move meanwhile. A larger
        batch than the warm-up's takes more than its peak.
        """
        return self._compiled.num_bytes + self._peak_bytes

    @staticmethod
    def load(wanted: Wanted, device: torch.device, planner: Planner = eager_always) -> "Replica":
        """Read and check a checkpoint, and build its network on the device; it runs nothing there.

        Raises BrokenCheckpoint with the reason why it can't be served.
        """
        if (reason := Eager(wanted.precision).why_not(device)) is not None:
            raise BrokenCheckpoint(reason)
        files = CheckpointFiles(wanted.folder)
        if wanted.identity not in ("", files.identity):
            raise BrokenCheckpoint(
                "its files changed since they were found; register them as a new version, or restart the service"
            )
        network = network_of(files.read(WEIGHTS), files.manifest)
        _check_ids(files.manifest, network)
        plan = planner(device, files.manifest, wanted.precision)

        def typical() -> Sequence[Array]:
            shipped = shipped_rows(files)
            return () if shipped is None else shipped.rows

        return Replica(files.manifest, network, device, wanted.precision, samples_of(files), plan, typical)

    def warm_up(self) -> None:
        """Run sample rows; the answer must be finite and of the task's width.

        Raises BrokenCheckpoint, and DeviceLost where the device answers nothing any more.
        """
        if self._spare is not None:
            try:
                self._compare(self._spare)
            except Exception as error:  # noqa: BLE001 - whatever it is, PyTorch answers instead
                self._fall_back(f"{self.execution.backend} failed on a sample input: {error}")
        self._spare = None
        try:
            self._peak_bytes = peak_of(self._run_samples, self._plain.place.device)
        except BrokenCheckpoint:
            raise
        except Exception as error:
            match failure_of(error):
                case Failure.DEVICE:
                    raise DeviceLost from error
                case Failure.MEMORY:
                    raise
            raise BrokenCheckpoint(f"the network failed on a sample input: {error}") from error

    def padded(self, num_rows: int, longest: int) -> tuple[int, int]:
        """The (rows, steps) in which a batch of so many rows is run."""
        return self._compiled.padded(num_rows, longest)

    def run(self, rows: Sequence[Array], *, ragged: bool) -> tuple[Array, Fill]:
        """Logits or values, (len(rows), outputs) float32, in the order of `rows`."""
        began = time.perf_counter()
        longest = max(map(len, rows)) if ragged else 1
        x, lengths = _pad(rows, *self.padded(len(rows), longest), ragged=ragged)
        assembled = time.perf_counter()
        outputs = self._compiled(x, lengths)
        computed = time.perf_counter()
        width = self.manifest.num_outputs
        if outputs.ndim != 2 or len(outputs) != len(x) or width not in (None, outputs.shape[1]):
            raise BrokenContract("outputs of the network", expected=(len(x), width or "any"), got=outputs.shape)
        total = x.shape[0] * x.shape[1] if ragged else len(x)
        used = sum(map(len, rows)) if ragged else len(rows)
        return outputs[: len(rows)], Fill(total, total - used, assembled - began, computed - assembled)

    def _run_samples(self) -> None:
        for tensors in self._samples:
            outputs, _ = self.run(tensors.rows(), ragged=tensors.lengths is not None)
            if not np.isfinite(outputs).all():
                lower = self._precision is not Precision.FLOAT32
                with_precision = f", computing with {self._precision}" if lower else ""
                raise BrokenCheckpoint(f"the network answers a sample input with NaN or infinity{with_precision}")

    def _compare(self, network: Network) -> None:
        """Raise ValueError unless what was built answers the samples as PyTorch does, but for rounding."""
        # Some back ends take the network itself to their device, others take a copy.
        device = next((parameter.device for parameter in network.parameters()), torch.device("cpu"))
        for tensors in self._samples:
            rows, ragged = tensors.rows(), tensors.lengths is not None
            x, lengths = _pad(rows, len(rows), max(map(len, rows)) if ragged else 1, ragged=ragged)
            placed = [None if each is None else torch.from_numpy(each).to(device) for each in (x, lengths)]
            with torch.inference_mode():
                found = network(*placed)
            expected = found.float().cpu().numpy()
            apart = np.abs(self.run(rows, ragged=ragged)[0] - expected).max()
            if not apart <= _ALIKE * max(1.0, float(np.abs(expected).max())):
                raise ValueError(f"it answers {apart:.2g} away from PyTorch")

    def _fall_back(self, reason: str) -> None:
        log.warning("a network runs on PyTorch", extra={"model": self.manifest.model, "reason": reason})
        assert self._spare is not None  # PyTorch itself builds every network
        plain = self._plain
        self._compiled = plain.backend.build(self._spare, self.manifest, self._samples, plain.place)
        self.execution = replace(plain.execution, reason=reason)


def samples_of(files: CheckpointFiles) -> list[Tensors]:
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


def _pad(rows: Sequence[Array], num_rows: int, num_steps: int, *, ragged: bool) -> tuple[Array, Array | None]:
    """(B, *shape), or (B, T, *features) with lengths (B,) int64; filled with zeros, added rows are one step long."""
    if not ragged:
        if num_rows == len(rows):
            return np.stack(rows), None
        x = np.zeros((num_rows, *rows[0].shape), rows[0].dtype)
        np.stack(rows, out=x[: len(rows)])
        return x, None
    lengths = np.ones(num_rows, np.int64)
    lengths[: len(rows)] = [len(row) for row in rows]
    x_BT = np.zeros((num_rows, num_steps, *rows[0].shape[1:]), rows[0].dtype)
    for filled, row in zip(x_BT, rows, strict=False):
        filled[: len(row)] = row
    return x_BT, lengths
