"""What the supervisor decides, on engines that do at once what they are told."""

from dataclasses import replace

import pytest

from service.domain import Loading, Precision, Ref, Wish
from service.reconciling.decision import Decision, decide
from service.reconciling.steps import Holding, Load, Replica, Unload
from service.registry.fleet import VersionState
from tests.service.reconciling.world import FAST, A, B, C, World


def states(decision: Decision) -> dict[Ref, VersionState]:
    return {ref: standing.state for ref, standing in decision.view.versions.items()}


def test_where_there_is_room_everything_is_loaded() -> None:
    world = World(200)
    decision = world.settle()
    assert world.lies() == {"engine-0": {A, B, C}}
    assert set(states(decision).values()) == {VersionState.LOADED}
    assert decision.view.scan == 7
    assert decision.view.versions[A].identity == "identity of a/1"
    assert decision.view.versions[A].slots == ("engine-0",)
    assert decision.view.versions[A].execution == FAST
    assert [(engine.slot, engine.device) for engine in decision.view.engines] == [("engine-0", "cpu")]


def test_over_budget_the_least_recently_used_goes_and_comes_when_it_is_asked_for() -> None:
    world = World(100)
    world.asked = {A: 3, B: 2, C: 1}
    assert states(world.settle()) == {
        A: VersionState.LOADED,
        B: VersionState.LOADED,
        C: VersionState.ON_DEMAND,
    }
    world.asked[C] = 4
    assert states(world.settle()) == {
        A: VersionState.LOADED,
        B: VersionState.ON_DEMAND,
        C: VersionState.LOADED,
    }


def test_what_is_pinned_stays_and_others_are_told() -> None:
    world = World(100)
    world.wishes = {A: Wish(Loading.PINNED), B: Wish(Loading.PINNED)}
    world.settle()
    world.asked[C] = 10
    decision = world.settle()
    assert world.lies() == {"engine-0": {A, B}}
    assert decision.view.versions[C].state is VersionState.NO_ROOM
    assert "pinned" in (decision.view.versions[C].reason or "")


def test_what_shall_not_be_loaded_is_unloaded() -> None:
    world = World(200)
    world.settle()
    world.wishes = {B: Wish(Loading.UNLOADED)}
    decision = world.settle()
    assert world.lies() == {"engine-0": {A, C}}
    assert decision.view.versions[B].state is VersionState.UNLOADED
    assert "load it first" in (decision.view.versions[B].reason or "")


def test_what_is_not_there_any_more_is_unloaded() -> None:
    world = World(200)
    world.settle()
    del world.versions[B]
    world.settle()
    assert world.lies() == {"engine-0": {A, C}}


def test_a_reload_is_a_load_beside_what_answers() -> None:
    world = World(200)
    world.settle()
    world.wishes = {A: Wish(generation=1)}
    decision = decide(world.facts)
    assert decision.commands == [Load("engine-0", A)]
    assert decision.view.versions[A].state is VersionState.LOADED
    assert decision.view.versions[A].generation == 0, "the old one answers still"
    assert world.settle().view.versions[A].generation == 1


def test_another_precision_is_loaded_anew() -> None:
    world = World(200)
    world.settle()
    world.wishes = {A: Wish(precision=Precision.BFLOAT16, generation=1)}
    world.settle()
    holding = world.holdings["engine-0"]
    assert holding is not None
    assert holding.loaded[A].precision is Precision.BFLOAT16


def test_what_failed_is_not_tried_again_until_it_is_reloaded() -> None:
    world = World(200)
    world.broken = {B}
    decision = world.settle()
    assert decision.view.versions[B].state is VersionState.FAILED
    assert decision.view.versions[B].reason == "it is broken"
    world.broken.clear()
    assert not decide(world.facts).commands
    world.wishes = {B: Wish(generation=1)}
    assert world.settle().view.versions[B].state is VersionState.LOADED


def test_a_reload_that_fails_leaves_the_old_one_answering_and_says_why() -> None:
    world = World(200)
    world.settle()
    world.broken = {B}
    world.wishes = {B: Wish(generation=1)}
    standing = world.settle().view.versions[B]
    assert (standing.state, standing.generation, standing.reason) == (VersionState.LOADED, 0, "it is broken")


def test_what_could_not_be_loaded_takes_nobodys_room() -> None:
    world = World(80)
    world.asked = {B: 3, A: 2, C: 1}
    world.broken = {B}
    assert states(world.settle()) == {A: VersionState.LOADED, B: VersionState.FAILED, C: VersionState.LOADED}


def test_only_what_makes_room_counts_as_evicted() -> None:
    world = World(50, sizes={A: 40, B: 40})
    world.asked = {A: 1.0}
    world.settle()
    world.wishes = {A: Wish(generation=1)}
    decision = decide(world.facts)
    assert decision.commands == [Unload("engine-0", A)], "there is no room for old and new together"
    assert not decision.evicted
    world.settle()
    world.asked[B] = 2.0
    decision = decide(world.facts)
    assert (decision.commands, decision.evicted) == ([Unload("engine-0", A)], {A})


def test_who_has_waited_longest_gets_the_room_however_much_others_ask() -> None:
    world = World(50, sizes={A: 40, B: 40, C: 40})
    world.asked = {A: world.now}
    world.settle()
    world.owed = {B: world.now - 3, C: world.now - 2}
    world.asked = {A: world.now, B: world.now - 3, C: world.now}
    assert world.settle().view.versions[B].state is VersionState.LOADED
    world.owed = {C: world.now - 2, A: world.now}
    world.loaded_at = {B: world.now - 0.1}
    decision = decide(world.facts)
    assert not decision.commands, "it was loaded a moment ago"
    assert "waits for its turn" in (decision.view.versions[C].reason or "")
    world.loaded_at = {B: world.now - 1}
    assert world.settle().view.versions[C].state is VersionState.LOADED


def test_what_is_being_loaded_is_not_given_up_for_another() -> None:
    world = World(50, sizes={A: 40, B: 40})
    holding = Holding(loading={A: Replica(40, "identity of a/1")})
    world.holdings["engine-0"] = holding
    world.owed = {B: world.now - 5}
    decision = decide(world.facts)
    assert not decision.commands
    assert decision.view.versions[A].state is VersionState.LOADING


def test_what_fails_on_one_device_is_tried_on_another() -> None:
    world = World(100, 100, sizes={A: 40})
    [command] = decide(world.facts).commands
    world.broken = {A}
    world.obey(command, decide(world.facts))
    world.broken.clear()
    decision = world.settle()
    assert decision.view.versions[A].state is VersionState.LOADED
    assert decision.view.versions[A].slots != (command.slot,)


def test_where_a_precision_can_not_be_had_float32_answers_and_the_reason_is_told() -> None:
    world = World(100, sizes={A: 40})
    world.broken = {(A, Precision.FLOAT16)}
    world.wishes = {A: Wish(precision=Precision.FLOAT16, generation=1)}
    standing = world.settle().view.versions[A]
    assert (standing.state, standing.reason, standing.generation) == (VersionState.LOADED, "it is broken", 1)
    holding = world.holdings["engine-0"]
    assert holding is not None
    assert holding.loaded[A].precision is Precision.FLOAT32


def test_fewer_replicas_are_no_eviction() -> None:
    world = World(100, 100, sizes={A: 40})
    world.wishes = {A: Wish(replicas=2)}
    world.settle()
    world.wishes = {}
    decision = decide(world.facts)
    assert [type(command) for command in decision.commands] == [Unload]
    assert not decision.evicted


def test_aliased_versions_come_first_where_nobody_was_asked() -> None:
    world = World(50, sizes={A: 40, B: 40})
    world.aliases[A] = {}
    assert states(world.settle()) == {A: VersionState.ON_DEMAND, B: VersionState.LOADED}


def test_a_version_that_is_being_unloaded_is_still_held_where_it_was() -> None:
    world = World(100, sizes={A: 40})
    world.settle()
    world.wishes = {A: Wish(Loading.UNLOADED)}
    holding = world.holdings["engine-0"]
    assert holding is not None
    world.holdings["engine-0"] = replace(holding, unloading=frozenset({A}))
    standing = decide(world.facts).view.versions[A]
    assert (standing.state, standing.slots) == (VersionState.UNLOADED, ("engine-0",))


def test_of_replicas_the_oldest_generation_counts() -> None:
    world = World(100, 100, sizes={A: 40})
    world.wishes = {A: Wish(replicas=2)}
    world.settle()
    world.wishes = {A: Wish(replicas=2, generation=3)}
    decision = decide(world.facts)
    for command in decision.commands[:1]:
        world.obey(command, decision)
    assert decide(world.facts).view.versions[A].generation == 0


def test_replicas_lie_on_different_devices() -> None:
    world = World(100, 100)
    world.wishes = {A: Wish(replicas=2)}
    decision = world.settle()
    assert all(A in refs for refs in world.lies().values())
    assert decision.view.versions[A].slots == ("engine-0", "engine-1")


def test_an_engine_that_is_restarted_keeps_its_place_for_a_while() -> None:
    world = World(100, 100)
    world.settle()
    [slot] = [slot for slot, refs in world.lies().items() if B in refs]
    world.lose(slot, 3.0)
    decision = decide(world.facts)
    assert not decision.commands
    assert decision.view.versions[B].state is VersionState.LOADING
    assert decision.view.versions[B].reason == "its engine is starting"
    world.asked[B] = world.now
    world.lose(slot, 3600.0)
    assert world.settle().view.versions[B].state is VersionState.LOADED


def test_what_was_just_loaded_is_not_unloaded_at_once_for_another() -> None:
    world = World(50, sizes={A: 40, B: 40})
    world.asked = {A: 999.0}
    world.settle()
    assert world.lies() == {"engine-0": {A}}
    world.loaded_at = {A: world.now - 0.1}
    world.asked[B] = world.now
    decision = decide(world.facts)
    assert not decision.commands
    assert decision.view.versions[B].state is VersionState.LOADING, "it will come"
    world.now += 5
    assert world.settle().view.versions[B].state is VersionState.LOADED
    assert world.lies() == {"engine-0": {B}}


def test_before_any_engine_was_heard_of_all_wait_for_it() -> None:
    world = World()
    decision = world.settle()
    assert set(states(decision).values()) == {VersionState.LOADING}
    assert decision.view.versions[A].reason == "its engine is starting"


@pytest.mark.parametrize("budget", [10, 39])
def test_what_is_too_large_for_every_device_is_said_to_be(budget: int) -> None:
    standing = World(budget).settle().view.versions[A]
    assert standing.state is VersionState.NO_ROOM
    assert "needs 40 bytes" in (standing.reason or "")
