"""`servoloop feedback`: tell a running service what is known of its predictions, and look at what was told."""

import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID

import typer

from service.cli.connecting import DEFAULT_URL, Url, connected
from service.cli.feedback_files import Item, digest_of, on_disk, read_items, write_events
from service.cli.output import failure
from service.store.row_files import Format

if TYPE_CHECKING:
    from rich.progress import Progress

    from servoloop import Client, FeedbackEvent, FeedbackFilters

app = typer.Typer(no_args_is_help=True, help="Say what is known of predictions, and look at what was said.")

_GROUP = 500
_PAGE = 1000
_SHOWN_PROBLEMS = 20
_Numbered = tuple[int, Item]
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
        typer.Option(help="Taken in again under it, the same file is kept once.", show_default="the file's content"),
    ] = None,
    url: Url = DEFAULT_URL,
) -> None:
    """Take in a file of feedback: an item a line, as POST /v1/feedback takes them, or what `export` wrote."""
    with connected(url, timeout=60) as client, _files(path), on_disk(path) as file, _progress() as progress:
        task = progress.add_task("feedback", total=None)
        taking = _Import(client, key or digest_of(file), lambda count: progress.update(task, advance=count))
        taking.take(read_items(file, form or Format.of(path)))
    counted, problems = taking.counted, sorted(taking.problems)
    for number, error in problems[:_SHOWN_PROBLEMS]:
        typer.echo(f"item {number}: {error}", err=True)
    if len(problems) > _SHOWN_PROBLEMS:
        typer.echo(f"... and {len(problems) - _SHOWN_PROBLEMS} more", err=True)
    if key is not None and counted["conflict"]:
        advice = f"other items were taken in under --key {key}; without it, or under another, these are new"
        typer.echo(f"{path}: {advice}", err=True)
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


class _Import:
    """Sends the items of one file, and counts what becomes of them. `problems` have the item's place in the file.

    Events become events with ids of their own, so `supersedes` must name what the superseded one became: they are sent
    as they once came, and none before the answer of what it supersedes. Those that the service has are not sent again.
    """

    def __init__(self, client: "Client", key: str, on_done: Callable[[int], object]) -> None:
        """`key`: of items without one of their own, together with their place."""
        self.counted: Counter[str] = Counter()
        self.problems: list[tuple[int, str]] = []
        self._client = client
        self._key = key
        self._on_done = on_done
        # Event of the file -> what it is in this service.
        self._became: dict[str, str] = {}

    def take(self, items: Iterable[Item]) -> None:
        """What is no event is sent as it is read; from the first event on all is held until the order is known."""
        numbered = enumerate(items, start=1)
        held: list[_Numbered] = []
        for group in iter(lambda: list(itertools.islice(numbered, _GROUP)), []):
            first = 0
            while not held and first < len(group) and group[first][1].event_id is None:
                first += 1
            self._send(group[:first])
            held += group[first:]
        self._take_in_order(held)

    def _take_in_order(self, held: Iterable[_Numbered]) -> None:
        """What is no event comes after the events that it may supersede."""
        ordered = sorted(held, key=lambda one: (one[1].event_id is None, one[1].event_id or ""))
        known = _known(self._client, [item.event_id for _, item in ordered if item.event_id is not None])
        group: list[_Numbered] = []
        unanswered: set[str | None] = set()
        for number, item in ordered:
            superseded = item.supersedes
            if len(group) == _GROUP or (superseded is not None and superseded in unanswered):
                self._send(group)
                group, unanswered = [], set()
            # Where what it supersedes has expired meanwhile and came back as another event, so must this one.
            is_same = superseded is None or self._became.get(superseded, superseded) == superseded
            if item.event_id in known and is_same:
                self._became[item.event_id] = item.event_id
                self.counted["duplicate"] += 1
                self._on_done(1)
            else:
                group.append((number, item))
                unanswered.add(item.event_id)
        self._send(group)

    def _send(self, group: Sequence[_Numbered]) -> None:
        if not group:
            return
        results = self._client.feedback_many([self._sent(*one) for one in group])
        for (number, item), result in zip(group, results, strict=True):
            self.counted[result.status] += 1
            if not result.accepted:
                self.problems.append((number, result.error or result.status))
            if item.event_id is not None and result.event_id is not None:
                self._became[item.event_id] = result.event_id
        self._on_done(len(group))

    def _sent(self, number: int, item: Item) -> dict[str, Any]:
        sent = {"idempotency_key": f"{self._key}:{number}", **item.said}
        if item.supersedes is not None:
            sent["supersedes"] = self._became.get(item.supersedes, item.supersedes)
        return sent


def _known(client: "Client", ids: Iterable[str]) -> set[str]:
    """Those events that the service has. Pages through what lies between the newest of them and the oldest."""
    wanted = sorted(one for one in ids if _is_ours(one))
    known: set[str] = set()
    while wanted:
        page = client.feedback_events(limit=_PAGE, cursor=str(UUID(int=UUID(wanted[-1]).int + 1)))
        there = {event.event_id for event in page.events}
        lowest = page.events[-1].event_id if page.next_cursor is not None else ""
        while wanted and wanted[-1] >= lowest:
            if (one := wanted.pop()) in there:
                known.add(one)
    return known


def _is_ours(event_id: str) -> bool:
    try:
        return UUID(event_id).version == 7 and str(UUID(event_id)) == event_id
    except ValueError:
        return False


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
