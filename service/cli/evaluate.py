"""`servoloop evaluate`: how good versions are on labelled rows; `servoloop evaluations`: what was found before."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from service.cli.connecting import DEFAULT_URL, Url, connected
from service.cli.labelled_files import read_labelled
from service.cli.output import Json, console, failure, shown, waiting

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from rich.table import Table

    from servoloop import EvaluateOptions, EvaluationReport, Figure

_SECONDS = 3_600.0
_MOST_LISTED = 20


def evaluate(
    model: Annotated[str, typer.Argument(metavar="MODEL")],
    path: Annotated[
        Path | None,
        typer.Argument(
            metavar="FILE",
            help="Labelled rows: lines of JSON with instance and label, CSV with a column label, or .npz with rows and "
            "targets.",
            show_default="the held-out rows that the checkpoint keeps",
        ),
    ] = None,
    version: Annotated[int | None, typer.Option(min=1, help="Evaluate this version.", show_default="champion")] = None,
    against: Annotated[int | None, typer.Option(min=1, help="Compare it with this one, on the same rows.")] = None,
    as_json: Json = False,
    url: Url = DEFAULT_URL,
) -> None:
    """Measure a version on labelled rows, and keep what is found with it; two, say which is better."""
    options: EvaluateOptions = {"version": version, "against": against}
    with connected(url, timeout=_SECONDS) as client:
        if path is None:
            with waiting(f"{model} predicts its held-out rows"):
                report = client.evaluate_held_out(model, **options)
        else:
            with _file(path):
                rows = read_labelled(path, client.model(model))
            with _progress(len(rows)) as on_row:
                instances, labels = [row[0] for row in rows], [row[1] for row in rows]
                named: EvaluateOptions = {**options, "name": path.name[:200]}
                report = client.evaluate(model, instances, labels, on_row=on_row, **named)
    if as_json:
        typer.echo(json.dumps(asdict(report), ensure_ascii=False))
        return
    _show(report)


def evaluations(
    model: Annotated[str, typer.Argument(metavar="MODEL")],
    version: Annotated[int | None, typer.Option(min=1, help="Those in which this version is.")] = None,
    as_json: Json = False,
    url: Url = DEFAULT_URL,
) -> None:
    """Show what was found of a model on labelled rows, the newest first."""
    with connected(url) as client:
        found = client.evaluations(model, version=version, limit=_MOST_LISTED)
    if as_json:
        typer.echo(json.dumps([asdict(one) for one in found.reports], ensure_ascii=False))
    elif not found.reports:
        typer.echo(f"Nothing yet. To measure it: servoloop evaluate {model}")
    else:
        console().print(reports_table(list(found.reports)))


def report_table(report: "EvaluationReport") -> "Table":
    """Each figure with its interval, a column for each version."""
    from rich.table import Table

    table = Table("metric", *(f"version {one.version}" for one in report.versions))
    for name in report.versions[0].metrics:
        table.add_row(name.replace("_", " "), *(shown(one.metrics[name]) for one in report.versions))
    return table


def reports_table(reports: "list[EvaluationReport]") -> "Table":
    """A line for each report."""
    from rich.table import Table

    table = Table("time", "rows", "of", "figure", "better")
    for one in reports:
        figures = (f"version {each.version}: {_headline(each.metrics)}" for each in one.versions)
        better = "" if one.comparison is None else one.comparison.winner or "neither is shown to be"
        table.add_row(one.time[:19], f"{one.rows}", one.dataset, "\n".join(figures), better)
    return table


def _show(report: "EvaluationReport") -> None:
    failed = f", {report.failed_rows} of which could not be predicted" if report.failed_rows else ""
    typer.echo(f"{report.model}, {report.rows} rows ({report.dataset}){failed}: evaluation {report.id}")
    console().print(report_table(report))
    if report.comparison is not None:
        typer.echo(report.comparison.verdict)


def _headline(metrics: "Mapping[str, Figure]") -> str:
    name = next((one for one in ("accuracy", "mae") if one in metrics), next(iter(metrics)))
    return f"{name} {shown(metrics[name])}"


@contextmanager
def _file(path: Path) -> Iterator[None]:
    """Ends the command where a file can't be read."""
    try:
        yield
    except OSError as error:
        raise failure(f"{path}: {error.strerror}") from None
    except ValueError as error:
        raise failure(f"{path}: {error}") from None


@contextmanager
def _progress(total: int) -> "Iterator[Callable[[int], None]]":
    """How many rows were taken, on stderr; nothing where that is no terminal."""
    from rich.console import Console
    from rich.progress import Progress

    out = Console(stderr=True)
    with Progress(*Progress.get_default_columns(), console=out, transient=True, disable=not out.is_terminal) as bar:
        task = bar.add_task("rows", total=total)
        yield lambda done: bar.update(task, completed=done)
