"""One virtual environment a peer, made once and kept."""

import json
import os
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from benchmarks.peers.catalog import COMMON, PEERS

DEFAULT = Path("~/.cache/servoloop-peers").expanduser()
_DONE = ".installed"


@dataclass(frozen=True)
class Environment:
    """The environment called `name` under a folder; it may not be there."""

    folder: Path
    name: str

    @property
    def python(self) -> Path:
        return self.folder / self.name / "bin" / "python"

    @property
    def requirements(self) -> tuple[str, ...]:
        """What is installed into it."""
        return (*COMMON, *(PEERS[self.name].requirements if self.name in PEERS else ()))

    @property
    def _wanted(self) -> str:
        return "\n".join(self.requirements)

    @property
    def problem(self) -> str:
        """Why it can't be used; empty where it can."""
        marker = self.folder / self.name / _DONE
        if marker.is_file() and marker.read_text() == self._wanted:
            return ""
        log = self.folder / f"{self.name}.log"
        if marker.is_file() or not log.is_file():
            return f"{'out of date' if marker.is_file() else 'not installed'}: python -m benchmarks peers --install"
        return "could not be installed: " + " ".join(log.read_text().split("\n")[-4:]).strip()

    def versions(self) -> dict[str, str]:
        """Of every distribution in it."""
        listed = subprocess.run(
            [str(self.python), "-m", "pip", "list", "--format", "json", "--disable-pip-version-check"],
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        return {entry["name"].lower(): entry["version"] for entry in json.loads(listed)}

    def install(self) -> bool:
        """Make it anew; what pip said is kept beside it, in `<name>.log`. Whether it worked."""
        self.folder.mkdir(parents=True, exist_ok=True)
        home = self.folder / self.name
        # Without what the caller's Python is told: a peer must stand on its own.
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
        steps = (
            [sys.executable, "-P", "-m", "venv", "--clear", str(home)],
            [str(self.python), "-m", "pip", "install", "--disable-pip-version-check", "--quiet", *self.requirements],
        )
        with (self.folder / f"{self.name}.log").open("w") as log:
            for step in steps:
                if subprocess.run(step, env=environment, stdout=log, stderr=subprocess.STDOUT, check=False).returncode:
                    return False
        (home / _DONE).write_text(self._wanted)
        return True


def install(folder: Path, names: Iterable[str], console: Console) -> None:
    """Make the environments of these peers, and the one with OpenVINO, where they are not there yet."""
    for name in ("openvino", *names):
        environment = Environment(folder, name)
        if not environment.problem:
            console.print(f"{name}: there already")
            continue
        with console.status(f"installing {name}"):
            worked = environment.install()
        console.print(f"{name}: installed" if worked else f"[red]{name}: {environment.problem}")
