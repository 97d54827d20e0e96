"""`servoloop load`, `unload`, `reload` and `delete`: what a running service shall do with its versions."""

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from service.cli.connecting import DEFAULT_URL, Url, connected
from service.cli.output import failure, waiting
from service.domain import Precision

if TYPE_CHECKING:
    from servoloop import Client, VersionChange

_Model = Annotated[str, typer.Argument(metavar="MODEL")]
_Version = Annotated[int, typer.Argument(metavar="VERSION", min=1)]
_Wait = Annotated[float, typer.Option(min=0, max=300, help="Seconds to wait until it is done; it goes on after that.")]

_WAIT_SECONDS = 120.0


def load(
    model: _Model,
    version: _Version,
    pin: Annotated[
        bool | None, typer.Option("--pin/--no-pin", help="Never unload it to make room.", show_default="as it is")
    ] = None,
    replicas: Annotated[
        int | None, typer.Option(min=1, max=256, help="On how many devices.", show_default="as it is")
    ] = None,
    precision: Annotated[Precision | None, typer.Option(help="What it computes with.", show_default="as it is")] = None,
    wait: _Wait = _WAIT_SECONDS,
    url: Url = DEFAULT_URL,
) -> None:
    """Load a version, and say how it is wanted."""
    from servoloop import Unavailable

    with connected(url) as client:
        with waiting(f"Loading {model}/{version}"):
            try:
                change = client.load(model, version, pinned=pin, replicas=replicas, precision=precision, wait=wait)
            except Unavailable as error:
                if pin and client.version(model, version).state == "no_room":
                    raise failure(f"{error}; {_stays_pinned(model, version)}") from None
                raise
        _say_loaded(model, change, client)


def reload(model: _Model, version: _Version, wait: _Wait = _WAIT_SECONDS, url: Url = DEFAULT_URL) -> None:
    """Load a version anew, while the old replica goes on answering if there is room for both."""
    with connected(url) as client:
        with waiting(f"Loading {model}/{version} anew"):
            change = client.reload(model, version, wait=wait)
        _say_loaded(model, change, client)


def unload(model: _Model, version: _Version, wait: _Wait = _WAIT_SECONDS, url: Url = DEFAULT_URL) -> None:
    """Unload a version that no alias names, until it is loaded again."""
    with connected(url) as client, waiting(f"Unloading {model}/{version}"):
        change = client.unload(model, version, wait=wait)
    if change.done:
        typer.echo(f"{model}/{version} is unloaded. To have it back: servoloop load {model} {version}")
    else:
        typer.echo(f"{model}/{version} is still being unloaded; `servoloop models` shows when it is.")


def delete(
    model: _Model,
    version: Annotated[int | None, typer.Argument(metavar="VERSION", min=1)] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Don't ask.")] = False,
    wait: _Wait = _WAIT_SECONDS,
    url: Url = DEFAULT_URL,
) -> None:
    """Delete a registered version with its files, or without VERSION the whole model."""
    with connected(url) as client:
        if version is None:
            numbers = ", ".join(one.version for one in client.model(model).versions)
            what, question = model, f"Delete {model}: its versions {numbers} with their files, and its aliases?"
        else:
            what, question = f"{model}/{version}", f"Delete {model}/{version} with its files?"
        if not yes:
            _confirm(question)
        with waiting(f"Deleting {what}"):
            deleted = (
                client.delete_model(model, wait=wait)
                if version is None
                else client.delete_version(model, version, wait=wait)
            )
    typer.echo(f"{what} is deleted. The predictions that it made stay in the log, so its number is not used again.")
    if not deleted.unloaded:
        typer.echo("It is still being unloaded; its files go after that.")


def _say_loaded(model: str, change: "VersionChange", client: "Client") -> None:
    """What is true now, and what to do next."""
    version = change.version
    name = f"{model}/{version.version}"
    if not change.done:
        typer.echo(f"{name} is still being loaded; `servoloop models` shows when it is.")
        return
    pinned = " It is pinned: nothing else takes its room." if version.pinned else ""
    typer.echo(f"{name} is loaded on {', '.join(version.engines)} in {version.precision}.{pinned}")
    if version.version not in client.model(model).aliases.values():
        typer.echo(f"To let it answer by default: servoloop alias {model} champion {version.version}")


def _stays_pinned(model: str, version: int) -> str:
    back = f"servoloop load {model} {version} --no-pin"
    return f"it stays pinned, and is loaded once there is room. To take that back: {back}"


def _confirm(question: str) -> None:
    if not _is_at_terminal():
        raise failure("nobody can be asked here whether to delete; say --yes")
    typer.confirm(f"{question} The predictions that were made stay in the log.", abort=True)


def _is_at_terminal() -> bool:
    return sys.stdin.isatty()
