"""What the commands share: how they read settings and the store, say what went wrong, and write numbers."""

import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer
from rich.console import Console
from rich.text import Text

from service.process.command import module_command

if TYPE_CHECKING:
    from rich.status import Status

    from service.settings import Settings
    from service.store.databases import Location
    from servoloop import Figure

T = TypeVar("T")

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]

# The figures that sum a model up; the first that it has is shown.
_HEADLINES = ("accuracy", "r2")
_BAR_WIDTH = 24


def failure(error: Exception | str) -> typer.Exit:
    """Say what went wrong, and give what ends the command with exit code 1."""
    typer.echo(f"error: {error}", err=True)
    return typer.Exit(1)


def load_settings(**given: Any) -> "Settings":
    """The environment's settings, with the options that are not None put over them. Exits on a bad value."""
    from pydantic import ValidationError

    from service.settings import Settings

    try:
        return Settings(**{name: value for name, value in given.items() if value is not None})
    except ValidationError as error:
        raise failure(f"the configuration is wrong: {'; '.join(map(_fault, error.errors()))}") from None


def _fault(error: Mapping[str, Any]) -> str:
    field = ".".join(map(str, error["loc"]))
    if not field:  # of several settings together: what was given is all of them
        return str(error["msg"]).removeprefix("Value error, ")
    # A database's URL holds its password.
    given = "" if field == "store_url" else f", got {error['input']!r}"
    return f"{field}: {error['msg']}{given}"


def read_store(settings: "Settings", read: Callable[["Location"], T]) -> T:
    """What `read` finds in the store, whether or not a service runs. Exits where it can't be read."""
    from service.errors import Misconfigured, StoreUnavailable
    from service.store.databases import Location

    try:
        return read(Location.of(settings))
    except (Misconfigured, StoreUnavailable) as error:
        raise failure(error) from None


def run_module(name: str, *arguments: object, doing: str) -> "subprocess.CompletedProcess[str]":
    """Run one of our modules in a process of its own, and give what it printed; `doing` is shown meanwhile."""
    command = module_command(name, *arguments)
    with waiting(doing):
        return subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603


def waiting(what: str) -> "Status":
    """Shows that something goes on; nothing where stderr is no terminal."""
    return Console(stderr=True).status(what)


def console() -> Console:
    """Writes to stdout: as wide as the terminal, or wide enough for a table where there is none.

    Texts are shown as they are: names and tags are anybody's, and may look like markup.
    """
    return Console(width=None if sys.stdout.isatty() else 120, highlight=False, markup=False, emoji=False)


def headline(metrics: Mapping[str, Mapping[str, Any]]) -> str:
    """The figure that sums a model up, with its interval; empty where none was measured."""
    known = [name for name in _HEADLINES if name in metrics] or list(metrics)
    return f"{known[0]} {figure(metrics[known[0]])}" if known else ""


def figure(metric: Mapping[str, Any]) -> str:
    """A measured figure with its interval."""
    if metric["value"] is None:
        return f"undefined: {metric.get('reason') or 'no reason given'}"
    low, high = metric.get("low"), metric.get("high")
    interval = "" if low is None or high is None else f" ({low:.4g} to {high:.4g})"
    return f"{metric['value']:.4g}{interval}"


def shown(one: "Figure") -> str:
    """A figure as the client gives it, with its interval."""
    return figure(asdict(one))


def listed(names: Sequence[str], most: int = 20) -> str:
    """Names in a sentence, and how many more there are than can be read."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return f"{', '.join(names[:most])}{more}"


def bar(share: float) -> Text:
    """A probability as a bar and as a number."""
    filled = round(share * _BAR_WIDTH)
    return Text.assemble(("█" * filled, "green"), " " * (_BAR_WIDTH - filled), f" {share:6.1%}")
