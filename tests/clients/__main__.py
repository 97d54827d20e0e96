"""Ask a really running service by the clients that people have: `python -m tests.clients [family ...]`, or `make e2e`.

Each family has a service of its own, with the shipped checkpoints and one small model of each kind, and an environment
of its own under .venv-e2e/, which is made the first time. The exit code is 1 where a test failed.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests import checkpoints
from tests.clients.environments import FAMILIES, HERE, ROOT, Family, NotInstalled, environment
from tests.end_to_end.service import Homes, Service, free_port

# A family takes about a minute at most; what hangs is a failure, too.
_SECONDS = 600


@dataclass
class Outcome:
    """What became of a family's tests, and what else went wrong."""

    family: str
    clients: list[str] = field(default_factory=list)
    passed: int = 0
    failed: int = 0
    seconds: float = 0
    problems: list[str] = field(default_factory=list)

    @property
    def is_good(self) -> bool:
        return self.passed > 0 and not self.failed and not self.problems


def run(family: Family, homes: Homes, console: Console) -> Outcome:
    """Run a family's tests against a service of their own."""
    outcome = Outcome(family.name)
    if not family.is_installed:
        console.print(f"{family.name}: making its environment, once; this takes a minute or two")
        try:
            family.install()
        except NotInstalled as error:
            outcome.problems.append(f"its environment could not be made: {error}")
            return outcome
    outcome.clients = family.versions()
    console.print(f"{family.name}: {', '.join(outcome.clients)}")
    home = homes()
    checkpoints.write_one_of_each(home / "data" / "models")
    grpc_port = free_port()
    with Service(home, "--grpc-port", str(grpc_port)) as service:
        service.wait_ready()
        began = time.monotonic()
        with tempfile.TemporaryDirectory() as folder:
            addresses = {"E2E_URL": service.url, "E2E_GRPC": f"127.0.0.1:{grpc_port}"}
            _ask(family, addresses, Path(folder) / "results.xml", outcome)
        outcome.seconds = time.monotonic() - began
        outcome.problems += _wrong_with(service)
    return outcome


def _ask(family: Family, addresses: Mapping[str, str], results: Path, outcome: Outcome) -> None:
    command = [str(family.python), "-P", "-m", "pytest", "-c", str(HERE / "pytest.ini"), "-q", str(family.tests)]
    command.append(f"--junitxml={results}")
    try:
        code = subprocess.run(command, cwd=ROOT, env=environment(**addresses), timeout=_SECONDS, check=False).returncode
    except subprocess.TimeoutExpired:
        outcome.problems.append(f"its tests took longer than {_SECONDS} seconds")
        return
    if code not in (0, 1):
        outcome.problems.append(f"pytest ended with {code}")
        return
    (suite,) = ElementTree.parse(results).getroot()
    outcome.failed = int(suite.attrib["failures"]) + int(suite.attrib["errors"])
    outcome.passed = int(suite.attrib["tests"]) - outcome.failed - int(suite.attrib["skipped"])


def _wrong_with(service: Service) -> Iterator[str]:
    """What no client may bring about."""
    if not service.is_up():
        yield "the service does not live any more"
        return
    if restarts := int(service.metric("servoloop_process_restarts_total")):
        yield f"{restarts} processes of the service ended"
    yield from (f"in the service's log: {line[:2000]}" for line in service.errors.splitlines() if _is_traceback(line))


def _is_traceback(line: str) -> bool:
    try:
        return "exception" in json.loads(line)
    except ValueError:
        return "Traceback" in line


def show(outcomes: list[Outcome], console: Console) -> None:
    """Print what passed and what did not."""
    table = Table("family", "clients", "passed", "failed", "seconds")
    for outcome in outcomes:
        colour = "green" if outcome.is_good else "red"
        failed = str(outcome.failed + len(outcome.problems))
        name = f"[{colour}]{outcome.family}"
        table.add_row(name, ", ".join(outcome.clients), str(outcome.passed), failed, f"{outcome.seconds:.0f}")
    console.print(table)
    for outcome in outcomes:
        for problem in outcome.problems:
            console.print(f"{outcome.family}: {problem}", style="red", markup=False)


def main() -> None:
    """Run the families, print, and exit."""
    parser = argparse.ArgumentParser(prog="python -m tests.clients", description=__doc__)
    parser.add_argument("families", nargs="*", metavar="family", help=f"of {', '.join(FAMILIES)}; all unless named")
    names = parser.parse_args().families or list(FAMILIES)
    if unknown := set(names) - set(FAMILIES):
        parser.error(f"there is no family {sorted(unknown)[0]!r}; there are: {', '.join(FAMILIES)}")
    console = Console()
    homes = Homes()
    try:
        outcomes = [run(FAMILIES[name], homes, console) for name in names]
    finally:
        homes.remove()
    show(outcomes, console)
    sys.exit(not all(outcome.is_good for outcome in outcomes))


if __name__ == "__main__":
    main()
