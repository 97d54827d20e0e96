"""The command line's parts in one place. Each command imports what it needs when it runs, so that --help is quick."""

from typing import Annotated

import typer

from service.cli.asking import alias, models, predict
from service.cli.checkpoints import register, train, verify
from service.cli.drift import drift
from service.cli.evaluate import evaluate, evaluations
from service.cli.evaluation import evaluation
from service.cli.feedback import app as feedback
from service.cli.optimizing import optimize
from service.cli.rollouts import promote, rollback, rollout
from service.cli.serving import serve
from service.cli.versions import delete, load, reload, unload

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Serve trained checkpoints over HTTP, and ask a running service.",
)
_ASKING = (predict, models, evaluation, drift, evaluate, evaluations)
_CHANGING = (alias, rollout, promote, rollback, load, unload, reload, delete, register, verify, optimize)
for command in (serve, *_ASKING, *_CHANGING):
    app.command()(command)
app.add_typer(feedback, name="feedback")
# Its arguments, --help among them, are those of the training.
app.command(
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []},
)(train)


def main() -> None:
    """Run the command line."""
    app()


def _show_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"servoloop {version('servoloop')}")
        raise typer.Exit


@app.callback()
def _options(
    show_version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Options that stand before a command."""
