"""How commands reach a running service."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from service.cli.output import failure

if TYPE_CHECKING:
    from servoloop import Client

DEFAULT_URL = "http://127.0.0.1:8000"

Url = Annotated[str, typer.Option(help="Where the service answers.")]


@contextmanager
def connected(url: str, *, timeout: float = 10.0) -> "Iterator[Client]":
    """A client whose errors end the command; `timeout` in seconds."""
    from servoloop import Client, ConnectionFailed, ServoloopError

    try:
        with Client(url, timeout) as client:
            yield client
    except ConnectionFailed as error:
        advice = "start a service with `servoloop serve`, or say with --url where one answers"
        raise failure(f"{error}; {advice}") from None
    except (ServoloopError, ValueError) as error:
        raise failure(error) from None
