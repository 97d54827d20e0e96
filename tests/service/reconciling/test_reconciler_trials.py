"""What the reconciler tells the optimizer, and what becomes of what that found."""

from pathlib import Path

import pytest

from service.domain import Loading, Ref
from service.registry.fleet import VersionState
from service.store.base import WishChange
from tests import checkpoints
from tests.service.reconciling.running import RENT, SENSORS, Service, running

pytestmark = pytest.mark.usefixtures("quickly")

TRIED = "other back ends are being tried on it"


def backends(service: Service) -> dict[Ref, str]:
    return {ref: how.backend for ref, found in service.view.versions.items() if (how := found.execution) is not None}


def reasons(service: Service) -> dict[Ref, str]:
    return {ref: how.reason for ref, found in service.view.versions.items() if (how := found.execution) is not None}


def told(service: Service) -> set[Ref]:
    """What the optimizer was told last may be tried."""
    return {one.ref for one in service.engines.told[-1]} if service.engines.told else set()


async def test_what_nothing_was_tried_for_is_tried_and_loaded_anew_once(folder: Path) -> None:
    async with running(folder, is_automatic=True) as service:
        await service.until(lambda: TRIED in reasons(service).values())
        assert set(backends(service).values()) == {"fake"}
        service.engines.can_optimize.set()
        await service.until(lambda: backends(service) == {SENSORS: "fast", RENT: "fast"})
        assert set(reasons(service).values()) == {"it was measured"}
        loads = [(wanted.ref, wanted.generation, wanted.optimized) for wanted in service.engines.loads]
        assert sorted(loads) == sorted((ref, 0, is_new) for ref in (SENSORS, RENT) for is_new in (False, True))


async def test_an_operators_reload_and_ours_are_both_done(folder: Path) -> None:
    async with running(folder, is_automatic=True) as service:
        await service.until(lambda: TRIED in reasons(service).values())
        [tried] = [ref for ref, said in reasons(service).items() if said == TRIED]
        service.engines.may_load.clear()
        service.store.control.change_wish(tried, WishChange(reload=True))
        await service.until(lambda: len(service.engines.loads) == 3)
        service.engines.can_optimize.set()
        await service.until(lambda: service.engines.optimized)
        service.engines.may_load.set()
        await service.until(lambda: set(backends(service).values()) == {"fast"})
        assert service.view.versions[tried].generation == 1
        before = len(service.engines.loads)
        service.store.control.change_wish(tried, WishChange(reload=True))
        await service.until(lambda: service.view.versions[tried].generation == 2)
        assert [wanted.generation for wanted in service.engines.loads[before:]] == [2]


async def test_an_engine_that_is_restarted_has_at_once_what_was_found(folder: Path) -> None:
    async with running(folder, is_automatic=True) as service:
        service.engines.can_optimize.set()
        await service.until(lambda: backends(service) == {SENSORS: "fast", RENT: "fast"})
        before = len(service.engines.loads)
        service.engines.restart("engine-0")
        await service.until(lambda: len(service.engines.loads) >= before + 2)
        await service.come({SENSORS: VersionState.LOADED, RENT: VersionState.LOADED})
        assert sorted(wanted.ref for wanted in service.engines.loads[before:]) == [RENT, SENSORS]


async def test_what_can_not_be_tried_answers_on_and_says_why(folder: Path) -> None:
    async with running(folder, is_automatic=True) as service:
        service.engines.unfit.add(folder / "models" / "rent" / "1")
        service.engines.can_optimize.set()
        await service.until(lambda: backends(service) == {SENSORS: "fast", RENT: "fake"})
        await service.until(lambda: reasons(service)[RENT] == "trying other back ends failed: it holds no rows")
        how = service.view.versions[RENT].execution
        assert how is not None
        assert not how.pending
        assert [wanted.ref for wanted in service.engines.loads].count(RENT) == 1


async def test_what_is_unloaded_is_not_tried_any_more(folder: Path) -> None:
    async with running(folder, is_automatic=True) as service:
        service.engines.can_optimize.set()
        await service.until(lambda: backends(service) == {SENSORS: "fast", RENT: "fast"})
        service.engines.can_optimize.clear()
        second = Ref("sensors", 2)
        checkpoints.write_vector(service.root, version=2)
        await service.until(lambda: reasons(service).get(second) == TRIED)
        service.store.control.change_wish(second, WishChange(loading=Loading.UNLOADED))
        await service.until(lambda: service.engines.abandoned == [service.root / "sensors" / "2"])
        service.store.control.change_wish(second, WishChange(loading=Loading.AUTO))
        service.engines.can_optimize.set()
        await service.until(lambda: backends(service).get(second) == "fast")


async def test_what_the_optimizer_has_to_say_is_heard_at_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Nothing else is news: no look through the model roots, no heartbeat.
    monkeypatch.setattr("service.reconciling.reconciler._SCAN_SECONDS", 1000.0)
    monkeypatch.setattr("service.engine.server._BEAT_SECONDS", 1000.0)
    async with running(folder, is_automatic=True) as service:
        await service.until(lambda: TRIED in reasons(service).values())
        service.engines.can_optimize.set()
        await service.until(lambda: backends(service) == {SENSORS: "fast", RENT: "fast"})


async def test_the_optimizer_is_told_what_was_asked_for_and_what_an_alias_names(folder: Path) -> None:
    checkpoints.write_vector(folder / "models", version=2)
    second = Ref("sensors", 2)
    async with running(folder, is_automatic=True) as service:
        await service.until(lambda: told(service) == {SENSORS, RENT, second})
        assert {one.ref: one.is_aliased for one in service.engines.told[-1]} == {
            SENSORS: True,
            RENT: True,
            second: False,
        }
        assert {one.asked for one in service.engines.told[-1]} == {0.0}
        service.fleet.want(second)
        await service.until(lambda: {one.ref for one in service.engines.told[-1] if one.asked} == {second})


async def test_what_needs_no_trial_is_not_told_of(folder: Path) -> None:
    async with running(folder) as service:
        await service.come({SENSORS: VersionState.LOADED, RENT: VersionState.LOADED})
        before = len(service.engines.told)
        await service.until(lambda: len(service.engines.told) >= before + 2)
        assert not any(service.engines.told)


async def test_nothing_is_to_be_tried_from_the_moment_that_a_load_is_commanded_until_it_is_done(folder: Path) -> None:
    async with running(folder, is_automatic=True) as service:
        await service.until(lambda: told(service) == {SENSORS, RENT})
        service.engines.may_load.clear()
        service.store.control.change_wish(RENT, WishChange(reload=True))
        await service.until(lambda: [wanted.ref for wanted in service.engines.loads].count(RENT) == 2)
        meanwhile = len(service.engines.told)
        await service.until(lambda: len(service.engines.told) >= meanwhile + 2)
        commanded = service.engines.told_before[RENT]
        assert service.engines.told[commanded - 1]
        assert not any(service.engines.told[commanded:])
        service.engines.may_load.set()
        await service.until(lambda: told(service) == {SENSORS, RENT})


async def test_what_is_being_unloaded_keeps_no_other_from_being_tried(folder: Path) -> None:
    checkpoints.write_vector(folder / "models", version=2)
    second = Ref("sensors", 2)
    async with running(folder, is_automatic=True) as service:
        await service.until(lambda: told(service) == {SENSORS, RENT, second})
        service.engines.may_unload.clear()
        service.store.control.change_wish(second, WishChange(loading=Loading.UNLOADED))
        await service.until(lambda: told(service) == {SENSORS, RENT})
        assert service.view.versions[second].slots == ("engine-0",)
        service.engines.may_unload.set()
        await service.until(lambda: not service.view.versions[second].slots)


async def test_a_trial_goes_on_while_its_engine_is_restarted(folder: Path) -> None:
    async with running(folder, is_automatic=True) as service:
        await service.until(lambda: TRIED in reasons(service).values())
        before = len(service.engines.loads)
        service.engines.restart("engine-0")
        await service.until(lambda: len(service.engines.loads) == before + 2)
        await service.until(lambda: TRIED in reasons(service).values())
        assert not service.engines.abandoned
        service.engines.can_optimize.set()
        await service.until(lambda: backends(service) == {SENSORS: "fast", RENT: "fast"})


async def test_a_trial_ends_with_the_reconciler(folder: Path) -> None:
    async with running(folder, is_automatic=True) as service:
        await service.until(lambda: TRIED in reasons(service).values())
        assert not service.engines.abandoned
    assert len(service.engines.abandoned) == 1
