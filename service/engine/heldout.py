"""Rows to judge back ends by: a version's held-out sample, or where it ships none, rows that its input allows."""

import io
import zipfile
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import nn

from models.architectures import Network
from models.checkpoint_files import CheckpointFiles
from models.inputs import ColumnsInput, ImageInput, InputContract, TensorInput, TextInput
from models.manifest import BrokenCheckpoint, Manifest
from models.preprocess import Preprocessor, Tensors
from models.preprocess.tensors import Array
from models.samples import sample_rows

EVALUATION = "evaluation.npz"
NUM_ROWS = 500
_MOST_BYTES = 1 << 30
_LONGEST = 256


@dataclass(frozen=True, slots=True)
class Rows:
    """Prepared rows, where they are from, and what is true of them: class indices or values, None where unknown."""

    rows: list[Array]
    ragged: bool
    source: str
    truth: Array | None = None


def rows_of(files: CheckpointFiles, network: Network) -> Rows:
    """At most 500 rows. Raises BrokenCheckpoint where a held-out sample is there and is none."""
    if (shipped := shipped_rows(files)) is not None:
        return shipped
    manifest = files.manifest
    preprocess = Preprocessor(manifest.preprocess, files.read)
    tensors = _drawn(preprocess(sample_rows(manifest.input, 2)), manifest, network, preprocess)
    return Rows(tensors.rows(), tensors.lengths is not None, "drawn at random")


def shipped_rows(files: CheckpointFiles) -> Rows | None:
    """At most 500 rows that the version ships; None where it ships none. Raises BrokenCheckpoint as `rows_of` does."""
    manifest = files.manifest
    if EVALUATION not in manifest.files:
        return None
    try:
        raw, truth = _read(files.read(EVALUATION), manifest)
        tensors = Preprocessor(manifest.preprocess, files.read)(raw)
    except (ValueError, KeyError, OSError, zipfile.BadZipFile) as error:
        raise BrokenCheckpoint(f"{EVALUATION} holds no rows with targets: {error}") from error
    return Rows(tensors.rows(), tensors.lengths is not None, EVALUATION, truth)


def _read(data: bytes, manifest: Manifest) -> tuple[Any, Array]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        if sum(entry.file_size for entry in archive.infolist()) > _MOST_BYTES:
            raise ValueError(f"unpacked it has more than {_MOST_BYTES} bytes")
    with np.load(io.BytesIO(data), allow_pickle=False) as sample:
        rows, truth = sample["rows"][:NUM_ROWS], sample["targets"][:NUM_ROWS]
    if truth.ndim != 1 or len(truth) != len(rows) or not len(rows):
        raise ValueError(f"rows {rows.shape} and targets {truth.shape} don't fit together")
    return ([str(text) for text in rows] if isinstance(manifest.input, TextInput) else rows), truth


def _drawn(prepared: Tensors, manifest: Manifest, network: Network, preprocess: Preprocessor) -> Tensors:
    rng = np.random.default_rng(0)
    embedding = getattr(network, "embedding", None)
    if prepared.lengths is not None and isinstance(embedding, nn.Embedding):
        # Ids, because a vocabulary's words are not known here, and all others are one and the same id.
        lengths = rng.integers(1, _longest(manifest) + 1, NUM_ROWS)
        return Tensors.packed([rng.integers(1, embedding.num_embeddings, length) for length in lengths])
    return preprocess(_raw(manifest.input, rng))


def _longest(manifest: Manifest) -> int:
    bounds = [bound for step in manifest.preprocess if (bound := getattr(step, "max_length", None)) is not None]
    if isinstance(manifest.input, TensorInput):
        bounds.append(manifest.input.max_length)
    return int(min([_LONGEST, *bounds]))


def _raw(contract: InputContract, rng: np.random.Generator) -> Any:
    match contract:
        case ImageInput():
            return rng.integers(0, 256, (NUM_ROWS, *contract.shape), dtype=np.uint8)
        case ColumnsInput(columns=columns):
            return np.stack([_between(rng, c.minimum, c.maximum, (NUM_ROWS,)) for c in columns], axis=1)
        case TensorInput(variable=False):
            return _between(rng, contract.minimum, contract.maximum, (NUM_ROWS, *contract.shape)).astype(contract.dtype)
        case TensorInput():
            lengths = rng.integers(1, min(_LONGEST, contract.max_length) + 1, NUM_ROWS)
            shapes = [(int(length), *contract.shape[1:]) for length in lengths]
            return [_between(rng, contract.minimum, contract.maximum, s).astype(contract.dtype) for s in shapes]
        case TextInput():
            return sample_rows(contract, NUM_ROWS)


def _between(rng: np.random.Generator, minimum: float | None, maximum: float | None, shape: tuple[int, ...]) -> Array:
    if minimum is not None and maximum is not None:
        return rng.uniform(minimum, maximum, shape)
    spread = np.abs(rng.normal(size=shape))
    if minimum is not None:
        return minimum + spread * max(1.0, abs(minimum))
    return maximum - spread if maximum is not None else rng.normal(size=shape)
