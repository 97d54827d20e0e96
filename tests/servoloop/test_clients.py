"""What both clients have in common, and the package that they come in."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

import servoloop
from servoloop import AsyncClient, Client
from tests.servoloop.support import MODEL, Service, answer, problem


def test_every_public_name_is_there() -> None:
    assert all(hasattr(servoloop, name) for name in servoloop.__all__)


async def test_the_asynchronous_client_has_the_same_verbs() -> None:
    unavailable = problem(503, "queue-full", {"Retry-After": "2"}, detail="full")
    service = Service(unavailable, answer({"value": 1.0}))
    async with service.async_client() as client:
        assert (await client.predict("m", {"lotsize": 5850}, external_id="order-1")).value == 1.0
        assert service.body["instances"] == [{"columns": {"lotsize": 5850}}]
        assert service.paused == [2.0]
        assert (await client.predict_many("m", ["x"]))[0].value == 1.0
        service.outcomes = [httpx.Response(200, json=MODEL)]
        assert (await client.model("fashion")).name == "fashion"
        service.outcomes = [httpx.Response(200, json={"models": [MODEL], "broken": []})]
        assert len(await client.models()) == 1
        service.outcomes = [httpx.ConnectError("refused")]
        assert await client.ready() is False
        with pytest.raises(servoloop.ConnectionFailed):
            await client.models()


@pytest.mark.parametrize(("url", "mounted"), [("http://127.0.0.1:8000", False), ("http://models.example", True)])
def test_this_machine_is_not_asked_through_a_proxy(monkeypatch: pytest.MonkeyPatch, url: str, *, mounted: bool) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://proxy.invalid:3128")
    with Client(url) as client:
        assert bool(client._http._mounts) is mounted


def test_the_sync_and_async_clients_take_the_same_arguments() -> None:
    def arguments(verb: Callable[..., Any]) -> Any:
        return verb.__annotations__.keys()

    verbs = {name for name in vars(Client) if not name.startswith("_")} - {"close"}
    assert verbs == {name for name in vars(AsyncClient) if not name.startswith("_")} - {"aclose"}
    for name in (*verbs, "__init__"):
        assert arguments(getattr(Client, name)) == arguments(getattr(AsyncClient, name))


def test_a_folder_of_its_name_is_not_taken_for_the_package(tmp_path: Path) -> None:
    (tmp_path / "servoloop").mkdir()
    done = subprocess.run(
        [sys.executable, "-c", "from servoloop import Client; print(Client.__name__)"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("Client\n", "")
