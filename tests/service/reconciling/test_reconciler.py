"""The supervisor's part in having versions loaded."""

import shutil
from pathlib import Path

import pytest

from models.manifest import WEIGHTS
from service.domain import Loading, Ref
from service.errors import StoreUnavailable
from service.registry.fleet import VersionState
from service.store.base import WishChange
from service.watch.evidence import Cause, Death
from tests import checkpoints
from tests.service.reconciling.running import RENT, SENSORS, running

pytestmark = pytest.mark.usefixtures("quickly")


async def test_everything_found_is_loaded_as_what_it_is(folder: Path) -> None:
    async with running(folder) as service:
        versions = await service.come({SENSORS: VersionState.LOADED, RENT: VersionState.LOADED})
        loads = {wanted.ref: wanted for wanted in service.engines.loads}
        assert {ref: wanted.identity for ref, wanted in loads.items()} == {
            ref: standing.identity for ref, standing in versions.items()
        }
        assert loads[SENSORS].folder == folder / "models" / "sensors" / "1"
        assert versions[SENSORS].num_bytes == (folder / "models" / "sensors" / "1" / WEIGHTS).stat().st_size
        assert [(engine.slot, engine.device) for engine in service.view.engines] == [("engine-0", "cpu")]


async def test_there_is_an_engine_for_every_gpu_and_a_version_lies_where_there_is_room(folder: Path) -> None:
    largest = max(path.stat().st_size for path in folder.glob(f"models/*/*/{WEIGHTS}"))
    async with running(folder, peers=("cuda:0", "cuda:1"), budget=largest + 8) as service:
        versions = await service.come({SENSORS: VersionState.LOADED, RENT: VersionState.LOADED})
        assert service.engines.started == ["cuda:0", "cuda:1"]
        assert {standing.slots for standing in versions.values()} == {("engine-0",), ("engine-1",)}


async def test_where_one_gpu_is_named_no_other_is_taken(folder: Path) -> None:
    async with running(folder, peers=("cuda:0", "cuda:1"), every_gpu=False) as service:
        await service.come({SENSORS: VersionState.LOADED, RENT: VersionState.LOADED})
        assert service.engines.started == ["cuda:0"]


async def test_what_is_put_into_a_root_is_loaded_and_moves_no_alias(folder: Path) -> None:
    async with running(folder) as service:
        await service.come({SENSORS: VersionState.LOADED, RENT: VersionState.LOADED})
        scan = service.view.scan
        checkpoints.write_vector(service.root, version=2)
        checkpoints.write_text(service.root)
        await service.until(lambda: len(service.view.versions) == 4)
        await service.come(dict.fromkeys([SENSORS, RENT, Ref("sensors", 2), Ref("mood", 1)], VersionState.LOADED))
        assert service.view.scan > scan
        assert service.store.control.aliases() == {
            "sensors": {"champion": 1},
            "rent": {"champion": 1},
            "mood": {"champion": 1},
        }
        shutil.rmtree(service.root / "sensors" / "2")
        await service.come(dict.fromkeys([SENSORS, RENT, Ref("mood", 1)], VersionState.LOADED))


async def test_what_an_operator_wants_comes_about(folder: Path) -> None:
    checkpoints.write_vector(folder / "models", version=2)
    second = Ref("sensors", 2)
    loaded = dict.fromkeys([SENSORS, RENT, second], VersionState.LOADED)
    async with running(folder) as service:
        await service.come(loaded)
        service.store.control.change_wish(second, WishChange(loading=Loading.UNLOADED))
        await service.come({**loaded, second: VersionState.UNLOADED})
        service.store.control.change_wish(second, WishChange(loading=Loading.AUTO))
        await service.come(loaded)
        service.store.control.change_wish(second, WishChange(reload=True))
        await service.until(lambda: service.view.versions[second].generation == 1)
        assert [wanted.generation for wanted in service.engines.loads if wanted.ref == second] == [0, 0, 1]


async def test_where_there_is_no_room_a_version_comes_when_it_is_wanted(folder: Path) -> None:
    sizes = [path.stat().st_size for path in folder.glob(f"models/*/*/{WEIGHTS}")]
    async with running(folder, budget=max(sizes) + 8) as service:
        await service.until(lambda: VersionState.LOADED in [found.state for found in service.view.versions.values()])
        for _ in range(3):
            [idle] = [ref for ref, found in service.view.versions.items() if found.state is not VersionState.LOADED]
            [other] = service.view.versions.keys() - {idle}
            service.fleet.want(idle)
            await service.come({idle: VersionState.LOADED, other: VersionState.ON_DEMAND})


async def test_a_reload_pardons_a_version_once(folder: Path) -> None:
    async with running(folder) as service:
        await service.come({SENSORS: VersionState.LOADED, RENT: VersionState.LOADED})
        evidence = service.engines.keepers["engine-0"].evidence
        evidence.verdicts.withdrawn[SENSORS] = "it was taken out"
        service.engines.broken.add(SENSORS)
        service.store.control.change_wish(SENSORS, WishChange(reload=True))
        await service.until(lambda: service.view.versions[SENSORS].reason)
        standing = service.view.versions[SENSORS]
        assert (standing.state, standing.generation, standing.reason) == (VersionState.LOADED, 0, "it is broken today")
        assert not evidence.verdicts.withdrawn
        evidence.weigh(Death(1, Cause.OUTSIDE, None, 0.0))


async def test_what_answers_does_not_go_for_files_that_are_broken(folder: Path) -> None:
    shutil.rmtree(folder / "models" / "rent")
    size = (folder / "models" / "sensors" / "1" / WEIGHTS).stat().st_size
    async with running(folder, budget=size + 8) as service:
        await service.come({SENSORS: VersionState.LOADED})
        weights = folder / "models" / "sensors" / "1" / WEIGHTS
        whole = weights.read_bytes()
        weights.write_bytes(whole[:-1] + b"x")
        service.store.control.change_wish(SENSORS, WishChange(reload=True))
        await service.until(lambda: service.view.versions[SENSORS].reason)
        standing = service.view.versions[SENSORS]
        assert (standing.state, standing.generation) == (VersionState.LOADED, 0)
        weights.write_bytes(whole)
        service.store.control.change_wish(SENSORS, WishChange(reload=True))
        await service.until(lambda: service.view.versions[SENSORS].generation == 2)


async def test_what_failed_is_tried_again_once_it_was_unloaded_in_between(folder: Path) -> None:
    checkpoints.write_vector(folder / "models", version=2)
    second = Ref("sensors", 2)
    async with running(folder) as service:
        service.engines.broken.add(second)
        await service.until(lambda: VersionState.FAILED in [found.state for found in service.view.versions.values()])
        service.engines.broken.clear()
        service.store.control.change_wish(second, WishChange(loading=Loading.UNLOADED))
        await service.until(lambda: service.view.versions[second].state is VersionState.UNLOADED)
        service.store.control.change_wish(second, WishChange(loading=Loading.AUTO))
        await service.until(lambda: service.view.versions[second].state is VersionState.LOADED)


async def test_files_are_not_removed_while_an_engine_may_read_them(folder: Path) -> None:
    for version in (2, 3):
        checkpoints.write_vector(folder / "models", version=version)
    second, third = Ref("sensors", 2), Ref("sensors", 3)
    async with running(folder) as service:
        await service.come(dict.fromkeys([SENSORS, RENT, second, third], VersionState.LOADED))
        service.engines.may_load.clear()
        service.store.control.change_wish(second, WishChange(reload=True))
        await service.until(lambda: [wanted.ref for wanted in service.engines.loads].count(second) == 2)
        for ref in (second, third):
            service.store.control.delete_version(ref)
        await service.until(lambda: service.store.control.state().to_remove == {second})
        assert (service.root / "sensors" / "2").exists()
        service.engines.may_load.set()
        await service.until(lambda: not (service.root / "sensors" / "2").exists())


async def test_what_comes_to_light_after_a_pardon_counts_again(folder: Path) -> None:
    async with running(folder) as service:
        await service.come({SENSORS: VersionState.LOADED, RENT: VersionState.LOADED})
        service.store.control.change_wish(SENSORS, WishChange(reload=True))
        await service.until(lambda: service.view.versions[SENSORS].generation == 1)
        evidence = service.engines.keepers["engine-0"].evidence
        evidence.verdicts.withdrawn[SENSORS] = "it was taken out"
        before = len(service.engines.loads)
        service.engines.restart("engine-0")
        await service.until(lambda: SENSORS in {wanted.ref for wanted in service.engines.loads[before:]})
        assert evidence.verdicts.withdrawn


async def test_files_of_one_version_that_can_not_be_removed_keep_no_others(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for version in (2, 3):
        checkpoints.write_vector(folder / "models", version=version)
    removed = []

    def remove(root: Path, ref: Ref) -> None:
        if ref.version == 2:
            raise PermissionError(1, "not allowed")
        removed.append(ref)

    monkeypatch.setattr("service.reconciling.reconciler.remove_files", remove)
    async with running(folder) as service:
        for version in (2, 3):
            service.store.control.delete_version(Ref("sensors", version))
        await service.until(lambda: Ref("sensors", 3) in removed)
        await service.until(lambda: service.store.control.state().to_remove == {Ref("sensors", 2)})


async def test_a_store_that_is_away_is_told_later_of_what_was_found(folder: Path) -> None:
    async with running(folder) as service:
        await service.come({SENSORS: VersionState.LOADED, RENT: VersionState.LOADED})
        service.changes.fails = [StoreUnavailable("it is away"), RuntimeError("a fault of ours")]
        checkpoints.write_vector(service.root, version=2)
        await service.come(dict.fromkeys([SENSORS, RENT, Ref("sensors", 2)], VersionState.LOADED))
        assert not service.changes.fails


async def test_a_deleted_version_goes_everywhere_and_then_its_files(folder: Path) -> None:
    checkpoints.write_vector(folder / "models", version=2)
    second = Ref("sensors", 2)
    async with running(folder) as service:
        await service.until(lambda: len(service.view.versions) == 3)
        service.store.control.delete_version(second)
        await service.come({SENSORS: VersionState.LOADED, RENT: VersionState.LOADED})
        await service.until(lambda: not (service.root / "sensors" / "2").exists())
        await service.until(lambda: not service.store.control.state().to_remove)
        checkpoints.write_vector(service.root, version=2)
        checkpoints.write_vector(service.root, version=3)
        await service.come(dict.fromkeys([SENSORS, RENT, Ref("sensors", 3)], VersionState.LOADED))
