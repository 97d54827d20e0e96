"""What every benchmark shows and keeps: progress, tables, and a JSON file that names date, machine and versions."""

import contextlib
import json
import os
import platform
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import distributions
from pathlib import Path
from typing import Any, Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

_VERSIONED = ("torch", "openvino", "numpy", "uvicorn", "uvloop", "httptools", "fastapi", "starlette", "orjson")


class Step(Protocol):
    """Says what is being done now, and that the step before is done."""

    def __call__(self, what: str) -> None: ...


@contextlib.contextmanager
def progress(console: Console, total: int) -> Iterator[Step]:
    """A bar of `total` steps."""
    columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, TextColumn("{task.description}"), console=console, transient=True) as bar:
        task = bar.add_task("", total=total)
        begun = False

        def step(what: str) -> None:
            nonlocal begun
            bar.update(task, advance=1 if begun else 0, description=what)
            begun = True

        yield step


def show(console: Console, title: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """A table with a column for each key of the first row; nothing where there is none."""
    if not rows:
        return
    table = Table(title=title)
    for name, value in rows[0].items():
        table.add_column(name.replace("_", " "), justify="left" if isinstance(value, str) else "right")
    for row in rows:
        table.add_row(*(_text(value) for value in row.values()))
    console.print(table)


def _text(value: Any) -> str:
    if not isinstance(value, float):
        return "-" if value is None else str(value)
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:,.1f}" if abs(value) >= 100 else f"{value:.2f}"


def rounded(value: Any) -> Any:
    """Floats in it with three decimals."""
    if isinstance(value, Mapping):
        return {name: rounded(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(each) for each in value]
    return round(value, 3) if isinstance(value, float) else value


def machine() -> dict[str, Any]:
    """What the figures depend on."""
    told = dict[str, str]()
    with contextlib.suppress(OSError):
        lines = (line.partition(":") for line in Path("/proc/cpuinfo").read_text().splitlines())
        told = {name.strip(): value.strip() for name, _, value in lines}
    flags = set(told.get("flags", "").split())
    return {
        "processor": told.get("model name", platform.processor() or platform.machine()),
        "cores": cores(),
        "features": sorted(flags & {"avx2", "avx512f", "avx512_bf16", "avx512_vnni", "amx_bf16"}),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "system": platform.platform(),
    }


def cores() -> int:
    """How many may be used."""
    return len(os.sched_getaffinity(0))


def versions() -> dict[str, str]:
    """Of Python, Servoloop and what its speed depends on."""
    there = {each.metadata["Name"].lower(): each.version for each in distributions()}
    said = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--abbrev=12"],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        check=False,
    )
    revision = {"revision": said.stdout.strip()} if said.returncode == 0 else {}
    return {
        "python": platform.python_version(),
        **revision,
        **{name: there[name] for name in _VERSIONED if name in there},
    }


def keep(path: Path | None, command: str, *, quick: bool, **parts: Any) -> None:
    """Write the results, where a file was asked for."""
    if path is None:
        return
    document = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": command,
        "quick": quick,
        "machine": machine(),
        "versions": versions(),
        **parts,
    }
    path.write_text(json.dumps(rounded(document), indent=2) + "\n")
