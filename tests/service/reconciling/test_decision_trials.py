"""What is decided while what runs a version best is tried, and once it is found."""

from dataclasses import replace

from service.domain import Execution
from service.reconciling.decision import decide
from service.reconciling.progress import Progress
from service.reconciling.steps import Load
from service.registry.fleet import VersionState
from tests.service.reconciling.world import FAST, PLAIN, A, World


def shown(world: World) -> Execution | None:
    return decide(world.facts).view.versions[A].execution


def test_how_far_trying_has_come_is_told_while_it_is_to_be_tried() -> None:
    world = World(100, sizes={A: 40})
    world.settle()
    world.execution = PLAIN
    assert shown(world) == PLAIN
    world.trials["identity of a/1"] = Progress("others are being tried")
    assert shown(world) == replace(PLAIN, reason="others are being tried")
    world.trials["identity of a/1"] = Progress("it failed", is_pending=False)
    assert shown(world) == replace(PLAIN, reason="it failed", pending=False)
    world.execution = FAST
    assert shown(world) == FAST


def test_once_it_is_found_what_runs_it_best_it_is_loaded_anew_in_its_place() -> None:
    world = World(100, sizes={A: 40})
    world.settle()
    world.trials["identity of a/1"] = Progress("it is found", is_found=True)
    decision = decide(world.facts)
    assert decision.commands == [Load("engine-0", A)]
    assert decision.view.versions[A].state is VersionState.LOADED
    world.obey(decision.commands[0], decision)
    assert not decide(world.facts).commands


def test_what_was_found_and_is_not_there_any_more_is_not_waited_for() -> None:
    world = World(100, sizes={A: 40})
    world.trials["identity of a/1"] = Progress("it is found", is_found=True)
    world.execution = PLAIN
    world.settle()
    found = shown(world)
    assert found is not None
    assert (found.pending, "is not there any more" in found.reason) == (False, True)


def test_where_that_load_fails_the_old_replica_answers_on() -> None:
    world = World(100, sizes={A: 40})
    world.settle()
    world.trials["identity of a/1"] = Progress("it is found", is_found=True)
    world.broken.add(A)
    decision = world.settle()
    assert decision.view.versions[A].state is VersionState.LOADED
    assert decision.view.versions[A].reason == "it is broken"
    assert world.lies() == {"engine-0": {A}}
