"""The command `servoloop`."""

import asyncio
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError

from service.errors import Misconfigured
from service.settings import Settings

app = typer.Typer(no_args_is_help=True, add_completion=False, help="Serve trained checkpoints over HTTP.")


def main() -> None:
    """Run the command line."""
    app()


@app.command()
def serve(
    host: Annotated[str | None, typer.Option(help="Address to serve on.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to serve on; 0 picks a free one.")] = None,
) -> None:
    """Start the service."""
    from service.processes import configure_logging
    from service.supervisor import Supervisor

    settings = _settings(host=host, port=port)
    configure_logging(settings.log_level, settings.log_format, slot="supervisor")
    try:
        asyncio.run(Supervisor(settings).run(on_ready=lambda url, _: typer.echo(url)))
    except Misconfigured as error:
        raise _failure(error) from None


@app.command()
def verify(folder: Path) -> None:
    """Check a checkpoint folder."""
    from models.manifest import BrokenCheckpoint
    from models.manifest import verify as verify_checkpoint

    try:
        verify_checkpoint(folder)
    except BrokenCheckpoint as error:
        raise _failure(error) from None


def _settings(**given: Any) -> Settings:
    try:
        return Settings(**{name: value for name, value in given.items() if value is not None})
    except ValidationError as error:
        raise _failure(error) from None


def _failure(error: Exception) -> typer.Exit:
    typer.echo(str(error), err=True)
    return typer.Exit(1)
