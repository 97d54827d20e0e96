"""`servoloop evaluation`: how good a model is, by what is known of its predictions."""

import json
from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer

from service.cli.connecting import DEFAULT_URL, Url, connected
from service.cli.output import Json, console, listed, shown
from service.cli.pictures import Picture, save

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

    from servoloop import Evaluation, EvaluationOptions, Slices

_SECONDS = 60.0
# A matrix of more is read by machines.
_MOST_SHOWN_LABELS = 12


def evaluation(
    model: Annotated[str, typer.Argument(metavar="MODEL")],
    version: Annotated[int | None, typer.Option(min=1, help="Of this version alone.")] = None,
    window: Annotated[str | None, typer.Option(help="30m, 24h or 7d.", show_default="7d")] = None,
    since: Annotated[datetime | None, typer.Option(help="Made then or later, in this machine's time.")] = None,
    until: Annotated[datetime | None, typer.Option(help="Made before then.")] = None,
    tag: Annotated[str | None, typer.Option("--slice", metavar="NAME:VALUE", help="With this tag.")] = None,
    role: Annotated[str | None, typer.Option(help="answered, shadow or all.", show_default="answered")] = None,
    matured: Annotated[bool, typer.Option("--matured", help="Leave out what is too young to have its labels.")] = False,
    by: Annotated[str | None, typer.Option(metavar="TAG", help="Compare the groups that differ in it.")] = None,
    picture: Picture = None,
    as_json: Json = False,
    url: Url = DEFAULT_URL,
) -> None:
    """Show how good a model of a running service is, by what is known of its predictions."""
    options: EvaluationOptions = {
        "version": version,
        "window": window,
        "since": None if since is None else since.astimezone(),
        "until": None if until is None else until.astimezone(),
        "slice": tag,
        "role": role,
        "matured": matured,
        "by": by,
    }
    with connected(url, timeout=_SECONDS) as client:
        found = client.evaluation(model, **options)
        if as_json:
            typer.echo(json.dumps(asdict(found), ensure_ascii=False))
        else:
            _show(found)
        save(picture, lambda form: client.evaluation_picture(model, form, **options))


def _show(found: "Evaluation") -> None:
    typer.echo(summary(found))
    out = console()
    if not found.n and found.rating.value is None:
        typer.echo("Nothing is known of them yet. To say what is: servoloop feedback add PREDICTION_ID --label LABEL")
        return
    out.print(metrics_table(found))
    if found.per_label and len(found.per_label) <= _MOST_SHOWN_LABELS:
        out.print(labels_table(found))
    if found.confusion_matrix and found.labels and len(found.labels) <= _MOST_SHOWN_LABELS:
        out.print(confusion_table(found))
    if found.slices is not None:
        _show_slices(found.slices)


def _show_slices(found: "Slices") -> None:
    if found.groups:
        console().print(slices_table(found))
    if found.suppressed:
        named = listed([_value(found, name) for name in found.suppressed])
        typer.echo(f"With fewer than {found.minimum_n} labels: {named}.")
    if found.omitted:
        typer.echo(f"Smaller groups that are left out: {found.omitted}.")
    if not found.groups and not found.suppressed:
        typer.echo(f"No prediction with a label has a tag {found.tag}. Tags are given with predictions.")


def summary(found: "Evaluation") -> str:
    """Of what the figures are."""
    which = f"version {found.version}" if found.version else "all versions"
    tagged = f", {found.slice}" if found.slice else ""
    share = "" if found.coverage is None else f" ({found.coverage:.1%})"
    since = f"since {found.since[:16]}" if found.since else "ever"
    delay = found.label_delay_seconds.get("p50")
    late = "" if delay is None else f", half of the labels within {_duration(delay)}"
    known = f"{found.n} of {found.predictions} predictions{share} have a label{late}"
    return f"{found.model}, {which}{tagged}, {since}: {known}"


def metrics_table(found: "Evaluation") -> "Table":
    """Every figure with its interval."""
    from rich.table import Table

    table = Table("metric", "value, 95 % interval", "n")
    for name, one in found.metrics.items():
        table.add_row(name.replace("_", " "), shown(one), str(one.n))
    if found.rating.value is not None:
        table.add_row("rating", shown(found.rating), str(found.rating.n))
    return table


def labels_table(found: "Evaluation") -> "Table":
    """The figures of each label."""
    from rich.table import Table

    table = Table("label", "precision", "recall", "F1")
    for label, figures in (found.per_label or {}).items():
        table.add_row(label, *(shown(figures[name]) for name in ("precision", "recall", "f1")))
    return table


def confusion_table(found: "Evaluation") -> "Table":
    """What was (rows) and what it was taken for (columns)."""
    from rich.table import Table

    labels = found.labels or []
    table = Table("was, taken for", *labels)
    for label, counts in zip(labels, found.confusion_matrix or [], strict=True):
        table.add_row(label, *(str(count) if count else "·" for count in counts))
    return table


def slices_table(found: "Slices") -> "Table":
    """Each group by its main figure, and how that differs from the rest."""
    from rich.table import Table

    main = next(iter(found.groups[0].differences))
    caption = "All intervals of differences hold at once with 95 %."
    table = Table(found.tag, main, f"{main} less that of the rest", "labels", "", caption=caption)
    for group in found.groups:
        figures = shown(group.metrics[main]), shown(group.differences[main])
        table.add_row(_value(found, group.slice), *figures, str(group.n), _standing(found, group.slice))
    return table


def _standing(found: "Slices", name: str) -> "Text":
    from rich.text import Text

    if name != found.worst:
        return Text()
    return Text("worst, and worse than the rest", "red") if found.worst_is_shown else Text("worst, which may be chance")


def _value(found: "Slices", name: str) -> str:
    return name.removeprefix(f"{found.tag}:")


def _duration(seconds: float) -> str:
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.3g} s"
