"""What a checkpoint's network answers without a service: the measure of what is served."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from models import checkpoint
from models.checkpoint_files import CheckpointFiles
from models.manifest import Manifest
from models.preprocess import Preprocessor, RawRows


class Direct:
    """A checkpoint's preprocessing and network, one row at a time."""

    def __init__(self, folder: Path) -> None:
        files = CheckpointFiles(folder)
        self.folder = folder
        self.manifest: Manifest = files.manifest
        self._preprocess = Preprocessor(files.manifest.preprocess, files.read)
        self._network = checkpoint.load(folder)

    def outputs(self, rows: RawRows) -> Any:
        """(n, outputs) float64."""
        return np.concatenate([self._one(rows[index : index + 1]) for index in range(len(rows))])

    def probabilities(self, rows: RawRows) -> list[dict[str, float]]:
        """Each label's probability, for each row."""
        logits = self.outputs(rows)
        if self.manifest.task == "binary":
            logits = np.concatenate([np.zeros_like(logits), logits], axis=1)
        exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
        table = exponentials / exponentials.sum(axis=1, keepdims=True)
        return [dict(zip(self.manifest.labels, row, strict=True)) for row in table.tolist()]

    def _one(self, row: RawRows) -> Any:
        tensors = self._preprocess(row)
        x = torch.from_numpy(np.stack(tensors.rows()))
        lengths = None if tensors.lengths is None else torch.from_numpy(tensors.lengths).long()
        with torch.inference_mode():
            return self._network(x, lengths).double().numpy()

    def weights(self) -> dict[str, torch.Tensor]:
        """The network's parameters by name."""
        return dict(self._network.state_dict())
