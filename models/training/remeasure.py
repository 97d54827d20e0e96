"""python -m models.training.remeasure DIR...: measure checkpoints again, as they are, on the rows that were held out.

The data are loaded and split as the recipe in the manifest's lineage says; weights and preprocessing are the folder's.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from models.checkpoint import network_of
from models.checkpoint_files import CheckpointFiles
from models.manifest import WEIGHTS, Manifest, Metric
from models.preprocess import Preprocessor
from models.training import loaders
from models.training.data import prepare
from models.training.recipes import parse_recipe
from models.training.run import Plan, measure_held_out, pick_device

# Of the figure, or of 1 where it is smaller. The same weights and rows differ by what another processor rounds: at
# most a few rows that lie on the threshold.
TOLERANCE = 1e-3


@dataclass(frozen=True, slots=True)
class Remeasured:
    """A checkpoint's metrics, by name: as its manifest states them, and as they were found now."""

    manifest: Manifest
    stated: Mapping[str, Metric]
    found: Mapping[str, Metric]

    @property
    def holds(self) -> bool:
        """Whether every figure is the stated one, within TOLERANCE."""
        return self.stated.keys() == self.found.keys() and all(
            is_same(metric, self.found[name]) for name, metric in self.stated.items()
        )


def remeasure(folder: Path, device: str = "auto") -> Remeasured:
    """Measure the checkpoint `folder` on its recipe's held-out rows.

    Raises BrokenCheckpoint, FileNotFoundError for missing data, and ValueError for a checkpoint that no recipe made, or
    whose data are not those that it was trained on.
    """
    files = CheckpointFiles(folder)
    files.verify()
    manifest = files.manifest
    lineage = manifest.lineage
    if not {"recipe", "dataset"} <= lineage.keys():
        raise ValueError(f"{folder}: its lineage names no recipe, so nobody knows which rows were held out")
    if lineage.get("retraining", {}).get("measured_on", "test") != "test":
        raise ValueError(f"{folder}: its figures are not of its recipe's held-out rows, which were not there")
    recipe = parse_recipe(lineage["recipe"])
    dataset = prepare(loaders.load(recipe.data), recipe.input, recipe.data)
    if dataset.digest != lineage["dataset"]["digest"]:
        raise ValueError(f"{folder}: the data of {dataset.name} that are here are not those that it was trained on")
    network = network_of(files.read(WEIGHTS), manifest)
    steps = manifest.preprocess
    plan = Plan(recipe, dataset, steps, {}, Preprocessor(steps, files.read), manifest.target)
    found, _ = measure_held_out(plan, network, pick_device(device))
    return Remeasured(
        manifest, manifest.metrics, {name: Metric.model_validate(estimate) for name, estimate in found.items()}
    )


def is_same(stated: Metric, found: Metric) -> bool:
    """Whether two figures are of as many rows and within TOLERANCE, or both undefined."""
    if stated.value is None or found.value is None:
        return stated.value is found.value
    return stated.n == found.n and abs(stated.value - found.value) <= TOLERANCE * max(1.0, abs(stated.value))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; its exit status is 1 where a figure does not hold, or could not be measured."""
    parser = argparse.ArgumentParser(
        prog="python -m models.training.remeasure",
        description="Measure checkpoints on the rows that were held out, beside what their manifests state.",
    )
    parser.add_argument("folders", type=Path, nargs="+", metavar="DIR", help="a checkpoint folder")
    parser.add_argument("--device", default="auto", help="auto (default), cpu or cuda")
    options = parser.parse_args(arguments)
    hold = True
    for folder in options.folders:
        try:
            remeasured = remeasure(folder, options.device)
        except (ValueError, OSError) as error:
            print(f"error: {error}", file=sys.stderr)
            hold = False
        else:
            _report(remeasured)
            hold = hold and remeasured.holds
    return 0 if hold else 1


def _report(remeasured: Remeasured) -> None:
    manifest, found = remeasured.manifest, remeasured.found
    verdict = "holds" if remeasured.holds else "DOES NOT HOLD"
    print(f"{manifest.model} version {manifest.version}: {verdict}")
    for name in [*remeasured.stated, *(found.keys() - remeasured.stated.keys())]:
        stated = _figure(remeasured.stated.get(name))
        print(f"  {name:<16} stated {stated:<22} found {_figure(found.get(name))}")


def _figure(metric: Metric | None) -> str:
    if metric is None:
        return "nothing"
    return f"undefined, n = {metric.n}" if metric.value is None else f"{metric.value:.6g}, n = {metric.n}"


if __name__ == "__main__":
    sys.exit(main())
