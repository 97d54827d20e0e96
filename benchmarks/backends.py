"""python -m benchmarks.backends: how fast each back end runs the benchmark's networks and the shipped ones.

Three networks with random weights (speed alone counts), and the shipped checkpoints. All back ends
of a network are timed in turn, round by round, so that ratios hold on a machine that does other things too.
"""

import argparse
import os
import platform
import sys
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import torch
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from models import checkpoint
from models.architectures import build
from models.checkpoint import network_of
from models.checkpoint_files import CheckpointFiles
from models.manifest import WEIGHTS
from service.engine.backends.registry import BACKENDS
from service.engine.choosing import Trial, choose
from service.engine.devices import CPU
from service.engine.heldout import rows_of
from service.engine.optimized import environment_of
from service.engine.replica import samples_of
from service.engine.trials import AS_IT_COMES, Candidate, Subject, candidates, num_steps, try_all
from service.process.command import ENGINE_DEFAULTS
from service.settings import SHIPPED_CHECKPOINTS


def tokens(count: int, length: int) -> dict[str, Any]:
    """Rows of exactly so many ids."""
    return {"kind": "tensor", "shape": [length], "dtype": "int64", "minimum": 1, "maximum": count - 1}


_TRANSFORMER = {"width": 256, "layers": 4, "heads": 8, "feedforward": 1024, "norm": "pre", "activation": "gelu"}
NETWORKS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "cnn": (
        {"kind": "image", "channels": 3, "height": 32, "width": 32},
        {
            "family": "cnn",
            "config": {"input": [3, 32, 32], "blocks": [{"channels": 32}, {"channels": 64}], "outputs": 10},
        },
    ),
    "lstm": (
        {**tokens(20_000, 100), "shape": [-1], "max_length": 100},
        {
            "family": "recurrent",
            "config": {
                "cell": "lstm",
                "vocabulary": 20_000,
                "embedding": 128,
                "hidden": 256,
                "layers": 2,
                "outputs": 2,
            },
        },
    ),
    "transformer": (
        {**tokens(20_000, 128), "shape": [-1], "max_length": 128},
        {
            "family": "transformer",
            "config": {**_TRANSFORMER, "vocabulary": 20_000, "max_length": 128, "outputs": 4},
        },
    ),
}


def folders(scratch: Path) -> Iterator[tuple[str, Path, int | None]]:
    """Each network's title, its checkpoint, and the length of its rows where that is to be one for all."""
    for name, (contract, architecture) in NETWORKS.items():
        torch.manual_seed(0)
        network = build(architecture["family"], architecture["config"])
        labels = [str(number) for number in range(network.outputs)]
        fields = {
            "model": name,
            "version": 1,
            "architecture": architecture,
            "task": "multiclass",
            "input": contract,
            "labels": labels,
        }
        checkpoint.write(scratch / name / "1", fields, network, dtype="float32")
        yield f"{name}, random weights", scratch / name / "1", contract.get("max_length")
    for folder in sorted(SHIPPED_CHECKPOINTS.glob("*/1")):
        yield folder.parent.name, folder, None


def measure(folder: Path, length: int | None, tried: list[Candidate], progress: Progress, title: str) -> dict[str, Any]:
    """Try all on one checkpoint; its figures."""
    files = CheckpointFiles(folder)
    manifest, weights = files.manifest, files.read(WEIGHTS)
    rows = rows_of(files, network_of(weights, manifest))
    if length is not None:
        # The longest that the network reads, as the figures that these are compared with were taken.
        row = max(rows.rows, key=len)
        rows = type(rows)(
            [row[:length] if len(row) >= length else row.repeat(length)[:length] for _ in range(64)],
            rows.ragged,
            rows.source,
        )
    subject = Subject(manifest, lambda: network_of(weights, manifest), samples_of(files), rows)
    task = progress.add_task(title, total=num_steps(tried, AS_IT_COMES))
    trials = try_all(subject, tried, lambda doing: progress.update(task, advance=1, description=f"{title}: {doing}"))
    progress.remove_task(task)
    chosen = choose(trials, max_threads=_cores())
    return {
        "network": title,
        "rows": rows.source,
        "chosen": None if chosen is None else chosen.title,
        "tried": [trial.model_dump(mode="json") for trial in trials],
    }


def table(figures: Mapping[str, Any]) -> Table:
    """Rows a second by back end, and against eager float32 with all cores."""
    shown = Table("back end", "1 row ms", "32 rows ms", "rows/s", "x eager", "verdict", title=figures["network"])
    trials = [Trial.model_validate(trial) for trial in figures["tried"]]
    plain = next(
        (t.rows_per_second for t in trials if t.title.startswith("eager float32") and t.threads == _cores()), None
    )
    for trial in trials:
        rate = trial.rows_per_second
        times = f"{rate / plain:.2f}" if rate and plain else ""
        numbers = (f"{trial.batch_1_ms:.2f}", f"{trial.batch_32_ms:.2f}", f"{rate:,.0f}") if rate else ("", "", "")
        verdict = "chosen" if trial.title == figures["chosen"] else trial.verdict
        shown.add_row(trial.title, *numbers, times, verdict)
    return shown


def main() -> None:
    """Measure and print; with --json also keep."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, help="write the figures to this file too")
    parser.add_argument("--only", nargs="*", help="networks by the beginning of their names")
    parser.add_argument("--no-compile", action="store_true", help="leave torch.compile out: it takes minutes")
    arguments = parser.parse_args()
    if any(name not in os.environ for name in ENGINE_DEFAULTS):  # read when the process starts
        os.execve(sys.executable, [*sys.orig_argv], {**ENGINE_DEFAULTS, **os.environ})
    warnings.simplefilter("ignore")
    torch.set_num_threads(_cores())
    backends = [b for b in BACKENDS if b.why_not(CPU) is None and not (arguments.no_compile and b.name == "compile")]
    tried = candidates(backends, _cores())
    console, figures = Console(width=130), []
    with tempfile.TemporaryDirectory() as scratch, Progress(console=Console(stderr=True), transient=True) as progress:
        for title, folder, length in folders(Path(scratch)):
            if arguments.only and not title.startswith(tuple(arguments.only)):
                continue
            figures.append(measure(folder, length, tried, progress, title))
            console.print(table(figures[-1]))
    if arguments.json:
        machine = {"machine": platform.machine(), "cores": _cores(), "load": os.getloadavg(), **environment_of(CPU)}
        kept = {"date": datetime.now(UTC).isoformat(timespec="seconds"), **machine, "figures": figures}
        arguments.json.write_bytes(orjson.dumps(kept, option=orjson.OPT_INDENT_2) + b"\n")


def _cores() -> int:
    return len(os.sched_getaffinity(0))


if __name__ == "__main__":
    main()
