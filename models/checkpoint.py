"""Networks to and from checkpoints: safetensors only, loaded strictly, from the very bytes that were checked.

Weights are stored as float16 or float32 and always loaded as float32.
"""

import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_safetensors
from safetensors.torch import save as save_safetensors
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from models import durable
from models.architectures import Network, build
from models.checkpoint_files import CheckpointFiles
from models.manifest import MANIFEST, WEIGHTS, Architecture, BrokenCheckpoint, FileEntry, Manifest

StorageType = Literal["float16", "float32"]
_DTYPES: dict[StorageType, torch.dtype] = {"float16": torch.float16, "float32": torch.float32}

_LOADABLE = (torch.float16, torch.bfloat16, torch.float32, torch.float64)

# Batch norm's count of the batches it saw: no forward pass reads it.
_UNUSED_SUFFIX = "num_batches_tracked"


class WeightsMismatch(BrokenCheckpoint):
    """The weights are not those of the architecture; each list holds parameter names."""

    def __init__(self, missing: list[str], unexpected: list[str], misshapen: list[str]) -> None:
        parts = {"missing": missing, "unexpected": unexpected, "wrong shape": misshapen}
        listed = "; ".join(f"{what}: {', '.join(names)}" for what, names in parts.items() if names)
        super().__init__(f"{WEIGHTS} doesn't fit the architecture: {listed}")
        self.missing = missing
        self.unexpected = unexpected
        self.misshapen = misshapen


def to_bytes(state: Mapping[str, Tensor], dtype: StorageType = "float16") -> bytes:
    """Return a safetensors file of a state dict. Raises ValueError for numbers that `dtype` can't hold."""
    tensors = {}
    for name, tensor in state.items():
        if name.endswith(_UNUSED_SUFFIX):
            continue
        stored = tensor.detach().to("cpu", _DTYPES[dtype]).contiguous()
        if not bool(torch.isfinite(stored).all()):
            raise ValueError(f"{name} holds numbers that are not finite as {dtype}")
        tensors[name] = stored
    return save_safetensors(tensors)


def from_bytes(data: bytes, architecture: Architecture) -> Network:
    """Return the network with the weights of a safetensors file, float32, in eval mode.

    Raises BrokenCheckpoint (WeightsMismatch for wrong names or shapes), and ValueError for a wrong architecture.
    """
    try:
        state = {name: tensor for name, tensor in load_safetensors(data).items() if not name.endswith(_UNUSED_SUFFIX)}
    except SafetensorError as error:
        raise BrokenCheckpoint(f"{WEIGHTS} is no safetensors file: {error}") from None
    check_names(state, architecture)
    _check_numbers(state)
    with _Undrawn():
        network = build(architecture.family, architecture.config)
    counts = {name: value for name, value in network.state_dict().items() if name.endswith(_UNUSED_SUFFIX)}
    network.load_state_dict({**counts, **state}, strict=True)
    return network.eval()


def check_names(state: Mapping[str, Tensor], architecture: Architecture) -> None:
    """Raise WeightsMismatch unless `state` has exactly the architecture's parameters, each of its shape."""
    wanted = parameter_shapes(architecture)
    misshapen = [
        f"{name} is {tuple(state[name].shape)}, expected {wanted[name]}"
        for name in sorted(wanted.keys() & state.keys())
        if tuple(state[name].shape) != wanted[name]
    ]
    missing, unexpected = sorted(wanted.keys() - state.keys()), sorted(state.keys() - wanted.keys())
    if missing or unexpected or misshapen:
        raise WeightsMismatch(missing, unexpected, misshapen)


def parameter_shapes(architecture: Architecture) -> dict[str, tuple[int, ...]]:
    """Return name -> shape of everything that the architecture's weights file must hold. Raises ValueError."""
    # Shapes without memory: a wrong config is found before it costs anything.
    with torch.device("meta"), _Undrawn():
        network = build(architecture.family, architecture.config)
    state = network.state_dict()
    return {name: tuple(tensor.shape) for name, tensor in state.items() if not name.endswith(_UNUSED_SUFFIX)}


def load(folder: Path) -> Network:
    """The network of a checkpoint folder, with the weights that its manifest names. Raises BrokenCheckpoint."""
    files = CheckpointFiles(folder)
    return network_of(files.read(WEIGHTS), files.manifest)


def network_of(data: bytes, manifest: Manifest) -> Network:
    """Return the network of a weights file's bytes, float32, in eval mode.

    That the bytes are those which the manifest names is for the caller to see to, as CheckpointFiles does. Raises
    BrokenCheckpoint.
    """
    try:
        network = from_bytes(data, manifest.architecture)
    except BrokenCheckpoint:
        raise
    except ValueError as error:
        raise BrokenCheckpoint(str(error)) from error
    if manifest.num_outputs not in (None, network.outputs):
        raise BrokenCheckpoint(
            f"task {manifest.task} with {len(manifest.labels)} labels needs {manifest.num_outputs} outputs, "
            f"the architecture has {network.outputs}"
        )
    return network


def write(
    directory: Path,
    fields: Mapping[str, Any],
    network: Network,
    *,
    files: Mapping[str, bytes] | None = None,
    dtype: StorageType = "float16",
) -> Manifest:
    """Write a checkpoint folder and return its manifest.

    `fields` are the manifest's without `files`; `files` are the further files by name. The folder appears whole or
    not at all. Raises FileExistsError when `directory` is there already: checkpoints are immutable.
    """
    contents = {WEIGHTS: to_bytes(network.state_dict(), dtype), **(files or {})}
    entries = {name: FileEntry.of(data) for name, data in contents.items()}
    manifest = Manifest.model_validate({**fields, "files": entries})
    if directory.exists():
        raise FileExistsError(f"{directory} exists already, and checkpoints are immutable")
    directory.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=f".{directory.name}-", dir=directory.parent))
    try:
        for name, data in {**contents, MANIFEST: manifest.to_json()}.items():
            durable.write(draft / name, data)
        draft.chmod(0o755)  # mkdtemp lets only its owner in
        draft.rename(directory)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise
    return manifest


_DRAWS = (Tensor.normal_, Tensor.uniform_, nn.init.normal_, nn.init.uniform_, nn.init.kaiming_uniform_)


class _Undrawn(TorchFunctionMode):
    """Leaves fresh weights undrawn: they are about to be replaced, and torch's random state stays as it was.

    On the meta device, drawing from a normal distribution would also import torch's compiler, which takes a second.
    """

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Return the tensor as it is instead of filling it with random numbers."""
        given = kwargs or {}
        if func in _DRAWS:
            return args[0] if args else given["tensor"]
        return func(*args, **given)


def _check_numbers(state: Mapping[str, Tensor]) -> None:
    for name, tensor in state.items():
        if tensor.dtype not in _LOADABLE:
            expected = "float16, bfloat16, float32 or float64"
            raise BrokenCheckpoint(f"{WEIGHTS}: {name} is stored as {str(tensor.dtype)[6:]}, expected {expected}")
        if not bool(torch.isfinite(tensor).all()):
            raise BrokenCheckpoint(f"{WEIGHTS} holds NaN or infinite numbers in {name}")
