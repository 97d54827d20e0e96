"""`servoloop optimize`: try the back ends on a version, in a process of its own, and show what was found out."""

import os
import subprocess
from pathlib import Path
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, Annotated, Any

import orjson
import typer
from rich.console import Console

from service.cli.output import console, failure, load_settings, read_store
from service.process.command import ENGINE_DEFAULTS, module_command

if TYPE_CHECKING:
    from rich.table import Table

    from service.settings import Settings


def optimize(
    model: Annotated[str, typer.Argument(metavar="MODEL")],
    version: Annotated[int | None, typer.Option(min=1, help="The version; its champion without.")] = None,
    tolerance: Annotated[
        float, typer.Option(min=0, max=100, help="Points that the metric may be worse than float32's.")
    ] = 0.2,
    data_dir: Annotated[
        Path | None, typer.Option(help="Where registered models and all other state lie.", file_okay=False)
    ] = None,
) -> None:
    """Find the fastest way to run a version on this machine that answers as float32 does.

    No service need run; one that does takes it up when the version is loaded anew.
    """
    settings = load_settings(data_dir=data_dir)
    folder, number = _find(model, version, settings)
    found = _run(folder, settings.optimized, tolerance, settings.devices[0])
    evidence = found["evidence"]
    console().print(table(evidence))
    for title, reason in found["missing"].items():
        typer.echo(f"Not tried: {title}: {reason}")
    metric = f"{evidence['metric']} on {evidence['num_rows']} rows ({evidence['rows']}), tolerance {tolerance:g} points"
    typer.echo(f"{metric}. Kept in {found['path']}")
    if evidence["chosen"] is None:
        raise failure(f"nothing passed; {model}/{number} goes on running on PyTorch in float32")
    typer.echo(f"A running service takes it up with: servoloop reload {model} {number}")


def table(evidence: dict[str, Any]) -> "Table":
    """Everything that was tried, the chosen one marked."""
    from rich.table import Table
    from rich.text import Text

    name = f"{evidence['model']}/{evidence['version']}"
    shown = Table(
        title=f"{name} on {evidence['environment']['device']}, {evidence['cores']} cores", title_justify="left"
    )
    for heading in ("back end", "precision"):
        shown.add_column(heading)
    for heading in ("threads", "build s", "1 row ms", "32 rows ms", "rows/s", "metric", "agreement"):
        shown.add_column(heading, justify="right")
    shown.add_column("verdict")
    for place, trial in enumerate(evidence["tried"]):
        is_chosen = place == evidence["chosen"]
        numbers = (
            _number(trial["build_seconds"], ".1f"),
            _number(trial["batch_1_ms"], ".2f"),
            _number(trial["batch_32_ms"], ".2f"),
            _number(trial["rows_per_second"], ",.0f"),
            _number(trial["difference"], "+.2f"),
            _number(trial["agreement"], ".1%"),
        )
        verdict = Text("chosen", "green") if is_chosen else Text(trial["verdict"])
        style = "bold" if is_chosen else None
        shown.add_row(trial["backend"], trial["precision"], str(trial["threads"]), *numbers, verdict, style=style)
    return shown


def _number(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)


def _find(model: str, version: int | None, settings: "Settings") -> tuple[Path, int]:
    """The version's folder and number. Exits where there is none."""
    from service.domain import CHAMPION
    from service.registry.scanner import scan
    from service.store.sql_control import read_aliases

    found = scan(settings.model_roots, read_store(settings, read_aliases)).models.get(model)
    if found is None:
        raise failure(f"there is no model {model} in {', '.join(map(str, settings.model_roots))}")
    number = version or found.aliases.get(CHAMPION) or min(found.versions)
    if number not in found.versions:
        raise failure(f"{model} has no version {number}; there are {', '.join(map(str, sorted(found.versions)))}")
    return found.versions[number].folder, number


def _run(folder: Path, cache: Path, tolerance: float, device: str) -> dict[str, Any]:
    """Try the back ends on a device; what the process says at its end. Exits where it fails."""
    from rich.progress import Progress

    arguments = ("--cache", cache, "--tolerance", tolerance, "--device", device)
    command = module_command("service.engine.optimize", folder, *arguments)
    environment = {**ENGINE_DEFAULTS, **os.environ}  # it must be as fast as in an engine
    said: dict[str, Any] = {}
    with (
        Progress(console=Console(stderr=True), transient=True) as progress,
        TemporaryFile("w+") as complaints,  # no pipe: it would fill up while nobody reads it
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=complaints, text=True, env=environment) as process,  # noqa: S603
    ):
        task = progress.add_task("reading the checkpoint", total=None)
        assert process.stdout is not None
        for line in process.stdout:
            said = orjson.loads(line)
            if "step" in said:
                progress.update(task, description=said["doing"], completed=said["step"] - 1, total=said["of"])
        process.wait()
        complaints.seek(0)
        errors = complaints.read()
    if process.returncode or "evidence" not in said:
        raise failure(errors.strip() or f"trying the back ends ended with {process.returncode}")
    return said
