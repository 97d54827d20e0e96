"""What a service draws, as files."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from service.cli.output import failure

_ENDINGS = (".png", ".svg")
_NOT_SUPPORTED = 501


def _known(path: Path | None) -> Path | None:
    if path is not None and path.suffix.lower() not in _ENDINGS:
        raise typer.BadParameter(f"expected a file that ends in {' or '.join(_ENDINGS)}, got {path.name}")
    return path


Picture = Annotated[
    Path | None,
    typer.Option("--picture", metavar="FILE", callback=_known, help="Draw it too, into this .png or .svg file."),
]


def save(path: Path | None, draw: Callable[[str], bytes]) -> None:
    """Write what `draw` gives of png or svg, where there is a path. Ends the command where that fails.

    Raises ServoloopError.
    """
    from servoloop import ApiError

    if path is None:
        return
    try:
        path.write_bytes(draw(path.suffix[1:].lower()))
    except ApiError as error:
        if error.status != _NOT_SUPPORTED:
            raise
        raise failure("the service can't draw: where it runs, pip install 'servoloop[plots]'") from None
    except OSError as error:
        raise failure(f"{path}: {error.strerror}") from None
    typer.echo(f"The picture is in {path}.", err=True)
