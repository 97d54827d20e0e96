"""A small picture puzzle that a network learns in a second: is the bright spot on the left or on the right?"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from models.training import loaders
from models.training.data import RawData
from models.training.recipes import Recipe


def spots(n: int = 120) -> RawData:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, n)
    images = rng.integers(0, 60, (n, 1, 6, 6), np.uint8)
    for image, label in zip(images, labels, strict=True):
        image[0, rng.integers(1, 5), 1 if label == 0 else 4] = 255
    return RawData("spots", images, labels, held_out=np.arange(n) >= n - 30)


def words(n: int = 120) -> RawData:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, n)
    filler = [f"word{i}" for i in range(30)]
    texts = [
        " ".join([*rng.choice(filler, rng.integers(2, 9)), "good" if label else "bad", f"end{i}"])
        for i, label in enumerate(labels)
    ]
    return RawData("words", texts, labels)


def lots(n: int = 120) -> RawData:
    rng = np.random.default_rng(0)
    size = rng.uniform(100, 900, (n, 1))
    return RawData("lots", size, 3 * size[:, 0] + 50 + rng.normal(0, 20, n))


@pytest.fixture(autouse=True)
def test_data(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, loader in {"spots": spots, "words": words, "lots": lots}.items():
        monkeypatch.setitem(loaders.LOADERS, name, loader)


SPOTS: dict[str, Any] = {
    "model": "spots",
    "description": "Where the spot is.",
    "data": {"loader": "spots"},
    "task": "multiclass",
    "input": {"kind": "image", "channels": 1, "height": 6, "width": 6},
    "preprocess": [{"step": "scale", "factor": 1 / 255}, {"step": "fit_normalize"}],
    "labels": ["left", "right"],
    "architecture": {
        "family": "cnn",
        "config": {
            "input": [1, 6, 6],
            "blocks": [{"channels": 4, "batch_norm": True, "dropout": 0.1}],
            "dense": [8],
            "outputs": 2,
        },
    },
    "loss": {"kind": "cross_entropy", "label_smoothing": 0.02},
    "optimizer": {"kind": "adamw", "learning_rate": 0.02, "l1": 1e-5, "l2": 0.01, "gradient_clip": 5.0},
    "schedule": {"kind": "one_cycle", "warmup": 0.2},
    "loop": {"epochs": 6, "batch_size": 16, "precision": "bfloat16"},
    "augmentation": {"crop": 1, "flip_vertical": 0.5},
    "sample_rows": 20,
}
WORDS: dict[str, Any] = {
    "model": "words",
    "description": "Whether a text is good.",
    "data": {"loader": "words"},
    "task": "binary",
    "input": {"kind": "text"},
    "preprocess": [{"step": "fit_tokenizer", "vocabulary": 50, "max_length": 16}],
    "labels": ["bad", "good"],
    "architecture": {
        "family": "recurrent",
        "config": {"cell": "gru", "vocabulary": 50, "embedding": 8, "hidden": 8, "pool": "max", "outputs": 1},
    },
    "loss": {"kind": "bce"},
    "optimizer": {"kind": "adam", "learning_rate": 0.05},
    "loop": {"epochs": 8, "batch_size": 16},
    "token_dropout": 0.05,
}
LOTS: dict[str, Any] = {
    "model": "lots",
    "description": "Price by size.",
    "data": {"loader": "lots"},
    "task": "regression",
    "input": {"kind": "columns", "columns": [{"name": "size", "minimum": 0}]},
    "preprocess": [{"step": "fit_standardize"}],
    "target": {"name": "price", "unit": "EUR"},
    "architecture": {"family": "mlp", "config": {"inputs": 1, "outputs": 1}},
    "loss": {"kind": "mse"},
    "optimizer": {"kind": "sgd", "learning_rate": 0.1},
    "loop": {"epochs": 15, "batch_size": 16, "keep_best_by": "loss"},
    "storage": "float32",
}


@pytest.fixture
def make_recipe() -> Callable[..., Recipe]:
    """Return recipe(name, **changes): "spots", "words" or "lots" with some of its keys replaced."""
    plain = {"spots": SPOTS, "words": WORDS, "lots": LOTS}

    def recipe(name: str, **changes: object) -> Recipe:
        return Recipe.model_validate({**plain[name], **changes})

    return recipe
