"""`servoloop feedback`: tell a running service what is known of its predictions, and look at what was told."""

import itertools
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from service.cli.connecting import DEFAULT_URL, Url, connected
from service.cli.feedback_files import read_items, write_events
from service.cli.output import failure
from service.store.row_files import Format

if TYPE_CHECKING:
    from rich.progress import Progress

    from servoloop import Client, FeedbackEvent, FeedbackFilters

app = typer.Typer(no_args_is_help=True, help="Say what is known of predictions, and look at what was said.")

_GROUP = 500
_PAGE = 1000
_SHOWN_PROBLEMS = 20
_Kind = StrEnum("_Kind", ["label", "correction", "rating", "retraction"])


_Format = Annotated[
    Format | None, typer.Option("--format", help="What the file is.", show_default="by its name; else ndjson")
]


@app.command()
def add(
    prediction_id: Annotated[str | None, typer.Argument(metavar="PREDICTION_ID", help="As the answer gave it.")] = None,
    label: Annotated[
        list[str] | None, typer.Option(help="What it should have been; of multilabel models, each one.")
    ] = None,
    value: Annotated[float | None, typer.Option(help="Of a regression: what it should have been.")] = None,
    rating: Annotated[float | None, typer.Option(help="How good it was.")] = None,
    retract: Annotated[bool, typer.Option("--retract", help="Take back what was said of it.")] = False,
    correct: Annotated[str | None, typer.Option(metavar="EVENT", help="The event that counts no more.")] = None,
    external_id: Annotated[str | None, typer.Option(help="Your own id of the prediction, with --model.")] = None,
    model: Annotated[str | None, typer.Option()] = None,
    source: Annotated[str, typer.Option(help="The more trusted one counts where labels differ.")] = "user",
    actor: Annotated[str | None, typer.Option(help="Who found it.")] = None,
    url: Url = DEFAULT_URL,
) -> None:
    """Say what one prediction should have been, or how good it was."""
    kind = "retraction" if retract else "correction" if correct is not None and rating is None else None
    with connected(url) as client:
        result = client.feedback(
            prediction_id,
            label=label[0] if label and len(label) == 1 else label or None,
            value=value,
            rating=rating,
            external_id=external_id,
            model=model,
            kind=kind,
            source=source,
            actor=actor,
            supersedes=correct,
        )
    later = "; its prediction is not known yet, and it counts once it is" if result.status == "pending" else ""
    typer.echo(f"{result.status} as {result.event_id}{later}.")


@app.command("import")
def take_in(
    path: Annotated[Path, typer.Argument(metavar="FILE", help="Lines of JSON, CSV or Parquet; - reads lines of JSON.")],
    form: _Format = None,
    key: Annotated[
        str | None,
        typer.Option(help="Taken in again under it, the same file is kept once.", show_default="the file's name"),
    ] = None,
    url: Url = DEFAULT_URL,
) -> None:
    """Take in a file of feedback: an item a line, as POST /v1/feedback takes them."""
    counted: Counter[str] = Counter()
    problems: list[str] = []
    name = key or path.name
    with connected(url, timeout=60) as client, _files(path), _progress() as progress:
        task = progress.add_task("feedback", total=None)
        numbered = enumerate(read_items(path, form or Format.of(path)), start=1)
        for group in iter(lambda: list(itertools.islice(numbered, _GROUP)), []):
            items = [{"idempotency_key": f"{name}:{number}", **item} for number, item in group]
            for (number, _), result in zip(group, client.feedback_many(items), strict=True):
                counted[result.status] += 1
                if not result.accepted:
                    problems.append(f"item {number}: {result.error}")
            progress.update(task, advance=len(group))
    for problem in problems[:_SHOWN_PROBLEMS]:
        typer.echo(problem, err=True)
    if len(problems) > _SHOWN_PROBLEMS:
        typer.echo(f"... and {len(problems) - _SHOWN_PROBLEMS} more", err=True)
    typer.echo(", ".join(f"{count} {status}" for status, count in sorted(counted.items())) or "nothing was in it")
    if problems:
        raise typer.Exit(1)


@app.command()
def export(
    path: Annotated[Path, typer.Argument(metavar="FILE", help="- writes lines of JSON to stdout.")],
    form: _Format = None,
    model: Annotated[str | None, typer.Option(help="Of this model alone.")] = None,
    kind: Annotated[_Kind | None, typer.Option(help="Of this kind alone.")] = None,
    source: Annotated[str | None, typer.Option(help="Of this source alone.")] = None,
    since: Annotated[datetime | None, typer.Option(help="Received then or later, in this machine's time.")] = None,
    until: Annotated[datetime | None, typer.Option(help="Received before then.")] = None,
    url: Url = DEFAULT_URL,
) -> None:
    """Write what was said to a file, the newest first."""
    wanted: FeedbackFilters = {
        "model": model,
        "kind": kind,
        "source": source,
        "since": None if since is None else since.astimezone(),
        "until": None if until is None else until.astimezone(),
    }
    with connected(url, timeout=60) as client, _files(path), _progress() as progress:
        task = progress.add_task("feedback", total=None)
        events = (asdict(event) for event in progress.track(_events(client, wanted), task_id=task))
        count = write_events(path, form or Format.of(path), events)
    typer.echo(f"{count} events are in {path}.", err=str(path) == "-")


def _events(client: "Client", wanted: "FeedbackFilters") -> "Iterator[FeedbackEvent]":
    cursor = None
    while True:
        page = client.feedback_events(limit=_PAGE, cursor=cursor, **wanted)
        yield from page.events
        cursor = page.next_cursor
        if cursor is None:
            return


@contextmanager
def _files(path: Path) -> Iterator[None]:
    """Ends the command where a file can't be read or written."""
    try:
        yield
    except ModuleNotFoundError:
        raise failure("Parquet needs pyarrow: pip install 'servoloop[parquet]'") from None
    except OSError as error:
        raise failure(f"{path}: {error.strerror}") from None
    except ValueError as error:
        raise failure(f"{path}: {error}") from None


@contextmanager
def _progress() -> "Iterator[Progress]":
    """How much is done, on stderr; nothing where that is no terminal."""
    from rich.console import Console
    from rich.progress import MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    columns = (SpinnerColumn(), TextColumn("{task.description}"), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        yield progress
