"""Small checkpoints, one for each kind of input and task, written as an operator would have them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson
import torch

from models import checkpoint
from models.architectures import build
from models.manifest import Manifest

CLOTHES = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")
WORDS = {word: number for number, word in enumerate(["a", "good", "bad", "film", "it", "was", "very", "not"], start=2)}


def write(
    root: Path, model: str, version: int = 1, *, files: Mapping[str, bytes] | None = None, seed: int = 0, **fields: Any
) -> Manifest:
    """Write `<root>/<model>/<version>/` with random weights; `fields` as in the manifest."""
    torch.manual_seed(1000 * version + seed)
    architecture = fields["architecture"]
    network = build(architecture["family"], architecture["config"])
    wanted = {"model": model, "version": version, **fields}
    return checkpoint.write(root / model / str(version), wanted, network, files=files, dtype="float32")


def write_image(
    root: Path, model: str = "clothes", version: int = 1, labels: Sequence[str] = CLOTHES, **more: Any
) -> Manifest:
    """Grey pictures, 28 x 28, multiclass."""
    config = {
        "input": [1, 28, 28],
        "blocks": [{"channels": 4, "pool": 4}],
        "dense": [],
        "outputs": len(labels),
    }
    return write(
        root,
        model,
        version,
        **{
            "architecture": {"family": "cnn", "config": config},
            "task": "multiclass",
            "input": {"kind": "image", "channels": 1, "height": 28, "width": 28},
            "preprocess": [{"step": "scale", "factor": 1 / 255}],
            "labels": list(labels),
            **more,
        },
    )


def write_colour_image(root: Path, model: str = "thumbnails", version: int = 1) -> Manifest:
    """Colour pictures, 3 x 4 x 6, two labels."""
    config = {"input": [3, 4, 6], "blocks": [{"channels": 2}], "dense": [], "outputs": 2}
    return write(
        root,
        model,
        version,
        architecture={"family": "cnn", "config": config},
        task="multiclass",
        input={"kind": "image", "channels": 3, "height": 4, "width": 6},
        labels=["day", "night"],
    )


def write_text(root: Path, model: str = "mood", version: int = 1, *, max_characters: int = 200) -> Manifest:
    """Short texts, negative or positive."""
    config = {"cell": "lstm", "vocabulary": 10, "embedding": 8, "hidden": 8, "pool": "mean", "outputs": 1}
    return write(
        root,
        model,
        version,
        files={"vocabulary.json": orjson.dumps(WORDS)},
        architecture={"family": "recurrent", "config": config},
        task="binary",
        input={"kind": "text", "max_characters": max_characters},
        preprocess=[{"step": "vocabulary", "file": "vocabulary.json", "max_length": 64}],
        labels=["negative", "positive"],
    )


def write_vector(root: Path, model: str = "sensors", version: int = 1) -> Manifest:
    """Four numbers to several labels at once."""
    return write(
        root,
        model,
        version,
        architecture={"family": "mlp", "config": {"inputs": 4, "hidden": [], "outputs": 3}},
        task="multilabel",
        input={"kind": "tensor", "shape": [4], "minimum": -100, "maximum": 100},
        labels=["hot", "wet", "loud"],
    )


def write_steps(root: Path, model: str = "motion", version: int = 1, *, max_length: int = 16) -> Manifest:
    """1 to `max_length` steps of three numbers each, to a vector."""
    config = {"cell": "gru", "features": 3, "hidden": 4, "pool": "last", "outputs": 5}
    return write(
        root,
        model,
        version,
        architecture={"family": "recurrent", "config": config},
        task="embedding",
        input={"kind": "tensor", "shape": [-1, 3], "max_length": max_length},
    )


def write_ids(root: Path, model: str = "codes", version: int = 1) -> Manifest:
    """1 to 8 ids from 0 to 9, multiclass."""
    config = {"cell": "gru", "vocabulary": 10, "embedding": 4, "hidden": 4, "pool": "max", "outputs": 3}
    return write(
        root,
        model,
        version,
        architecture={"family": "recurrent", "config": config},
        task="multiclass",
        input={"kind": "tensor", "shape": [-1], "dtype": "int64", "max_length": 8, "minimum": 0, "maximum": 9},
        labels=["x", "y", "z"],
    )


def write_columns(root: Path, model: str = "rent", version: int = 1) -> Manifest:
    """Named columns to a price: value = output * 100 + 500."""
    columns = [{"name": "area", "minimum": 0, "unit": "square metres"}, {"name": "rooms", "minimum": 1, "maximum": 20}]
    return write(
        root,
        model,
        version,
        architecture={"family": "mlp", "config": {"inputs": 2, "hidden": [], "outputs": 1}},
        task="regression",
        input={"kind": "columns", "columns": columns},
        preprocess=[{"step": "standardize", "mean": [70, 3], "std": [20, 1]}],
        target={"name": "rent", "unit": "EUR", "mean": 500, "std": 100},
    )


def write_one_of_each(root: Path) -> None:
    """One model of each kind of input, two versions of `clothes`."""
    write_image(root, version=1, metrics={"accuracy": {"value": 0.5, "low": 0.4, "high": 0.6, "n": 100}})
    write_image(root, version=2)
    for write_model in (write_colour_image, write_text, write_vector, write_steps, write_ids, write_columns):
        write_model(root)
