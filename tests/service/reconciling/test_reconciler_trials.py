"""What the reconciler tells the optimizer, and what becomes of what that found."""

from pathlib import Path

import pytest

from service.domain import Loading, Ref
from service.registry.fleet import VersionState
from service.store.base import WishChange
from tests import checkpoints
from tests.service.reconciling.running import RENT, SENSORS, Service, running

pytestmark = pytest.mark.usefixtures("quickly")


def backends(service: Service) -> dict[Ref, str]:
    return {ref: how.backend for ref, found in service.view.versions.items() if (how := found.execution) is not None}


def reasons(service: Service) -> dict[Ref, str]:
    return {ref: how.reason for ref, found in service.view.versions.items() if (how := found.execution) is not None}


async def test_what_nothing_was_tried_for_is_tried_and_loaded_anew_once(folder: Path) -> None:
    async with running(folder, is_automatic=True) as service:
        await service.until(lambda: "other back ends are being tried on it" in reasons(service).values())
        assert set(backends(service).values()) == {"fake"}
        service.engines.can_optimize.set()
        await service.until(lambda: backends(service) == {SENSORS: "fast", RENT: "fast"})
        assert set(reasons(service).values()) == {"it was measured"}
        loads = [(wanted.ref, wanted.generation, wanted.optimized) for wanted in service.engines.loads]
        assert sorted(loads) == sorted((ref, 0, is_new) for ref in (SENSORS, RENT) for is_new in (False, True))


async def test_an_operators_reload_and_ours_are_both_done(folder: Path) -> None:
    async with running(folder, is_automatic=True) as service:
        await service.until(lambda: "other back ends are being tried on it" in reasons(service).values())
        [tried] = [ref for ref, said in reasons(service).items() if said == "other back ends are being tried on it"]
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
        await service.until(lambda: reasons(service).get(second) == "other back ends are being tried on it")
        service.store.control.change_wish(second, WishChange(loading=Loading.UNLOADED))
        await service.until(lambda: service.engines.abandoned == [service.root / "sensors" / "2"])
        service.store.control.change_wish(second, WishChange(loading=Loading.AUTO))
        service.engines.can_optimize.set()
        await service.until(lambda: backends(service).get(second) == "fast")
