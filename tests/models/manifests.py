"""Manifests as their authors write them: right, but for what a test changes."""

import hashlib
from typing import Any

import numpy as np
import orjson
import pytest
from safetensors.numpy import save

from models.manifest import WEIGHTS, BrokenCheckpoint, parse_manifest

Fields = dict[str, Any]
WEIGHT_BYTES = save({"output.weight": np.zeros((2, 3), np.float32), "output.bias": np.ones(2, np.float16)})


def entry(data: bytes) -> Fields:
    """What a manifest says of a file with these bytes."""
    return {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data)}


def fields(**changes: Any) -> Fields:
    """The fields of a manifest that is right, but for `changes`; a change to None leaves a field out."""
    right: Fields = {
        "schema_version": 1,
        "model": "shapes",
        "version": 1,
        "architecture": {"family": "cnn", "config": {"outputs": 2}},
        "task": "multiclass",
        "input": {"kind": "image", "channels": 1, "height": 6, "width": 6},
        "preprocess": [{"step": "scale", "factor": 0.5}],
        "labels": ["round", "square"],
        "files": {WEIGHTS: entry(WEIGHT_BYTES)},
    }
    return {name: value for name, value in {**right, **changes}.items() if value is not None}


def reason(changed: Fields) -> str:
    """Why this manifest is refused."""
    with pytest.raises(BrokenCheckpoint) as raised:
        parse_manifest(orjson.dumps(changed))
    return str(raised.value)
