"""Predictions of the shipped model of clothes, put into a store as if it had made them."""

import io
from typing import Any

import numpy as np
import orjson

from service.settings import SHIPPED_CHECKPOINTS
from service.store.base import Input
from tests.stores import OpenStore, a_record, an_event

FOLDER = SHIPPED_CHECKPOINTS / "fashion" / "1"
LABELS = tuple(orjson.loads((FOLDER / "manifest.json").read_bytes())["labels"])
REFERENCE = orjson.loads((FOLDER / "reference.json").read_bytes())


def pictures(count: int, seed: int = 0) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Real ones, of the held-out sample."""
    with np.load(FOLDER / "evaluation.npz") as sample:
        rows = sample["rows"]
    return rows[np.random.default_rng(seed).integers(0, len(rows), count)]


def predict(
    store: OpenStore, rows: Any, *, now: float, seed: int = 0, right: float | None = None, **fields: Any
) -> list[str]:
    """Predictions of these pictures, the last one now, as sure as the reference says; some share labelled right."""
    rng = np.random.default_rng(seed)
    names, counts = zip(*REFERENCE["outputs"]["labels"].items(), strict=True)
    edges, held = REFERENCE["confidence"]["edges"], np.array(REFERENCE["confidence"]["counts"])
    said = rng.choice(names, len(rows), p=np.array(counts) / sum(counts))
    sure = np.array(edges)[rng.choice(len(held), len(rows), p=held / held.sum())] + 0.025
    records = [
        a_record(
            made=now - (len(rows) - index) / 100,
            outputs={"label": str(label), "index": LABELS.index(label), "probability": float(confidence)},
            **fields,
        )
        for index, (label, confidence) in enumerate(zip(said, sure, strict=True))
    ]
    inputs = [kept(record.id, row, model=record.model) for record, row in zip(records, rows, strict=True)]
    store.predictions.append(records, inputs)
    if right is not None:
        hits = rng.random(len(rows)) < right
        events = [
            an_event(prediction_id=record.id, value=record.outputs["label"] if hit else other(record.outputs["label"]))
            for record, hit in zip(records, hits, strict=True)
        ]
        store.feedback.add(events, store.control.contracts())
    return [record.id for record in records]


def other(label: str) -> str:
    return str(LABELS[(LABELS.index(label) + 1) % len(LABELS)])


def kept(prediction_id: str, row: Any, **fields: Any) -> Input:
    file = io.BytesIO()
    np.save(file, row)
    return Input(prediction_id, "fashion", "npy", "uniform", 1.0, file.getvalue())._replace(**fields)
