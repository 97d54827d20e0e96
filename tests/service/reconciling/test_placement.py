"""Where versions lie. Sizes and budgets are small numbers of bytes here."""

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.domain import Ref
from service.reconciling.placement import Claim, Device, Plan, place, readable_bytes

A, B, C, D = (Ref(name, 1) for name in "abcd")
NOWHERE: Mapping[Ref, tuple[str, ...]] = {}


def devices(*budgets: int) -> list[Device]:
    return [Device(f"engine-{number}", budget) for number, budget in enumerate(budgets)]


# One device


def test_all_are_placed_where_there_is_room() -> None:
    plan = place([Claim(A, 4), Claim(B, 6)], devices(10), NOWHERE)
    assert plan == Plan({A: ("engine-0",), B: ("engine-0",)}, {})


def test_the_least_recently_used_is_left_out() -> None:
    claims = [Claim(A, 5, last_used=1.0), Claim(B, 5, last_used=3.0), Claim(C, 5, last_used=2.0)]
    plan = place(claims, devices(10), {A: ("engine-0",), C: ("engine-0",)})
    assert list(plan.slots) == [B, C]
    assert plan.left_out == {
        A: "it needs 5 bytes, and versions that were used more recently hold the room, on engine-0 b/1, c/1: "
        "it is loaded when it is asked for"
    }
    assert not plan.no_room


def test_a_smaller_one_takes_the_room_that_is_too_small_for_a_more_recent_one() -> None:
    claims = [Claim(A, 6, last_used=3.0), Claim(B, 6, last_used=2.0), Claim(C, 4, last_used=1.0)]
    assert list(place(claims, devices(10), NOWHERE).slots) == [A, C]


def test_at_the_start_what_an_alias_names_goes_first() -> None:
    claims = [Claim(A, 5), Claim(B, 5, is_aliased=True), Claim(C, 5)]
    assert list(place(claims, devices(10), NOWHERE).slots) == [B, A]


def test_an_alias_does_not_outweigh_recent_use() -> None:
    claims = [Claim(A, 5, last_used=1.0), Claim(B, 5, is_aliased=True)]
    assert list(place(claims, devices(5), NOWHERE).slots) == [A]


def test_pinned_versions_come_before_recently_used_ones() -> None:
    claims = [Claim(A, 6, last_used=9.0), Claim(B, 6, is_pinned=True)]
    plan = place(claims, devices(10), {A: ("engine-0",)})
    assert list(plan.slots) == [B]
    assert plan.left_out == {
        A: "it needs 6 bytes, and pinned versions leave at most 4 bytes, on engine-0: unpin or unload one of b/1"
    }
    assert plan.no_room == {A}


def test_a_plan_names_pinned_versions_first_and_then_the_most_recently_used() -> None:
    claims = [Claim(A, 1, last_used=1.0), Claim(B, 1, last_used=9.0), Claim(C, 1, is_pinned=True)]
    assert list(place(claims, devices(10), NOWHERE).slots) == [C, B, A]
    assert list(place(claims, devices(0), NOWHERE).left_out) == [C, B, A]


def test_a_pinned_version_that_lies_makes_no_room_for_another_one() -> None:
    claims = [Claim(A, 6, is_pinned=True), Claim(B, 6, is_pinned=True, last_used=9.0)]
    plan = place(claims, devices(10), {A: ("engine-0",)})
    assert (list(plan.slots), plan.no_room) == ([A], {B})


def test_what_is_larger_than_every_device_is_left_out_with_what_would_help() -> None:
    plan = place([Claim(A, 3 << 29), Claim(B, 5)], devices(1 << 30, 1 << 20), NOWHERE)
    assert list(plan.slots) == [B]
    assert plan.left_out == {
        A: "it needs 1.5 GiB, and the largest device, that of engine-0, has 1 GiB for models: "
        "a lower precision or a device with more memory would help"
    }
    assert plan.no_room == {A}


@pytest.mark.parametrize(
    ("size", "pinned"),
    [(10, 0), (6, 4)],
    ids=["as large as the device", "as large as what pinned ones leave"],
)
def test_who_would_just_fit_has_room_when_it_is_asked_for(size: int, pinned: int) -> None:
    claims = [Claim(A, size), Claim(B, size, last_used=1.0), Claim(C, pinned, is_pinned=True)]
    plan = place(claims, devices(10), NOWHERE)
    assert plan.left_out == {
        A: f"it needs {size} bytes, and versions that were used more recently hold the room, on engine-0 b/1: "
        "it is loaded when it is asked for"
    }
    assert not plan.no_room


def test_a_person_is_told_which_pinned_versions_lie_where_most_room_could_be_had() -> None:
    claims = [Claim(A, 8), Claim(B, 3, is_pinned=True), Claim(C, 6, is_pinned=True), Claim(D, 7, last_used=1.0)]
    plan = place(claims, devices(10, 10), {B: ("engine-0",), C: ("engine-1",), D: ("engine-0",)})
    assert plan.left_out == {
        A: "it needs 8 bytes, and pinned versions leave at most 7 bytes, on engine-0: unpin or unload one of b/1"
    }


@pytest.mark.parametrize(
    ("number", "named"),
    [(5, "v0/1, v1/1, v2/1, v3/1, v4/1"), (6, "v0/1, v1/1, v2/1, v3/1, v4/1 and 1 more"), (8, " and 3 more")],
)
def test_of_many_pinned_versions_a_few_are_named(number: int, named: str) -> None:
    pinned = [Claim(Ref(f"v{index}", 1), 1, is_pinned=True) for index in range(number)]
    plan = place([Claim(A, 8), *pinned], devices(8), NOWHERE)
    assert plan.left_out[A].endswith(named)


def test_without_engines_all_are_left_out() -> None:
    assert place([Claim(A, 1)], [], NOWHERE).left_out == {A: "no engine has been heard of yet"}


def test_what_lies_on_a_device_that_is_gone_is_placed_anew() -> None:
    assert place([Claim(A, 1)], devices(5), {A: ("engine-7",), B: ("engine-0",)}).slots == {A: ("engine-0",)}


def test_a_device_whose_budget_shrank_keeps_what_matters_most() -> None:
    claims = [Claim(A, 5, last_used=1.0), Claim(B, 5, last_used=2.0)]
    assert list(place(claims, devices(5), {A: ("engine-0",), B: ("engine-0",)}).slots) == [B]


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0 bytes"),
        (1023, "1023 bytes"),
        (1 << 10, "1 KiB"),
        (1536, "1.5 KiB"),
        (1 << 20, "1 MiB"),
        (1023 << 20, "1023 MiB"),
        (1 << 30, "1 GiB"),
        (139 << 30, "139 GiB"),
        (1 << 40, "1 TiB"),
        (5 << 50, "5120 TiB"),
    ],
)
def test_bytes_are_readable(number: int, text: str) -> None:
    assert readable_bytes(number) == text


# Several devices


def test_something_new_goes_where_most_room_is_left() -> None:
    claims = [Claim(A, 6), Claim(B, 2)]
    assert place(claims, devices(10, 8), {A: ("engine-0",)}).slots == {A: ("engine-0",), B: ("engine-1",)}


def test_what_lies_on_a_device_takes_its_room_there_once() -> None:
    claims = [Claim(A, 6, last_used=1.0), Claim(B, 2)]
    assert place(claims, devices(20, 12), {A: ("engine-0",)}).slots == {A: ("engine-0",), B: ("engine-0",)}


@pytest.mark.parametrize("budget", [11, 10], ids=["with room to spare", "that just fits"])
def test_what_lies_beside_something_new_keeps_its_room_from_what_comes_next(budget: int) -> None:
    newcomers = [Claim(A, 4, last_used=4.0), Claim(B, 2, last_used=3.0)]
    lying = [Claim(C, 3, last_used=2.0), Claim(D, 3, last_used=1.0)]
    current = {C: ("engine-0",), D: ("engine-0",)}
    assert place([*newcomers, *lying], devices(budget, 2), current).slots == {
        A: ("engine-0",),
        B: ("engine-1",),
        C: ("engine-0",),
        D: ("engine-0",),
    }


def test_what_is_displaced_takes_no_more_room_from_what_comes_next() -> None:
    newcomers = [Claim(A, 10, last_used=4.0), Claim(B, 2, last_used=3.0)]
    lying = [Claim(C, 10, last_used=2.0), Claim(D, 8, last_used=1.0)]
    plan = place([*newcomers, *lying], devices(12, 9), {C: ("engine-0",), D: ("engine-1",)})
    assert plan.slots == {A: ("engine-0",), B: ("engine-0",), D: ("engine-1",)}


def test_what_a_device_has_become_too_small_for_takes_no_room_there() -> None:
    claims = [Claim(A, 20, last_used=2.0), Claim(B, 2, last_used=1.0)]
    assert place(claims, devices(10, 9), {A: ("engine-0",)}).slots == {B: ("engine-0",)}


def test_what_lies_somewhere_stays_there() -> None:
    claims = [Claim(A, 3), Claim(B, 3), Claim(C, 3)]
    current = dict.fromkeys((A, B, C), ("engine-1",))
    assert place(claims, devices(10, 10), current).slots == current


def test_where_nothing_is_free_the_least_valuable_is_displaced() -> None:
    claims = [Claim(A, 5, last_used=1.0), Claim(B, 9, last_used=2.0), Claim(C, 8, last_used=3.0)]
    plan = place(claims, devices(10, 10), {A: ("engine-0",), B: ("engine-1",)})
    assert plan.slots == {C: ("engine-0",), B: ("engine-1",)}
    assert list(plan.left_out) == [A]


def test_the_least_valuable_is_displaced_whichever_device_it_lies_on() -> None:
    claims = [Claim(A, 5, last_used=1.0), Claim(B, 9, last_used=2.0), Claim(C, 8, last_used=3.0)]
    plan = place(claims, devices(10, 10), {A: ("engine-1",), B: ("engine-0",)})
    assert plan.slots == {C: ("engine-1",), B: ("engine-0",)}


def test_only_as_many_are_displaced_as_must_be_the_least_valuable_first() -> None:
    claims = [Claim(A, 5, last_used=9.0), Claim(B, 5, last_used=4.0), Claim(C, 5, last_used=2.0), Claim(D, 5)]
    current = {B: ("engine-0",), D: ("engine-0",), C: ("engine-1",)}
    assert place(claims, devices(10, 5), current).slots == {A: ("engine-0",), B: ("engine-0",), C: ("engine-1",)}


def test_who_found_no_room_gets_what_a_move_leaves_free() -> None:
    # B takes the roomier device and then the other one too; that one alone is enough for it, and then A fits.
    claims = [Claim(A, 8, last_used=1.0), Claim(B, 7, replicas=2, last_used=2.0)]
    assert place(claims, devices(7, 9), NOWHERE).slots == {B: ("engine-0",), A: ("engine-1",)}


def test_what_is_displaced_goes_where_there_is_room() -> None:
    claims = [Claim(A, 5, last_used=1.0), Claim(B, 6, last_used=2.0), Claim(C, 9, is_pinned=True)]
    plan = place(claims, devices(10, 12), {A: ("engine-0",), B: ("engine-1",)})
    assert plan.slots == {C: ("engine-0",), B: ("engine-1",), A: ("engine-1",)}


def test_nothing_new_is_put_where_a_version_is_barred_from() -> None:
    barred = Claim(A, 2, barred=frozenset({"engine-0"}))
    assert place([barred], devices(10, 5), NOWHERE).slots == {A: ("engine-1",)}
    assert place([barred], devices(10), NOWHERE).slots == {}


def test_a_version_stays_where_it_lies_though_it_is_barred_from_there() -> None:
    barred = Claim(A, 2, barred=frozenset({"engine-0"}))
    assert place([barred], devices(10, 5), {A: ("engine-0",)}).slots == {A: ("engine-0",)}


# Several replicas


def test_replicas_lie_on_devices_of_their_own() -> None:
    plan = place([Claim(A, 2, replicas=4)], devices(10, 10, 10), NOWHERE)
    assert plan.slots == {A: ("engine-0", "engine-1", "engine-2")}


def test_every_version_gets_one_replica_before_any_gets_two() -> None:
    claims = [Claim(A, 6, replicas=2, last_used=2.0), Claim(B, 6, last_used=1.0)]
    assert place(claims, devices(10, 10), NOWHERE).slots == {A: ("engine-0",), B: ("engine-1",)}


def test_a_second_replica_makes_room_for_another_version() -> None:
    claims = [Claim(A, 6, replicas=2, last_used=2.0), Claim(B, 6, last_used=1.0)]
    plan = place(claims, devices(10, 10), {A: ("engine-0", "engine-1")})
    assert {ref: len(slots) for ref, slots in plan.slots.items()} == {A: 1, B: 1}


def test_further_replicas_of_a_pinned_version_displace_others() -> None:
    claims = [Claim(A, 6, replicas=2, is_pinned=True), Claim(B, 6, last_used=1.0)]
    plan = place(claims, devices(10, 10), {B: ("engine-1",)})
    assert plan.slots == {A: ("engine-0", "engine-1")}
    assert plan.no_room == {B}


def test_fewer_replicas_leave_the_others_where_they_lie() -> None:
    plan = place([Claim(A, 6)], devices(10, 10), {A: ("engine-1", "engine-0")})
    assert plan.slots == {A: ("engine-0",)}


# Whatever is asked for

REFS = [Ref(name, number) for name in "abcd" for number in (1, 2)]
fleets = st.lists(st.integers(0, 20), max_size=5).map(lambda budgets: devices(*budgets))
currents = st.dictionaries(
    st.sampled_from(REFS), st.lists(st.sampled_from([f"engine-{n}" for n in range(6)]), unique=True), max_size=8
)


@st.composite
def claim_lists(draw: st.DrawFn) -> list[Claim]:
    return [
        Claim(
            ref,
            draw(st.integers(0, 15)),
            replicas=draw(st.integers(1, 4)),
            is_pinned=draw(st.sampled_from([False, False, True])),
            is_aliased=draw(st.booleans()),
            last_used=draw(st.sampled_from([0.0, 1.0, 2.0, 3.0])),
        )
        for ref in draw(st.lists(st.sampled_from(REFS), unique=True))
    ]


def taken(plan: Plan, claims: list[Claim], slot: str) -> int:
    return sum(claim.num_bytes for claim in claims if slot in plan.slots.get(claim.ref, ()))


@given(claim_lists(), fleets, currents)
def test_a_plan_keeps_to_budgets_and_accounts_for_every_claim(
    claims: list[Claim], fleet: list[Device], current: dict[Ref, list[str]]
) -> None:
    plan = place(claims, fleet, current)
    assert plan.slots.keys() | plan.left_out.keys() == {claim.ref for claim in claims}
    assert not plan.slots.keys() & plan.left_out.keys()
    assert plan.no_room <= plan.left_out.keys()
    for device in fleet:
        assert taken(plan, claims, device.slot) <= device.budget
    for claim in claims:
        slots = plan.slots.get(claim.ref, ())
        assert len(set(slots)) == len(slots) <= claim.replicas


@given(claim_lists(), fleets, currents)
def test_the_plan_for_a_plans_own_result_is_the_same(
    claims: list[Claim], fleet: list[Device], current: dict[Ref, list[str]]
) -> None:
    plan = place(claims, fleet, current)
    assert place(claims, fleet, plan.slots) == plan
    backwards = {ref: slots[::-1] for ref, slots in reversed(plan.slots.items())}
    assert place(claims[::-1], fleet, backwards) == plan


@given(claim_lists(), fleets, currents)
def test_only_pinned_versions_keep_a_pinned_replica_out(
    claims: list[Claim], fleet: list[Device], current: dict[Ref, list[str]]
) -> None:
    plan = place(claims, fleet, current)
    pinned = [claim for claim in claims if claim.is_pinned]
    for claim in pinned:
        slots = plan.slots.get(claim.ref, ())
        if len(slots) < min(claim.replicas, len(fleet)):
            for device in fleet:
                if device.slot not in slots:
                    assert taken(plan, pinned, device.slot) + claim.num_bytes > device.budget


@given(claim_lists(), fleets, currents)
def test_no_version_is_left_out_where_a_less_recent_one_of_its_size_is_placed(
    claims: list[Claim], fleet: list[Device], current: dict[Ref, list[str]]
) -> None:
    plan = place(claims, fleet, current)
    for claim in claims:
        if claim.ref in plan.left_out and not claim.is_pinned:
            for other in claims:
                is_less = not other.is_pinned and other.last_used < claim.last_used
                assert not (is_less and other.ref in plan.slots and other.num_bytes >= claim.num_bytes)


@given(claim_lists(), fleets, currents)
def test_what_is_left_out_for_now_would_come_if_it_were_asked_for(
    claims: list[Claim], fleet: list[Device], current: dict[Ref, list[str]]
) -> None:
    plan = place(claims, fleet, current)
    for claim in claims:
        if claim.ref in plan.left_out and not claim.is_pinned:
            asked = Claim(claim.ref, claim.num_bytes, last_used=9.0)
            others = [other for other in claims if other is not claim]
            assert (claim.ref in place([asked, *others], fleet, plan.slots).slots) == (claim.ref not in plan.no_room)


@given(st.lists(st.integers(0, 9), min_size=1, max_size=8), currents)
def test_nothing_moves_where_all_that_lies_fits(sizes: list[int], current: dict[Ref, list[str]]) -> None:
    fleet = devices(*[100] * 6)
    claims = [Claim(ref, size, replicas=6) for ref, size in zip(REFS, sizes, strict=False)]
    once = [Claim(c.ref, c.num_bytes, replicas=max(1, len(current.get(c.ref, ())))) for c in claims]
    for plan in (place(once, fleet, current), place(claims, fleet, current)):
        for claim in claims:
            assert set(current.get(claim.ref, ())) <= set(plan.slots[claim.ref])
