"""The worked examples of docs/checkpoints.md, from training to prediction: each command prints what the page says."""

import os
import re
import shlex
import subprocess
import sys
import sysconfig
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.end_to_end.service import Homes, Service
from tests.pages import ROOT

PAGE = (ROOT / "docs" / "checkpoints.md").read_text()
SHOWN_DATA_DIR = "~/.local/share/servoloop"
SHOWN_URL = "http://127.0.0.1:8000"
EXAMPLES = {
    "Families of your own": ("radial/pyproject.toml", "radial/radial_family.py", "train.py", "manifest.json"),
    "Serving your own checkpoint": ("train.py", "manifest.json", "rename.json"),
    "A text classifier": ("train.py", "manifest.json", "rename.json"),
}
_ASKS = ("servoloop predict ", "curl ")
_NUMBER = re.compile(r"\d+\.\d+(?:e-?\d+)?")
_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f-]{27}")


@dataclass(frozen=True)
class Example:
    """A section's files by name, and its commands with what they print."""

    files: Mapping[str, str]
    commands: Mapping[str, str]


def example(title: str, *names: str) -> Example:
    """The one under a heading; `names` are those of its files, in their order."""
    found = re.search(rf"^##+ {title}\n(.*?)(?=^##+ )", PAGE, re.DOTALL | re.MULTILINE)
    assert found is not None
    contents = re.findall(r"^```(?:python|json|toml)\n(.*?)^```", found[1], re.DOTALL | re.MULTILINE)
    consoles = re.findall(r"^```console\n(.*?)^```", found[1], re.DOTALL | re.MULTILINE)
    commands = re.findall(r"^\$ ([^\n]*)\n((?:(?!\$ )[^\n]*\n)*)", "".join(consoles), re.MULTILINE)
    return Example(dict(zip(names, contents, strict=True)), dict(commands))


class Author:
    """Somebody in a folder with the example's files, and the service beside."""

    def __init__(self, home: Path, example: Example) -> None:
        self._example = example
        self._folder = home / "author"
        self._site = home / "site"
        self._data_dir = home / "data"
        for name, content in example.files.items():
            path = self._folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)

    def install(self, package: Path) -> None:
        """As pip does with a package of modules: the modules, and what the package says of itself."""
        project = tomllib.loads((package / "pyproject.toml").read_text())
        stated = project["project"]
        about = self._site / f"{stated['name'].replace('-', '_')}-{stated['version']}.dist-info"
        about.mkdir(parents=True)
        (about / "METADATA").write_text(f"Name: {stated['name']}\nVersion: {stated['version']}\n")
        groups = [
            f"[{group}]\n" + "".join(f"{name} = {value}\n" for name, value in points.items())
            for group, points in stated["entry-points"].items()
        ]
        (about / "entry_points.txt").write_text("\n".join(groups))
        for module in project["tool"]["setuptools"]["py-modules"]:
            (self._site / f"{module}.py").write_bytes((package / f"{module}.py").read_bytes())

    def run(self, command: str, url: str = SHOWN_URL) -> str:
        """What a command of the page prints. `pip install` is done without a network."""
        words = shlex.split(command.replace(SHOWN_URL, url))
        match words:
            case ["pip", "install", package]:
                self.install(self._folder / package)
                return ""
            case ["python", *rest]:
                words = [sys.executable, "-P", *rest]
            case ["servoloop", *rest]:
                words = [str(Path(sysconfig.get_path("scripts")) / "servoloop"), *rest]
        if words[1] == "predict":
            words += ["--url", url]
        done = subprocess.run(words, cwd=self._folder, env=self.environment(), capture_output=True, check=False)
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout.decode().replace(str(self._data_dir), SHOWN_DATA_DIR)

    def environment(self) -> dict[str, str]:
        """That of all processes."""
        paths = [str(self._site), *filter(None, [os.environ.get("PYTHONPATH")])]
        given = {"SERVOLOOP_DATA_DIR": str(self._data_dir), "PYTHONUTF8": "1", "PYTHONPATH": os.pathsep.join(paths)}
        return {**os.environ, **given}


def same(printed: str, shown: str) -> bool:
    """Whether they are alike but for ids, for what another processor rounds in a training, and for blanks and bars."""
    numbers = [[float(number) for number in _NUMBER.findall(_ID.sub("", text))] for text in (printed, shown)]
    words = [_NUMBER.sub("#", _ID.sub("#", text)).replace("█", "").split() for text in (printed, shown)]
    return words[0] == words[1] and numbers[0] == pytest.approx(numbers[1], rel=0.02, abs=0.02)


@pytest.mark.parametrize("title", EXAMPLES)
def test_each_command_prints_what_the_page_says(new_home: Homes, title: str, monkeypatch: pytest.MonkeyPatch) -> None:
    home, shown = new_home(), example(title, *EXAMPLES[title])
    author = Author(home, shown)
    before = {command: text for command, text in shown.commands.items() if not command.startswith(_ASKS)}
    for command, text in before.items():
        printed = author.run(command)
        assert same(printed, text), printed
    monkeypatch.setenv("PYTHONPATH", author.environment()["PYTHONPATH"])
    with Service(home, shipped_checkpoints="") as service:
        service.wait_ready()
        asked = {command: text for command, text in shown.commands.items() if command.startswith(_ASKS)}
        assert asked
        for command, text in asked.items():
            printed = author.run(command, service.url)
            assert same(printed, text), printed
