"""`servoloop register`, `verify` and `train`: no service need run. What needs torch runs in a process of its own."""

import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from service.cli.output import console, failure, figure, load_settings, read_store, run_module
from service.process.command import module_command

if TYPE_CHECKING:
    from rich.table import Table

    from models.manifest import Manifest


def register(
    model: Annotated[str, typer.Argument(help="The name that clients will call.", metavar="MODEL")],
    weights: Annotated[
        Path, typer.Option(exists=True, dir_okay=False, help="A .safetensors file, or a .pt or .pth state dict.")
    ],
    manifest: Annotated[
        Path,
        typer.Option(exists=True, dir_okay=False, help="manifest.json as docs/checkpoints.md says, without files."),
    ],
    rename: Annotated[
        Path | None,
        typer.Option(
            exists=True, dir_okay=False, help="JSON object of old -> new parameter name; null leaves one out."
        ),
    ] = None,
    data_dir: Annotated[
        Path | None, typer.Option(help="Where registered models and all other state lie.", file_okay=False)
    ] = None,
) -> None:
    """Make weights and a manifest the next version of a model.

    The network is built and tried before anything appears.
    """
    from models.draft import read_draft
    from models.manifest import BrokenCheckpoint, is_name
    from service.registry.registering import next_of
    from service.serving.contracts import describe as describe_input
    from service.store.sql_control import read_aliases, read_versions

    if not is_name(model):
        what = "a name has 1 to 64 characters of a-z, 0-9, dot, dash and underscore, and begins with a letter or digit"
        raise typer.BadParameter(what, param_hint="MODEL")
    settings = load_settings(data_dir=data_dir)
    aliases, seen = read_store(settings, lambda location: (read_aliases(location), read_versions(location, model)))
    coming = next_of(model, settings.model_roots, aliases, seen)
    version = coming.ref.version
    try:
        draft = read_draft(manifest, model=model, version=version).manifest
        coming.check(draft)
    except BrokenCheckpoint as error:
        raise failure(error) from None
    folder = settings.registered_models / model / str(version)
    arguments = ["--model", model, "--version", version, "--weights", weights, "--manifest", manifest, "--out", folder]
    if rename:
        arguments += ["--rename", rename]
    result = run_module("models.convert", *arguments, doing=f"Building and trying {coming.ref}")
    if result.returncode:
        raise failure(result.stderr.strip() or f"the conversion ended with {result.returncode}")
    typer.echo(f"Registered {coming.ref} in {folder}")
    typer.echo(f"Callers send it {describe_input(draft.input)}.")
    if coming.is_champion_lost:
        advice = f"servoloop alias {model} champion {version}"
        typer.echo(f"Its champion is still {model}/{coming.champion}, whose files are gone or broken: {advice}")
    elif coming.champion == version:
        typer.echo(f"It is the first version of {model} and becomes its champion.")
    else:
        advice = f"servoloop alias {model} champion {version}"
        typer.echo(f"The champion stays {model}/{coming.champion} until it is moved: {advice}")
    typer.echo(f"A service that runs on {settings.data_dir} picks the new version up by itself, within seconds.")


def verify(
    folder: Annotated[Path, typer.Argument(help="A checkpoint folder.", metavar="DIR")],
    load: Annotated[
        bool, typer.Option("--load", help="Also build the network and run a sample row through it.")
    ] = False,
) -> None:
    """Check a checkpoint folder, and show what it is."""
    from models.checkpoint_files import verify as verify_checkpoint
    from models.manifest import BrokenCheckpoint

    try:
        manifest = verify_checkpoint(folder)
    except BrokenCheckpoint as error:
        raise failure(f"{folder} is broken: {error}") from None
    table = describe(manifest)
    if load:
        result = run_module("models.check", folder, doing=f"Building and trying {manifest.model}/{manifest.version}")
        if result.returncode:
            raise failure(f"{folder} is broken: {result.stderr.strip()}")
        table.add_row("network", result.stdout.strip())
    console().print(table)


def train(context: typer.Context) -> None:
    """Train a shipped recipe: servoloop train RECIPE --out DIR."""
    raise typer.Exit(subprocess.run(module_command("models.training", *context.args), check=False).returncode)  # noqa: S603


def describe(manifest: "Manifest") -> "Table":
    """What a verified manifest says, line by line."""
    from rich.table import Table

    from service.serving.contracts import describe as describe_input

    table = Table("checked", "result", title=f"{manifest.model}/{manifest.version}", title_justify="left")
    if manifest.description:
        table.add_row("description", manifest.description)
    labels = f", {len(manifest.labels)} labels" if manifest.labels else ""
    table.add_row("task", f"{manifest.task}{labels}")
    table.add_row("input", describe_input(manifest.input))
    table.add_row("preprocess", ", ".join(step.step for step in manifest.preprocess) or "none")
    table.add_row("architecture", manifest.architecture.family)
    for name, metric in manifest.metrics.items():
        table.add_row(name, f"{figure(metric.model_dump())}, n = {metric.n}")
    for name, entry in manifest.files.items():
        table.add_row(name, f"{entry.size:,} bytes, sha256 {entry.sha256[:12]}… as the manifest says")
    return table
