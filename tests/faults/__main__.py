"""Break a real running service in every way that it promises to survive, and show what it did.

`python -m tests.faults`, or `make faults`: a quarter of an hour; `--quick` takes about a minute and a half. The exit
code is 1 where a promise was broken.
"""

import argparse
import asyncio
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from tests import checkpoints
from tests.end_to_end.service import Homes, Service, until
from tests.faults import disconnects, drains, hostile, kills, optimised, overload, rollouts, versions
from tests.faults.report import Report

Done = Callable[[], None]


@dataclass(frozen=True)
class Scale:
    """How much of each fault."""

    kill_seconds: float
    kill_every: float
    restarts: int
    http_kills: int
    disconnects: int
    drains: int
    overload_seconds: float
    swaps: int
    rollouts: int
    crowding: int


FULL = Scale(
    kill_seconds=120,
    kill_every=15,
    restarts=100,
    http_kills=10,
    disconnects=4000,
    drains=50,
    overload_seconds=20,
    swaps=200,
    rollouts=200,
    crowding=2000,
)
QUICK = Scale(
    kill_seconds=15,
    kill_every=6,
    restarts=10,
    http_kills=2,
    disconnects=400,
    drains=3,
    overload_seconds=4,
    swaps=30,
    rollouts=30,
    crowding=300,
)


@dataclass(frozen=True)
class Fault:
    """A fault, and in how many steps it shows its progress."""

    name: str
    steps: int
    run: Callable[[Done], Awaitable[Report]]


def faults(homes: Homes, scale: Scale) -> list[Fault]:
    """All of them, in the order in which they are run."""

    async def leave(_: Done) -> Report:
        with disconnects.start(homes()) as service:
            await asyncio.to_thread(service.wait_ready)
            return await disconnects.leave(service, scale.disconnects)

    def kill_engines(done: Done) -> Awaitable[Report]:
        return kills.kill_engines(homes(), seconds=scale.kill_seconds, every=scale.kill_every, rate=200, done=done)

    return [
        Fault("engine", int(scale.kill_seconds / scale.kill_every), kill_engines),
        Fault("restarts", scale.restarts, lambda done: kills.restart_often(homes(), scale.restarts, done)),
        Fault("stopped engine", 1, lambda _: kills.stop_engine(homes(), patience=30)),
        Fault("http", scale.http_kills, lambda done: kills.kill_http(homes(), kills=scale.http_kills, done=done)),
        Fault("disconnects", 1, leave),
        Fault("drains", scale.drains, lambda done: drains.drain_often(homes, scale.drains, done)),
        Fault("overload", 1, lambda _: overload.overload(homes(), clients=100, seconds=scale.overload_seconds)),
        Fault("swaps", scale.swaps, lambda done: versions.swap_often(homes(), scale.swaps, done)),
        Fault("rollouts", scale.rollouts, lambda done: rollouts.roll_out_often(homes(), scale.rollouts, done)),
        Fault("crowd", scale.crowding, lambda done: versions.crowd(homes(), scale.crowding, done)),
        Fault("checkpoints", 1, lambda _: refuse_hostile(homes)),
    ]


async def refuse_hostile(homes: Homes) -> Report:
    """A root full of hostile checkpoints, and a good one."""
    home = homes()
    root = home / "data" / "models"
    expected = hostile.write(root)
    checkpoints.write_vector(root, "good")
    with Service(home, shipped_checkpoints="") as service:
        await asyncio.to_thread(service.wait_ready)

        def refused() -> set[str]:
            return {one["model"] for one in service.client.get("/v1/models").json()["broken"]}

        await asyncio.to_thread(until, lambda: expected.keys() <= refused(), "all are refused")
        num_refused = len(refused() & expected.keys())
        serves = service.post("good", [[1, 2, 3, 4]]).status_code == 200
        restarts = service.metric("servoloop_process_restarts_total")
    return Report(
        "hostile checkpoints",
        {"written": len(expected), "refused": num_refused, "restarts": int(restarts)},
        {
            "all are refused": num_refused == len(expected),
            "the good one serves": serves,
            "nothing was executed": not list(home.rglob(hostile.MARK)),
            "no process ended": restarts == 0,
        },
    )


async def run(chosen: list[Fault]) -> list[Report]:
    """Run them one after another."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    reports = []
    with Progress(*columns, console=Console(stderr=True)) as progress:
        bars = [progress.add_task(fault.name, total=fault.steps, start=False) for fault in chosen]
        for fault, bar in zip(chosen, bars, strict=True):
            progress.start_task(bar)
            try:
                reports.append(await fault.run(lambda bar=bar: progress.advance(bar)))
            except Exception as error:  # noqa: BLE001 - what the others showed is not lost for it
                progress.console.print_exception()
                reports.append(Report(fault.name, {"stopped by": repr(error)}, {"it came to its end": False}))
            progress.update(bar, completed=fault.steps)
    return reports


def show(reports: list[Report]) -> None:
    """Print figures and promises."""
    table = Table("fault", "figures", "promises", show_lines=True)
    for report in reports:
        figures = "\n".join(f"{name}: {value}" for name, value in report.figures.items())
        promises = "\n".join(
            f"[green]kept[/] {text}" if kept else f"[red]BROKEN[/] {text}" for text, kept in report.promises.items()
        )
        table.add_row(report.fault, figures, promises)
    Console().print(table)


def main() -> None:
    """Run the faults, print, and exit."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a short form of each")
    parser.add_argument("--optimised", action="store_true", help="on the back ends that a service chooses")
    parser.add_argument("--only", action="append", metavar="FAULT", help="this one; may be given several times")
    arguments = parser.parse_args()
    homes = Homes()
    try:
        known = faults(homes, QUICK if arguments.quick else FULL)
        names = [fault.name for fault in known]
        if unknown := set(arguments.only or names) - set(names):
            parser.error(f"there is no fault {sorted(unknown)[0]!r}; there are: {', '.join(names)}")
        reports = [optimised.choose(homes)] if arguments.optimised else []
        reports += asyncio.run(run([fault for fault in known if fault.name in (arguments.only or names)]))
    finally:
        homes.remove()
    show(reports)
    sys.exit(not all(report.kept for report in reports))


if __name__ == "__main__":
    main()
