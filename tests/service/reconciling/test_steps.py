"""The way to a plan, one command after the other. Sizes and budgets are small numbers of bytes here."""

import random
from collections.abc import Mapping

from hypothesis import given
from hypothesis import strategies as st

from service.domain import Precision, Ref
from service.reconciling.placement import Claim, Device, Plan, place
from service.reconciling.steps import Command, Holding, Load, Replica, Unload, steps

A, B, C = (Ref(name, 1) for name in "abc")
ONE, TWO = "engine-0", "engine-1"


def ask(
    planned: Mapping[Ref, tuple[str, ...]], claims: list[Claim], budgets: list[int], *holdings: Holding
) -> list[Command]:
    devices = [Device(f"engine-{number}", budget) for number, budget in enumerate(budgets)]
    actual = {device.slot: holding for device, holding in zip(devices, holdings, strict=False)}
    return steps(Plan(planned, {}), claims, devices, actual)


# New versions


def test_what_is_missing_is_loaded_one_at_a_time_in_the_plans_order() -> None:
    claims = [Claim(A, 3), Claim(B, 3)]
    planned = {B: (ONE,), A: (ONE,)}
    assert ask(planned, claims, [9], Holding()) == [Load(ONE, B)]
    assert ask(planned, claims, [9], Holding(loading={B: Replica(3)})) == []
    assert ask(planned, claims, [9], Holding(loaded={B: Replica(3)})) == [Load(ONE, A)]
    assert ask(planned, claims, [9], Holding(loaded={B: Replica(3), A: Replica(3)})) == []


def test_each_engine_loads_at_the_same_time() -> None:
    planned = {A: (ONE, TWO), B: (ONE,)}
    commands = ask(planned, [Claim(A, 3, replicas=2), Claim(B, 3)], [9, 9], Holding(), Holding())
    assert commands == [Load(ONE, A), Load(TWO, A)]


def test_an_engine_that_was_not_heard_of_gets_no_command() -> None:
    assert ask({A: (TWO,)}, [Claim(A, 3)], [9, 9], Holding()) == []


def test_a_load_waits_until_the_room_is_free() -> None:
    planned, claims = {A: (ONE,)}, [Claim(A, 6)]
    assert ask(planned, claims, [9], Holding(loaded={B: Replica(4)})) == [Unload(ONE, B)]
    assert ask(planned, claims, [9], Holding(loaded={B: Replica(4)}, unloading=frozenset({B}))) == []
    assert ask(planned, claims, [9], Holding()) == [Load(ONE, A)]


def test_what_is_gone_before_its_unload_is_known_to_have_ended_takes_no_room() -> None:
    gone = Holding(unloading=frozenset({B}))
    assert ask({A: (ONE,)}, [Claim(A, 6)], [9], gone) == [Load(ONE, A)]
    assert ask({B: (ONE,)}, [Claim(B, 4)], [9], gone) == [], "its unload has to end first"


def test_where_there_is_room_loading_waits_for_no_unload() -> None:
    assert ask({A: (ONE,)}, [Claim(A, 5)], [9], Holding(loaded={B: Replica(4)})) == [Unload(ONE, B), Load(ONE, A)]


def test_the_less_important_does_not_take_the_room_that_is_being_made() -> None:
    planned, claims = {A: (ONE,), C: (ONE,)}, [Claim(A, 6), Claim(C, 3)]
    assert ask(planned, claims, [9], Holding(loaded={B: Replica(6)}, unloading=frozenset({B}))) == []


def test_what_failed_is_tried_again_when_something_else_is_wanted() -> None:
    failed = Holding(failed={A: Replica(0, generation=1)})
    assert ask({A: (ONE,)}, [Claim(A, 3, generation=1)], [9], failed) == []
    assert ask({A: (ONE,)}, [Claim(A, 3, generation=2)], [9], failed) == [Load(ONE, A)]
    lower = Claim(A, 3, generation=1, precision=Precision.BFLOAT16)
    assert ask({A: (ONE,)}, [lower], [9], failed) == [Load(ONE, A)]


def test_what_failed_keeps_nothing_else_from_loading() -> None:
    failed = Holding(failed={A: Replica(0)})
    assert ask({A: (ONE,), B: (ONE,)}, [Claim(A, 3), Claim(B, 3)], [9], failed) == [Load(ONE, B)]


def test_what_is_being_loaded_and_not_wanted_any_more_is_unloaded_afterwards() -> None:
    assert ask({}, [], [9], Holding(loading={A: Replica(3)})) == []
    assert ask({}, [], [9], Holding(loaded={A: Replica(3)}, loading={A: Replica(3, generation=1)})) == []
    assert ask({}, [], [9], Holding(loaded={A: Replica(3, generation=1)})) == [Unload(ONE, A)]


# Reloads


def test_a_reload_stands_beside_the_old_replica() -> None:
    for wanted in (Claim(A, 4, generation=1), Claim(A, 4, precision=Precision.FLOAT16), Claim(A, 4, identity="ff")):
        assert ask({A: (ONE,)}, [wanted], [9], Holding(loaded={A: Replica(4)})) == [Load(ONE, A)]


def test_where_both_do_not_fit_the_old_one_goes_first() -> None:
    planned, claims = {A: (ONE,)}, [Claim(A, 6, generation=1)]
    assert ask(planned, claims, [9], Holding(loaded={A: Replica(6)})) == [Unload(ONE, A)]
    assert ask(planned, claims, [9], Holding(loaded={A: Replica(6)}, unloading=frozenset({A}))) == []
    assert ask(planned, claims, [9], Holding()) == [Load(ONE, A)]


def test_what_only_computes_in_another_way_takes_nothing_down() -> None:
    planned, claims = {A: (ONE,)}, [Claim(A, 6, is_optimized=True)]
    old = Holding(loaded={A: Replica(6)})
    assert ask(planned, claims, [9], old) == []
    assert ask(planned, claims, [12], old) == [Load(ONE, A)]
    assert ask(planned, [Claim(A, 6, generation=1, is_optimized=True)], [9], old) == [Unload(ONE, A)]


def test_what_waits_for_room_to_compute_in_another_way_keeps_nothing_else_from_it() -> None:
    planned, claims = {A: (ONE,), B: (ONE,)}, [Claim(A, 6, is_optimized=True), Claim(B, 3)]
    assert ask(planned, claims, [9], Holding(loaded={A: Replica(6)})) == [Load(ONE, B)]


def test_the_old_one_stays_where_unloading_others_makes_room_for_both() -> None:
    planned, claims = {A: (ONE,)}, [Claim(A, 4, generation=1)]
    assert ask(planned, claims, [9], Holding(loaded={A: Replica(4), B: Replica(3)})) == [Unload(ONE, B)]
    going = Holding(loaded={A: Replica(4), B: Replica(3)}, unloading=frozenset({B}))
    assert ask(planned, claims, [9], going) == []


def test_a_smaller_precision_makes_the_room_that_the_plan_counts_on() -> None:
    planned = {B: (ONE,), A: (ONE,)}
    claims = [Claim(B, 5), Claim(A, 4, precision=Precision.FLOAT16)]
    assert ask(planned, claims, [9], Holding(loaded={A: Replica(8)})) == [Unload(ONE, A)]


def test_replicas_without_room_for_both_are_reloaded_one_after_the_other() -> None:
    planned, claims = {A: (ONE, TWO)}, [Claim(A, 6, generation=1, replicas=2)]
    old, new = Holding(loaded={A: Replica(6)}), Holding(loaded={A: Replica(6, generation=1)})
    assert ask(planned, claims, [9, 9], old, old) == [Unload(ONE, A)]
    assert ask(planned, claims, [9, 9], Holding({A: Replica(6)}, unloading=frozenset({A})), old) == []
    assert ask(planned, claims, [9, 9], Holding(), old) == [Load(ONE, A)]
    assert ask(planned, claims, [9, 9], Holding(loading={A: Replica(6, generation=1)}), old) == []
    assert ask(planned, claims, [9, 9], new, old) == [Unload(TWO, A)]


# Moves


def test_a_replica_that_moves_stays_until_the_new_one_answers() -> None:
    planned, claims = {B: (ONE,), A: (TWO,)}, [Claim(A, 4), Claim(B, 8)]
    old = Holding(loaded={A: Replica(4)})
    assert ask(planned, claims, [9, 9], old, Holding()) == [Load(TWO, A)]
    assert ask(planned, claims, [9, 9], old, Holding(loading={A: Replica(4)})) == []
    assert ask(planned, claims, [9, 9], old, Holding(loaded={A: Replica(4)})) == [Unload(ONE, A)]


def test_two_that_change_places_without_room_for_both_do_so_with_a_gap() -> None:
    planned, claims = {A: (TWO,), B: (ONE,)}, [Claim(A, 6), Claim(B, 6)]
    commands = ask(planned, claims, [9, 9], Holding(loaded={A: Replica(6)}), Holding(loaded={B: Replica(6)}))
    assert set(commands) == {Unload(ONE, A), Unload(TWO, B)}


def test_a_replica_does_not_wait_for_one_that_failed() -> None:
    failed = Holding(failed={A: Replica(0)})
    assert ask({A: (TWO,)}, [Claim(A, 4)], [9, 9], Holding(loaded={A: Replica(4)}), failed) == [Unload(ONE, A)]


# Whatever lies where

REFS = [Ref(name, 1) for name in "abcdef"]


class World:
    """Engines that do what they are told, in any order, and complain when they hold more than their budget."""

    def __init__(self, devices: list[Device], claims: list[Claim], loaded: dict[str, dict[Ref, Replica]]) -> None:
        self.devices = devices
        self.claims = {claim.ref: claim for claim in claims}
        self.loaded = loaded
        self.loading: dict[str, dict[Ref, Replica]] = {device.slot: {} for device in devices}
        self.unloading: dict[str, set[Ref]] = {device.slot: set() for device in devices}
        self.failed: dict[str, dict[Ref, Replica]] = {device.slot: {} for device in devices}

    def holdings(self) -> dict[str, Holding]:
        return {
            slot: Holding(
                dict(self.loaded[slot]),
                dict(self.loading[slot]),
                frozenset(self.unloading[slot]),
                dict(self.failed[slot]),
            )
            for slot in self.loaded
        }

    def begin(self, command: Command) -> None:
        match command:
            case Unload(slot, ref):
                assert ref in self.loaded[slot]
                assert ref not in self.unloading[slot]
                assert ref not in self.loading[slot]
                self.unloading[slot].add(ref)
            case Load(slot, ref):
                assert not self.loading[slot]
                assert ref not in self.unloading[slot]
                claim = self.claims[ref]
                replica = Replica(claim.num_bytes, claim.identity, claim.generation, claim.precision)
                assert self.loaded[slot].get(ref) != replica
                self.loading[slot][ref] = replica

    def under_way(self) -> list[tuple[str, Ref, bool]]:
        loads = [(slot, ref, True) for slot, group in self.loading.items() for ref in group]
        return loads + [(slot, ref, False) for slot, group in self.unloading.items() for ref in sorted(group)]

    def end(self, slot: str, ref: Ref, is_load: bool, *, fails: bool = False) -> None:
        if not is_load:
            self.unloading[slot].remove(ref)
            del self.loaded[slot][ref]
        elif fails:
            self.failed[slot][ref] = self.loading[slot].pop(ref)
        else:
            self.loaded[slot][ref] = self.loading[slot].pop(ref)

    def check_budgets(self) -> None:
        for device in self.devices:
            assert self.holdings()[device.slot].num_bytes <= device.budget


@st.composite
def situations(draw: st.DrawFn) -> tuple[list[Device], list[Claim], dict[str, dict[Ref, Replica]], random.Random]:
    """Claims, and engines that hold something else within their budgets."""
    devices = [Device(f"engine-{n}", draw(st.integers(0, 20))) for n in range(draw(st.integers(1, 4)))]
    claims = [
        Claim(
            ref,
            draw(st.integers(1, 12)),
            replicas=draw(st.integers(1, 3)),
            is_pinned=draw(st.booleans()),
            last_used=draw(st.sampled_from([0.0, 1.0, 2.0])),
            generation=draw(st.integers(0, 1)),
            precision=draw(st.sampled_from(list(Precision)[:2])),
        )
        for ref in draw(st.lists(st.sampled_from(REFS), unique=True))
    ]
    wanted = {claim.ref: claim for claim in claims}
    loaded: dict[str, dict[Ref, Replica]] = {}
    for device in devices:
        holding: dict[Ref, Replica] = {}
        for ref in draw(st.lists(st.sampled_from(REFS), unique=True, max_size=4)):
            replica = Replica(draw(st.integers(1, 12)))
            if ref in wanted and replica.is_as_wanted(wanted[ref]):
                replica = Replica(wanted[ref].num_bytes)  # as it was measured
            if sum(other.num_bytes for other in holding.values()) + replica.num_bytes <= device.budget:
                holding[ref] = replica
        loaded[device.slot] = holding
    return devices, claims, loaded, draw(st.randoms(use_true_random=False))


def run_to_the_end(
    world: World, plan: Plan, claims: list[Claim], rng: random.Random, *, share_failing: float = 0.0
) -> None:
    for _ in range(200):
        for command in steps(plan, claims, world.devices, world.holdings()):
            world.begin(command)
            world.check_budgets()
        if not (under_way := world.under_way()):
            return
        slot, ref, is_load = rng.choice(under_way)
        world.end(slot, ref, is_load, fails=rng.random() < share_failing)
        world.check_budgets()
    raise AssertionError("it does not come to an end")


def current(world: World) -> dict[Ref, list[str]]:
    return {ref: [slot for slot in world.loaded if ref in world.loaded[slot]] for ref in REFS}


@given(situations())
def test_the_way_keeps_to_budgets_and_ends_at_the_plan(
    situation: tuple[list[Device], list[Claim], dict[str, dict[Ref, Replica]], random.Random],
) -> None:
    devices, claims, loaded, rng = situation
    world = World(devices, claims, loaded)
    plan = place(claims, devices, current(world))
    run_to_the_end(world, plan, claims, rng)
    assert {ref: tuple(slots) for ref, slots in current(world).items() if slots} == plan.slots
    for claim in claims:
        for slot in plan.slots.get(claim.ref, ()):
            assert world.loaded[slot][claim.ref].is_as_wanted(claim)
    assert place(claims, devices, current(world)) == plan


@given(situations())
def test_from_anywhere_to_any_plan(
    situation: tuple[list[Device], list[Claim], dict[str, dict[Ref, Replica]], random.Random],
) -> None:
    # As if engines had changed places: everything may have to move.
    devices, claims, loaded, rng = situation
    world = World(devices, claims, loaded)
    plan = place(claims, devices, {})
    run_to_the_end(world, plan, claims, rng)
    assert {ref: tuple(slots) for ref, slots in current(world).items() if slots} == plan.slots


@given(situations())
def test_plans_that_change_on_the_way_and_loads_that_fail_break_no_budget_and_end(
    situation: tuple[list[Device], list[Claim], dict[str, dict[Ref, Replica]], random.Random],
) -> None:
    devices, claims, loaded, rng = situation
    world = World(devices, claims, loaded)
    for share in (0, len(claims) // 2, len(claims)):
        some = rng.sample(claims, share)
        run_to_the_end(world, place(some, devices, current(world)), some, rng, share_failing=0.3)
        for command in steps(place(claims, devices, current(world)), claims, devices, world.holdings()):
            world.begin(command)
            world.check_budgets()


@given(situations())
def test_a_version_that_is_loaded_more_than_once_always_answers_while_it_is_reloaded(
    situation: tuple[list[Device], list[Claim], dict[str, dict[Ref, Replica]], random.Random],
) -> None:
    devices, claims, _, rng = situation
    plan = place(claims, devices, {})
    old = {claim.ref: Replica(claim.num_bytes, "old") for claim in claims}
    loaded = {d.slot: {ref: old[ref] for ref, slots in plan.slots.items() if d.slot in slots} for d in devices}
    world = World(devices, claims, loaded)
    several = [ref for ref, slots in plan.slots.items() if len(slots) > 1]
    for _ in range(200):
        for command in steps(plan, claims, devices, world.holdings()):
            world.begin(command)
            holdings = world.holdings().values()
            for ref in several:
                assert any(holding.is_ready(ref) for holding in holdings)
        if not (under_way := world.under_way()):
            break
        world.end(*rng.choice(under_way))
    assert all(replica.identity == "" for group in world.loaded.values() for replica in group.values())
