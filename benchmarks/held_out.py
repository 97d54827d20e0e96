"""How good the answers of a running service are on the rows that were held out, beside what the manifests state.

`python -m benchmarks.held_out [--json FILE]`: each row over HTTP, first with everything on PyTorch, then with the back
ends that the service chose. Needs the extra `train` and the shipped recipes' data.
"""

import argparse
import json
import os
import platform
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

import models
from benchmarks.ours import CHOOSING_SECONDS
from models import metrics
from models.checkpoint_files import CheckpointFiles
from models.manifest import Manifest
from models.raw_rows import take
from models.training import loaders
from models.training.data import Array, prepare
from models.training.recipes import parse_recipe
from servoloop import Client, Prediction
from tests.end_to_end.service import Homes, Service

SHIPPED = Path(models.__file__).parent / "checkpoints"
_ROWS_A_REQUEST = 64


@dataclass(frozen=True)
class Found:
    """A model's headline figure as its manifest states it and as its answers had it, of n held-out rows."""

    model: str
    backend: str
    metric: str
    n: int
    stated: float
    answered: float


def held_out(manifest: Manifest) -> tuple[list[Any], Array]:
    """The rows as a client sends them, and the truth (n,). Raises FileNotFoundError for missing data."""
    recipe = parse_recipe(manifest.lineage["recipe"])
    data = prepare(loaders.load(recipe.data), recipe.input, recipe.data)
    indices = data.split.held_out
    rows = list(take(data.rows, indices))
    if manifest.input.kind == "columns":
        rows = [
            {column.name: float(value) for column, value in zip(manifest.input.columns, row, strict=True)}
            for row in rows
        ]
    return rows, data.targets[indices]


def figure(manifest: Manifest, told: list[Prediction], truth: Array) -> tuple[str, float]:
    """The name and the value of accuracy, or of R2 for numbers."""
    if manifest.task == "regression":
        value = metrics.regression(np.array([one.value for one in told]), truth)["r2"].value
        assert value is not None
        return "r2", value
    return "accuracy", float(np.mean(np.array([one.index for one in told]) == truth))


def measure(service: Service, backends: dict[str, str]) -> Iterator[Found]:
    """Ask a running service for every held-out row of every shipped model."""
    with Client(service.url, timeout=120) as client:
        for folder in sorted(SHIPPED.glob("*/1")):
            manifest = CheckpointFiles(folder).manifest
            rows, truth = held_out(manifest)
            told: list[Prediction] = []
            begins = range(0, len(rows), _ROWS_A_REQUEST)
            for begin in track(begins, manifest.model, console=Console(stderr=True), transient=True):
                told += client.predict_many(manifest.model, rows[begin : begin + _ROWS_A_REQUEST])
            name, value = figure(manifest, told, truth)
            stated = manifest.metrics[name].value
            assert stated is not None
            ref = f"{manifest.model}/{manifest.version}"
            yield Found(manifest.model, backends[ref], name, len(rows), stated, value)


def main() -> None:
    """Measure and print; with --json also keep."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.held_out", description=__doc__)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to this file too")
    arguments = parser.parse_args()
    found: list[Found] = []
    homes = Homes()
    try:
        for optimize in ("off", "auto"):
            with Service(homes(), optimize=optimize, optimize_max_busy=1) as service:
                service.wait_ready()
                found += measure(service, service.wait_chosen(CHOOSING_SECONDS))
    finally:
        homes.remove()
    table = Table("model", "back end", "metric", title="held-out rows, over HTTP")
    for heading in ("rows", "stated", "answered", "points"):
        table.add_column(heading, justify="right")
    for one in found:
        figures = (
            f"{one.n:,}",
            f"{one.stated:.4f}",
            f"{one.answered:.4f}",
            f"{100 * (one.answered - one.stated):+.2f}",
        )
        table.add_row(one.model, one.backend, one.metric, *figures)
    Console().print(table)
    if arguments.json:
        kept = {
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "machine": platform.processor() or platform.machine(),
            "cores": os.cpu_count(),
            "found": [asdict(one) for one in found],
        }
        arguments.json.write_text(json.dumps(kept, indent=2) + "\n")


if __name__ == "__main__":
    main()
