"""An http process takes up what the supervisor tells of, from the files themselves."""

import asyncio
import shutil
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from service.domain import Address, Ref
from service.errors import NotReady, UnknownModel, UnknownVersion
from service.registry.catalog import CHANGED, Catalog
from service.registry.fleet import Standing, VersionState, View
from service.registry.scanner import Scanner
from service.serving.following import VersionFollower
from service.serving.router import Router, Target
from service.store.base import Aliases, State
from tests.checkpoints import write_image, write_text
from tests.fakes import FakeFleet
from tests.patience import PATIENCE

ALIASES: Aliases = {"clothes": {"champion": 1}, "mood": {"champion": 1}, "rent": {"champion": 1}}
NEW = Ref("clothes", 3)


class Process:
    """A router that follows a fleet."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.scanner = Scanner([root])
        self.router = Router(self.scanner.scan())
        self.router.use_state(State(1, ALIASES))
        self.fleet = FakeFleet()
        self.follower = VersionFollower(self.scanner, self.fleet, self.router)
        self._scan = 0

    @property
    def known(self) -> set[Ref]:
        return {version.ref for version in self.router.catalog.versions()}

    def tell(self, catalog: Catalog, **other_identities: str) -> None:
        """Publish these versions as what engines were told to load."""
        self._scan += 1
        standings = {
            version.ref: Standing(VersionState.LOADED, other_identities.get(version.ref.model, version.identity))
            for version in catalog.versions()
        }
        self.fleet.publish(View(self._scan, (), standings))

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(PATIENCE):
            while not condition():
                await asyncio.sleep(0.002)


@pytest.fixture
async def process(root: Path) -> AsyncIterator[Process]:
    process = Process(root)
    async with process.follower:
        yield process


async def test_a_version_that_is_told_of_is_read_and_routed(process: Process, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.serving.following._AGAIN_SECONDS", 1000.0)  # at once, or the test waits in vain
    write_image(process.root, version=3)
    process.tell(Scanner([process.root]).scan())
    await process.until(lambda: NEW in process.known)
    assert process.router.choose(Address("clothes", version="3")).ref == NEW
    assert process.router.choose(Address("clothes")).ref == Ref("clothes", 1)


async def test_what_is_not_told_of_is_not_served_although_it_is_there(process: Process) -> None:
    catalog = Scanner([process.root]).scan()
    process.tell(catalog.without({Ref("clothes", 2), Ref("mood", 1)}))
    await process.until(lambda: Ref("mood", 1) not in process.known)
    with pytest.raises(UnknownModel):
        process.router.choose(Address("mood"))
    with pytest.raises(UnknownVersion):
        process.router.choose(Address("clothes", version="2"))


async def test_files_that_are_not_those_the_engines_have_are_not_used(process: Process) -> None:
    process.tell(Scanner([process.root]).scan(), mood="another identity")
    await process.until(lambda: Ref("mood", 1) not in process.known)
    assert [(entry.model, entry.reason) for entry in process.router.catalog.broken] == [("mood", CHANGED)]


async def test_a_look_that_fails_is_repeated(process: Process, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.serving.following._AGAIN_SECONDS", 0.01)
    look, fails = process.scanner.scan, [OSError("the disk is away"), RuntimeError("a fault of ours")]

    def look_badly() -> Catalog:
        if fails:
            raise fails.pop()
        return look()

    monkeypatch.setattr(process.scanner, "scan", look_badly)
    write_image(process.root, version=3)
    process.tell(Scanner([process.root]).scan())
    await process.until(lambda: NEW in process.known)
    assert not fails


async def test_what_is_told_of_and_not_here_yet_is_looked_for_again(
    process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.serving.following._AGAIN_SECONDS", 0.01)
    write_image(process.root, version=3)
    catalog = Scanner([process.root]).scan()
    hidden = process.root.parent / "hidden"
    shutil.move(process.root / "clothes" / "3", hidden)
    process.tell(catalog.without({Ref("mood", 1)}))
    await process.until(lambda: Ref("mood", 1) not in process.known)
    assert NEW not in process.known
    shutil.move(hidden, process.root / "clothes" / "3")
    await process.until(lambda: NEW in process.known)


async def test_what_stays_changed_is_looked_at_less_and_less_and_logged_once(
    process: Process, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("service.serving.following._AGAIN_SECONDS", 0.02)
    monkeypatch.setattr("service.serving.following._LONGEST_SECONDS", 0.08)
    look, looks = process.scanner.scan, []

    def counted() -> Catalog:
        looks.append(asyncio.run_coroutine_threadsafe(_now(), loop).result())
        return look()

    async def _now() -> float:
        return loop.time()

    loop = asyncio.get_running_loop()
    monkeypatch.setattr(process.scanner, "scan", counted)
    with caplog.at_level("INFO", "service.serving.following"):
        process.tell(Scanner([process.root]).scan(), mood="another identity")
        await process.until(lambda: len(looks) >= 10)
        assert looks[-2] - looks[-4] >= 0.08
        assert len(caplog.records) == 1
        with pytest.raises(NotReady, match=CHANGED):
            process.router.choose(Address("mood"))
        write_image(process.root, version=3)
        process.tell(Scanner([process.root]).scan(), mood="another identity")
        await process.until(lambda: NEW in process.known)
    assert len(caplog.records) == 2


async def test_what_a_process_slept_through_it_reads_anew(process: Process, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.serving.following._AGAIN_SECONDS", 0.01)
    shutil.rmtree(process.root / "mood" / "1")
    write_text(process.root, max_characters=50)
    fresh = Scanner([process.root]).scan()
    process.tell(fresh)
    expected = fresh.models["mood"].versions[1].identity
    await process.until(lambda: expected in {version.identity for version in process.router.catalog.versions()})
    assert process.router.choose(Address("mood")).identity == expected


async def test_what_could_not_be_prepared_is_prepared_again(process: Process, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.serving.following._AGAIN_SECONDS", 0.01)
    prepare, times = process.router.prepare, []

    def badly(catalog: Catalog) -> dict[Ref, Target]:
        times.append(catalog)
        targets = prepare(catalog)
        return targets if len(times) > 1 else {ref: target for ref, target in targets.items() if ref != NEW}

    monkeypatch.setattr(process.router, "prepare", badly)
    write_image(process.root, version=3)
    process.tell(Scanner([process.root]).scan())
    await process.until(lambda: len(times) == 2)
    await process.until(lambda: NEW in process.router._targets)
