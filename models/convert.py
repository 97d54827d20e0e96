"""python -m models.convert: bring an author's weights and manifest into a checkpoint folder.

`.pt` and `.pth` files are read as tensors alone (`weights_only=True`) and never in any other way, and in this process,
which does nothing else. The folder appears whole and only when its network has answered a sample row.
"""

import argparse
import hashlib
import pickle
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_safetensors
from torch import Tensor

from models import checkpoint
from models.check import warm_up
from models.checkpoint import StorageType, WeightsMismatch
from models.draft import Draft, read_draft
from models.manifest import BrokenCheckpoint, FileEntry, Manifest
from models.mismatch import describe
from models.renames import read_renames, rename

State = dict[str, Tensor]

_NESTS = ("state_dict", "model_state_dict", "model")
# What DataParallel, DistributedDataParallel and torch.compile put before every name.
_WRAPPERS = ("module.", "_orig_mod.")
_COUNTER = "num_batches_tracked"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status: 0, or 1 with the reason why nothing was made."""
    parser = argparse.ArgumentParser(prog="python -m models.convert", description="Make a checkpoint folder.")
    parser.add_argument("--model", required=True)
    parser.add_argument("--version", type=int, required=True)
    parser.add_argument("--weights", type=Path, required=True, metavar="FILE", help=".safetensors, .pt or .pth")
    parser.add_argument("--manifest", type=Path, required=True, metavar="FILE")
    parser.add_argument("--rename", type=Path, metavar="FILE", help="JSON object of old name -> new name")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    options = parser.parse_args(arguments)
    try:
        draft = read_draft(options.manifest, model=options.model, version=options.version)
        renames = read_renames(options.rename) if options.rename else {}
        convert(options.weights, draft, renames, options.out)
    except (BrokenCheckpoint, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def convert(weights: Path, draft: Draft, renames: Mapping[str, str | None], out: Path) -> Manifest:
    """Write the checkpoint folder `out` and return its manifest. Raises BrokenCheckpoint, or FileExistsError."""
    source = _entry_of_file(weights)
    if draft.declared_weights not in (None, source):
        raise BrokenCheckpoint(f"{weights.name} is not the file that the manifest names: its sha256 or size differs")
    state = rename(read_state(weights), renames)
    # float16 stays as it was, and everything else fits into float32 or is refused.
    dtype: StorageType = "float16" if all(t.dtype == torch.float16 for t in state.values()) else "float32"
    try:
        data = checkpoint.to_bytes(state, dtype)
    except ValueError as error:
        raise BrokenCheckpoint(str(error)) from error
    manifest = draft.with_weights(data)
    try:
        network = checkpoint.network_of(data, manifest)
    except WeightsMismatch as error:
        shapes = {name: tuple(tensor.shape) for name, tensor in state.items()}
        raise BrokenCheckpoint(describe(error, shapes, manifest.architecture, is_renamed=bool(renames))) from error
    warm_up(network, manifest, draft.read)
    lineage = {**manifest.lineage, "registered_from": {"file": weights.name, **source.model_dump()}}
    fields = {**manifest.model_dump(exclude={"files"}), "lineage": lineage}
    return checkpoint.write(out, fields, network, files=draft.files, dtype=dtype)


def read_state(path: Path) -> State:
    """The tensors of a weights file by name, without the prefix of a wrapper. Raises BrokenCheckpoint."""
    match path.suffix:
        case ".safetensors":
            loaded: Any = _read_safetensors(path)
        case ".pt" | ".pth":
            loaded = _read_pickled(path)
        case other:
            raise BrokenCheckpoint(f"{path.name}: expected a .safetensors, .pt or .pth file, got {other or 'none'}")
    state = _tensors(loaded, path.name)
    for prefix in _WRAPPERS:
        if all(name.startswith(prefix) for name in state):
            state = {name.removeprefix(prefix): tensor for name, tensor in state.items()}
    return state


def _read_safetensors(path: Path) -> State:
    try:
        return load_safetensors(path.read_bytes())
    except SafetensorError as error:
        raise BrokenCheckpoint(f"{path.name} is no safetensors file: {error}") from None


def _read_pickled(path: Path) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise BrokenCheckpoint(
            f"{path.name} holds Python objects besides tensors, or is damaged; nothing in it was run. "
            "Save the tensors alone: torch.save(model.state_dict(), FILE)"
        ) from None
    except Exception as error:
        raise BrokenCheckpoint(
            f"{path.name} is no file of torch.save that holds tensors alone ({type(error).__name__}). "
            "Make one with torch.save(model.state_dict(), FILE)"
        ) from error


def _tensors(loaded: Any, file: str) -> State:
    nested = [loaded[key] for key in _NESTS if key in loaded] if isinstance(loaded, Mapping) else []
    if nested and isinstance(nested[0], Mapping):
        loaded = nested[0]
    if not isinstance(loaded, Mapping) or not loaded:
        raise BrokenCheckpoint(f"{file}: expected a dict of tensors, or one under {', '.join(_NESTS)}")
    state: State = {}
    for name, tensor in loaded.items():
        if not isinstance(tensor, Tensor):
            raise BrokenCheckpoint(f"{file}: {name!r} is a {type(tensor).__name__}, expected tensors alone")
        if str(name).endswith(_COUNTER):
            continue
        if tensor.layout != torch.strided or tensor.is_quantized or not tensor.is_floating_point():
            raise BrokenCheckpoint(f"{file}: {name!r} is {_kind(tensor)}, expected dense floating point numbers")
        # A copy, because two names may share one storage, which safetensors doesn't write.
        state[str(name)] = tensor.detach().clone()
    return state


def _kind(tensor: Tensor) -> str:
    return f"{str(tensor.layout).removeprefix('torch.')} {str(tensor.dtype).removeprefix('torch.')}"


def _entry_of_file(path: Path) -> FileEntry:
    with path.open("rb") as file:
        return FileEntry(sha256=hashlib.file_digest(file, "sha256").hexdigest(), size=path.stat().st_size)


if __name__ == "__main__":
    sys.exit(main())
