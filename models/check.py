"""python -m models.check DIR: verify a checkpoint, build its network, and run a sample row through it."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from models.architectures import Network
from models.checkpoint import network_of
from models.checkpoint_files import CheckpointFiles
from models.manifest import WEIGHTS, BrokenCheckpoint, Manifest
from models.preprocess import Preprocessor
from models.preprocess.pipeline import TextStep
from models.preprocess.text import ReadFile
from models.samples import sample_rows


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status: 0, or 1 with the reason why the checkpoint can't be served."""
    parser = argparse.ArgumentParser(prog="python -m models.check", description=__doc__)
    parser.add_argument("folder", type=Path, metavar="DIR")
    options = parser.parse_args(arguments)
    try:
        num_parameters = check(options.folder)
    except BrokenCheckpoint as error:
        print(error, file=sys.stderr)
        return 1
    print(f"{num_parameters:,} parameters; a sample row is answered with finite numbers")
    return 0


def check(folder: Path) -> int:
    """Do everything that loading for service does; return the number of parameters. Raises BrokenCheckpoint."""
    files = CheckpointFiles(folder)
    files.verify()
    network = network_of(files.read(WEIGHTS), files.manifest)
    warm_up(network, files.manifest, files.read)
    return sum(parameter.numel() for parameter in network.parameters())


def warm_up(network: Network, manifest: Manifest, read_file: ReadFile) -> None:
    """Run a sample row through the declared steps and the network, on a CPU. Raises BrokenCheckpoint."""
    try:
        preprocess = Preprocessor(manifest.preprocess, read_file)
        tensors = preprocess(sample_rows(manifest.input, 1))
        x, lengths = torch.from_numpy(tensors.values), None
        if tensors.lengths is not None:  # packed: the one row is all there is
            x, lengths = x[None], torch.from_numpy(tensors.lengths)
        with torch.inference_mode():
            _check_ids(network, manifest, preprocess.largest_id, x, lengths)
            outputs = network(x, lengths)
    except BrokenCheckpoint:
        raise
    except Exception as error:
        raise BrokenCheckpoint(f"a sample row can't be computed: {error}") from error
    if outputs.shape != (1, network.outputs):
        raise BrokenCheckpoint(f"a row gave outputs of shape {tuple(outputs.shape)}, expected (1, {network.outputs})")
    if not bool(torch.isfinite(outputs).all()):
        raise BrokenCheckpoint("a sample row is answered with NaN or infinity")


def _check_ids(network: Network, manifest: Manifest, largest: int | None, x: Tensor, lengths: Tensor | None) -> None:
    """Raise BrokenCheckpoint where a text may get an id that the network doesn't know; `x` is a sample of its input."""
    if largest is None or x.dtype != torch.int64:
        return
    first = manifest.preprocess[0]
    assert isinstance(first, TextStep)
    try:
        network(torch.full_like(x, largest), lengths)
    except IndexError:
        raise BrokenCheckpoint(
            f"the step {first.step} with {first.file} gives ids up to {largest}, and the network has no vector for "
            f"that: its config needs a `vocabulary` of at least {largest + 1}, one more than the largest id"
        ) from None


if __name__ == "__main__":
    sys.exit(main())
