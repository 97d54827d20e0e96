"""Small networks of every family, and rows for them."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from models.manifest import WEIGHTS, Manifest
from models.preprocess.tensors import Array

VOCABULARY, FEATURES, MAX_STEPS = 50, 3, 70

TOKENS = {"kind": "tensor", "shape": [-1], "dtype": "int64", "minimum": 0, "maximum": VOCABULARY - 1}
VECTORS = {"kind": "tensor", "shape": [-1, FEATURES]}
IMAGE = {"kind": "image", "channels": 3, "height": 12, "width": 10}
ROW = {"kind": "tensor", "shape": [5]}


def recurrent(**config: Any) -> dict[str, Any]:
    return {"family": "recurrent", "config": {"hidden": 8, "outputs": 3, **config}}


def tokens(**config: Any) -> dict[str, Any]:
    return recurrent(vocabulary=VOCABULARY, embedding=6, **config)


def transformer(**config: Any) -> dict[str, Any]:
    sizes = {"vocabulary": VOCABULARY, "width": 8, "layers": 2, "heads": 2, "feedforward": 16, "max_length": MAX_STEPS}
    return {"family": "transformer", "config": {**sizes, "outputs": 3, **config}}


def cnn(**config: Any) -> dict[str, Any]:
    blocks = [{"channels": 8, "batch_norm": True}, {"channels": 8, "padding": "same"}]
    return {"family": "cnn", "config": {"input": [3, 12, 10], "blocks": blocks, "dense": [7], "outputs": 3, **config}}


NETWORKS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    **{
        f"{cell} {'both ways' if both else 'forward'}, {pool}, {layers} layers": (
            TOKENS,
            tokens(cell=cell, bidirectional=both, pool=pool, layers=layers),
        )
        for cell in ("lstm", "gru")
        for both, pool, layers in ((False, "last", 1), (False, "mean", 2), (True, "last", 2), (True, "max", 1))
    },
    "lstm over features": (VECTORS, recurrent(features=FEATURES, cell="lstm", pool="mean")),
    "gru over features both ways": (VECTORS, recurrent(features=FEATURES, cell="gru", bidirectional=True)),
    **{
        f"transformer {norm}-norm, {pool}": (TOKENS, transformer(norm=norm, pool=pool))
        for norm in ("pre", "post")
        for pool in ("mean", "cls", "last")
    },
    "transformer sinusoidal gelu": (TOKENS, transformer(positions="sinusoidal", activation="gelu", dense=[6])),
    "cnn": (IMAGE, cnn()),
    "mlp": (ROW, {"family": "mlp", "config": {"inputs": 5, "hidden": [9, 9], "activation": "tanh", "outputs": 3}}),
    "linear": (ROW, {"family": "mlp", "config": {"inputs": 5, "outputs": 3}}),
}


def manifest_of(contract: dict[str, Any], architecture: dict[str, Any], **more: Any) -> Manifest:
    described = {
        "model": "m",
        "version": 1,
        "architecture": architecture,
        "task": "multiclass",
        "input": contract,
        "labels": ["a", "b", "c"],
        "files": {WEIGHTS: {"sha256": "0" * 64, "size": 0}},
        **more,
    }
    return Manifest.model_validate(described)


def rows_for(contract: dict[str, Any], lengths: Sequence[int], seed: int) -> list[Array]:
    rng = np.random.default_rng(seed)
    if contract is TOKENS:
        return [rng.integers(1, VOCABULARY, length) for length in lengths]
    if contract is VECTORS:
        return [rng.normal(size=(length, FEATURES)).astype(np.float32) for length in lengths]
    shape = (3, 12, 10) if contract is IMAGE else (5,)
    return [rng.normal(size=shape).astype(np.float32) for _ in lengths]
