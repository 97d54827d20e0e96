"""Show that a really running service measures a model as scikit-learn does, whatever happens meanwhile, and how often
its intervals hold the truth: `python -m tests.end_to_end.live_quality [part ...]`, or `make quality`.

told: labels of real pictures, shuffled, repeated, corrected and early; killed: the same while processes are killed;
drift: ordinary pictures, of which it is never said, and inverted ones; coverage: intervals of simulated streams. The
exit code is 1 where a claim does not hold.
"""

import argparse
import contextlib
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import orjson
import sklearn
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from benchmarks import report as benchmark
from models.training.loaders.registry import MissingData
from service.settings import SHIPPED_CHECKPOINTS
from tests import postgres
from tests.end_to_end.live_quality.coverage import coverage
from tests.end_to_end.live_quality.drifting import drift
from tests.end_to_end.live_quality.killed import killed
from tests.end_to_end.live_quality.report import Begin, Done, Report
from tests.end_to_end.live_quality.statements import MODEL, held_out
from tests.end_to_end.live_quality.told import told
from tests.end_to_end.service import Homes

PARTS = ("told", "killed", "drift", "coverage")
_ALL_ROWS = 5000
# Of what is kept in a file.
_WIDTH = 140


def run(arguments: argparse.Namespace, console: Console) -> list[Report]:
    """Run the parts one after another. Raises MissingData."""
    chosen: Sequence[str] = arguments.parts or PARTS
    rows, seed = arguments.rows, arguments.seed
    labels = _labels()
    pictures = held_out(rows, labels, seed) if {"told", "killed", "drift"} & set(chosen) else []
    homes = Homes()

    def tell(begin: Begin) -> Report:
        with _store(arguments.postgres) as settings:
            return told(homes(), settings, pictures, labels, seed, begin)

    def kill(begin: Begin) -> Report:
        with _store(arguments.postgres) as settings:
            return killed(homes(), settings, pictures, labels, seed, arguments.kills, begin)

    def drift_away(begin: Begin) -> Report:
        return drift(homes, lambda: _store(arguments.postgres), pictures, seed, begin)

    known: Mapping[str, Callable[[Begin], Report]] = {
        "told": tell,
        "killed": kill,
        "drift": drift_away,
        "coverage": lambda begin: coverage(arguments.streams, seed, begin),
    }
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    reports = []
    try:
        with Progress(*columns, console=console) as progress:
            bars = {name: progress.add_task(name, total=None, start=False) for name in PARTS if name in chosen}
            for name, bar in bars.items():
                progress.start_task(bar)
                try:
                    reports.append(known[name](_beginning(progress, bar)))
                except Exception as error:  # noqa: BLE001 - what the others showed is not lost for it
                    progress.console.print_exception()
                    reports.append(Report(name, {"stopped by": repr(error)}, {"it came to its end": False}))
    finally:
        homes.remove()
    return reports


@contextlib.contextmanager
def _store(in_postgres: bool) -> Iterator[dict[str, str]]:
    """The settings of a service with a store of its own."""
    if not in_postgres:
        yield {}
        return
    with postgres.server() as url:
        yield {"store_url": url}


def _beginning(progress: Progress, bar: TaskID) -> Begin:
    def begin(steps: int) -> Done:
        progress.update(bar, total=steps)
        return lambda count: progress.advance(bar, count)

    return begin


def _labels() -> list[str]:
    """In the order of the shipped model's outputs."""
    manifest = orjson.loads((SHIPPED_CHECKPOINTS / MODEL / "1" / "manifest.json").read_bytes())
    labels: list[str] = manifest["labels"]
    return labels


def show(reports: Sequence[Report], console: Console) -> None:
    """Print figures and claims."""
    for report in reports:
        benchmark.show(console, report.part, report.table)
    table = Table("part", "figures", "claims", show_lines=True)
    for report in reports:
        figures = "\n".join(f"{name}: {value}" for name, value in report.figures.items())
        claims = "\n".join(
            f"[green]holds[/] {text}" if holds else f"[red]FAILS[/] {text}" for text, holds in report.claims.items()
        )
        table.add_row(report.part, figures, claims)
    console.print(table)


def main() -> None:
    """Run the parts, print, and exit."""
    parser = argparse.ArgumentParser(prog="python -m tests.end_to_end.live_quality", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="part", help=f"of {', '.join(PARTS)}; all unless named")
    parser.add_argument("--postgres", action="store_true", help="keep the store in PostgreSQL instead of SQLite")
    parser.add_argument("--rows", type=int, default=_ALL_ROWS, metavar="N", help="pictures, 10,000 at most")
    parser.add_argument("--kills", type=int, default=20, metavar="N", help="in the part killed")
    parser.add_argument("--streams", type=int, default=500, metavar="N", help="in the part coverage")
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="of everything that is drawn")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to this file too")
    arguments = parser.parse_args()
    if unknown := set(arguments.parts) - set(PARTS):
        parser.error(f"there is no part {sorted(unknown)[0]!r}; there are: {', '.join(PARTS)}")
    if arguments.postgres and (reason := postgres.why_not()):
        sys.exit(f"{reason}; on Debian: apt install postgresql")
    # So that services are ended on the way out.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    console = Console()
    if not console.is_terminal:
        console = Console(width=_WIDTH)
    try:
        reports = run(arguments, console)
    except MissingData as error:
        sys.exit(str(error))
    show(reports, console)
    benchmark.keep(
        arguments.json,
        "python -m tests.end_to_end.live_quality",
        quick=arguments.rows < _ALL_ROWS,
        store="PostgreSQL" if arguments.postgres else "SQLite",
        scikit_learn=sklearn.__version__,
        parts={report.part: report.to_dict() for report in reports},
    )
    sys.exit(not all(report.holds for report in reports))


if __name__ == "__main__":
    main()
