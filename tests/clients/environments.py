"""A virtual environment for each family of clients, made once and kept: what one needs another can't stand."""

import json
import os
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
FOLDER = ROOT / ".venv-e2e"
_DONE = ".installed"
_VERSIONS = """
import importlib.metadata, json, sys
print(json.dumps([importlib.metadata.version(name) for name in sys.argv[1:]]))
"""


class NotInstalled(Exception):
    """An environment could not be made; the text is what was said last."""


@dataclass(frozen=True)
class Family:
    """Clients that are tested together: tests/clients/<name>/, with what is in requirements/<name>.txt.

    `clients` are the distributions that it is about.
    """

    name: str
    clients: tuple[str, ...]

    @property
    def tests(self) -> Path:
        return HERE / self.name

    @property
    def python(self) -> Path:
        return FOLDER / self.name / "bin" / "python"

    @property
    def is_installed(self) -> bool:
        """Whether the environment is there, with what is required today."""
        marker = FOLDER / self.name / _DONE
        return marker.is_file() and marker.read_text() == self._requirements.read_text()

    @property
    def _requirements(self) -> Path:
        return HERE / "requirements" / f"{self.name}.txt"

    def install(self) -> None:
        """Make the environment anew. Raises NotInstalled."""
        FOLDER.mkdir(exist_ok=True)
        steps: Iterable[list[str]] = (
            [sys.executable, "-P", "-m", "venv", "--clear", str(FOLDER / self.name)],
            [str(self.python), "-m", "pip", "--disable-pip-version-check", "install", "-r", str(self._requirements)],
        )
        for step in steps:
            done = subprocess.run(step, env=environment(), capture_output=True, text=True, check=False)
            if done.returncode:
                raise NotInstalled("\n".join((done.stdout + done.stderr).splitlines()[-10:]))
        (FOLDER / self.name / _DONE).write_text(self._requirements.read_text())

    def versions(self) -> list[str]:
        """`name version` of each of its clients."""
        command = [str(self.python), "-c", _VERSIONS, *self.clients]
        printed = subprocess.run(command, env=environment(), check=True, capture_output=True, text=True).stdout
        return [f"{name} {version}" for name, version in zip(self.clients, json.loads(printed), strict=True)]


def environment(**more: str) -> dict[str, str]:
    """The caller's variables, without what its Python is told: a family stands on its own. Nor is a proxy asked."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    return {**kept, "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1", **more}


FAMILIES = {
    family.name: family
    for family in (
        Family("tritonclient_http", ("tritonclient",)),
        Family("tritonclient_grpc", ("tritonclient", "grpcio")),
        Family("kserve", ("kserve",)),
        Family("mlserver", ("mlserver",)),
        Family("schemathesis", ("schemathesis",)),
    )
}
