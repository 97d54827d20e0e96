"""The command line of a training: its options, a bar while it runs, and what it reports."""

import argparse
import sys
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
from rich.progress import Progress as ProgressBar

from models.manifest import Manifest
from models.training.curves import MissingMatplotlib
from models.training.recipes import RECIPES, Recipe, parse_recipe, read
from models.training.run import run
from models.training.trainer import Progress


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status: 0, or 1 with one line that says what went wrong."""
    options = _parser().parse_args(arguments)
    try:
        manifest = _train(_recipe(options), options.out, options.device)
    except (ValueError, OSError, ArithmeticError, MissingMatplotlib) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    _report(manifest, options.out)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m models.training", description="Train a network by a recipe.")
    parser.add_argument("recipe", metavar="RECIPE", help=f"{', '.join(sorted(RECIPES))}, or a .json file")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="the checkpoint folder to write")
    parser.add_argument("--epochs", type=int, metavar="N", help="other than the recipe's")
    parser.add_argument("--seed", type=int, metavar="N", help="other than the recipe's")
    parser.add_argument("--device", default="auto", help="auto (default), cpu or cuda")
    return parser


def _recipe(options: argparse.Namespace) -> Recipe:
    recipe = read(options.recipe).model_dump()
    if options.epochs is not None:
        recipe["loop"]["epochs"] = options.epochs
    if options.seed is not None:
        recipe["seed"] = options.seed
    return parse_recipe(recipe)


def _train(recipe: Recipe, out: Path, device: str) -> Manifest:
    console = Console()
    columns = (
        TextColumn("epoch {task.fields[epoch]}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("loss {task.fields[loss]} · {task.fields[metric]} · {task.fields[left]} left"),
    )
    with ProgressBar(*columns, console=console) as bar:
        task = bar.add_task("", total=None, epoch="-", loss="-", metric="preparing data", left="?")
        name = "validation R2" if recipe.task == "regression" else "validation accuracy"
        told = 0

        def show(progress: Progress) -> None:
            nonlocal told
            # A log file shows no moving bar: it gets one line an epoch.
            if not console.is_terminal and progress.epoch > told + 1:
                told = progress.epoch - 1
                left = timedelta(seconds=round(progress.seconds_left))
                console.print(f"epoch {told}/{progress.epochs}: {name} {progress.metric:.4f}, {left} left")
            bar.update(
                task,
                total=progress.num_steps,
                completed=progress.step,
                epoch=f"{progress.epoch}/{progress.epochs}",
                loss=f"{progress.loss:.4f}",
                metric=f"{name} {'-' if progress.metric is None else f'{progress.metric:.4f}'}",
                left=timedelta(seconds=round(progress.seconds_left)),
            )

        return run(recipe, out, device=device, on_progress=show)


def _report(manifest: Manifest, out: Path) -> None:
    print(f"{manifest.model} version {manifest.version} written to {out}; on held-out rows:")
    for name, metric in manifest.metrics.items():
        if metric.value is None:
            print(f"  {name}: undefined, {metric.reason}")
            continue
        interval = "" if metric.low is None else f" (95 % interval {metric.low:.4g} to {metric.high:.4g})"
        print(f"  {name}: {metric.value:.4g}{interval}, n = {metric.n}")
