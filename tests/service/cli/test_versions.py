"""`servoloop load`, `unload`, `reload` and `delete`, against a service."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from service.cli.app import app
from service.domain import Ref, Wish
from service.registry.catalog import Catalog
from service.registry.fleet import Standing, VersionState
from service.store.base import WishChange
from tests.service.api.support import Supervised
from tests.service.cli.conftest import Run, running


@pytest.fixture
def url(catalog: Catalog, tmp_path: Path) -> Iterator[str]:
    """Where a service of the test's own answers."""
    with running(catalog, tmp_path) as address:
        yield address


def test_a_load_says_where_the_version_is_and_what_to_do_next(run: Run, url: str) -> None:
    result = run(["load", "clothes", 2, "--pin", "--precision", "bfloat16", "--url", url])
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == (
        "clothes/2 is loaded on engine-0 in bfloat16. It is pinned: nothing else takes its room.\n"
        "To let it answer by default: servoloop alias clothes champion 2\n"
    )
    assert "loaded, pinned" in run(["models", "--url", url]).stdout
    result = run(["load", "clothes", 2, "--no-pin", "--precision", "float32", "--url", url])
    assert result.stdout.startswith("clothes/2 is loaded on engine-0 in float32.\n")


def test_a_version_that_has_an_alias_needs_none(run: Run, url: str) -> None:
    assert run(["reload", "clothes", 1, "--url", url]).stdout == "clothes/1 is loaded on engine-0 in float32.\n"


def test_what_takes_longer_than_is_waited_goes_on(run: Run, url: str) -> None:
    result = run(["load", "codes", 1, "--wait", 0, "--url", url])
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == "codes/1 is still being loaded; `servoloop models` shows when it is.\n"


def test_an_unload_says_how_to_have_the_version_back(run: Run, url: str) -> None:
    result = run(["unload", "clothes", 2, "--url", url])
    assert result.stdout == "clothes/2 is unloaded. To have it back: servoloop load clothes 2\n"
    assert run(["models", "--url", url]).stdout.count("unloaded") == 1
    result = run(["reload", "clothes", 2, "--url", url])
    assert result.exit_code == 1
    assert "clothes/2 is unloaded, as an operator wanted; load it first" in result.stderr
    assert run(["load", "clothes", 2, "--url", url]).exit_code == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["load", "clothes", "9"], "there is no version of clothes named '9'"),
        (["unload", "clothes", "1"], "let it name another version first"),
        (["delete", "clothes", "1", "--yes"], "let it name another version first"),
        (["delete", "nothing", "--yes"], "there is no model named 'nothing'"),
        (["delete", "mood", "--yes"], "only registered versions can be deleted"),
    ],
)
def test_the_service_s_refusal_is_shown(run: Run, url: str, words: list[str], message: str) -> None:
    result = run([*words, "--url", url])
    assert (result.exit_code, result.stdout) == (1, "")
    assert message in result.stderr


@pytest.mark.parametrize(
    "words",
    [["load", "clothes", "0"], ["load", "clothes", "1", "--precision", "int8"], ["unload", "clothes", "--wait", "-1"]],
)
def test_words_that_mean_nothing_are_a_fault_of_the_command(run: Run, url: str, words: list[str]) -> None:
    assert run([*words, "--url", url]).exit_code == 2


@pytest.mark.parametrize("words", [["load", "m", "1"], ["unload", "m", "1"], ["reload", "m", "1"], ["delete", "m"]])
def test_where_no_service_answers_it_says_what_to_do(run: Run, words: list[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        free = listener.getsockname()[1]
    result = run([*words, "--url", f"http://127.0.0.1:{free}"])
    assert result.exit_code == 1
    assert "start a service with `servoloop serve`" in result.stderr


def test_nothing_is_deleted_where_nobody_can_be_asked(run: Run, url: str) -> None:
    result = run(["delete", "thumbnails", "1", "--url", url])
    assert result.exit_code == 1
    assert "say --yes" in result.stderr


def test_at_a_terminal_it_is_asked_before_anything_is_deleted(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.cli.versions._is_at_terminal", lambda: True)
    result = CliRunner().invoke(app, ["delete", "sensors", "--url", url], input="n\n")
    assert result.exit_code == 1
    assert "Delete sensors: its versions 1 with their files, and its aliases?" in result.output
    assert "is deleted" not in result.output
    result = CliRunner().invoke(app, ["delete", "sensors", "--url", url], input="y\n")
    assert result.exit_code == 0
    assert "sensors is deleted." in result.output


async def no_room(self: Supervised, ref: Ref, change: WishChange) -> Wish:
    wish = await self.store.change_wish(ref, change)
    self.fleet.show(ref, Standing(VersionState.NO_ROOM, "", "it needs 9 GB", wished=wish.generation))
    return wish


def test_what_there_is_no_room_for_stays_pinned_and_it_says_so(
    run: Run, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Supervised, "change_wish", no_room)
    result = run(["load", "clothes", 2, "--pin", "--url", url])
    assert (result.exit_code, result.stdout) == (1, "")
    assert "it needs 9 GB" in result.stderr
    assert "it stays pinned, and is loaded once there is room" in result.stderr
    assert "servoloop load clothes 2 --no-pin" in result.stderr
    assert "stays pinned" not in run(["load", "clothes", 2, "--url", url]).stderr
