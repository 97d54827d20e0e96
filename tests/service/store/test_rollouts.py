"""Versions on trial and what was decided of them, on both databases."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict

import orjson
import pytest

from service.domain import Loading, Ref, Rollout, Stage
from service.errors import (
    AliasMoved,
    AlreadyChampion,
    NoRollout,
    NothingToRollBack,
    RolloutUnderWay,
    ServoloopError,
    StoreUnavailable,
    UnknownModel,
    UnknownVersion,
    VersionInUse,
    VersionUnloaded,
)
from service.store.base import WishChange
from service.store.messages import apply, decision_of, error_facts, error_of, rollout_of
from service.store.rollouts import RolloutChange, predecessor
from service.store.sql_control import SqlControl
from tests.fakes import ManualClock
from tests.stores import OpenStore

FOUND = {"fashion": {1: "a" * 64, 2: "b" * 64, 3: "c" * 64}, "mood": {3: "c" * 64}}
CHALLENGER = Ref("fashion", 2)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(now=1000.0)


@pytest.fixture
def control(store: OpenStore, clock: ManualClock) -> SqlControl:
    """With three versions of `fashion`, the first its champion."""
    store.control._clock = clock
    store.control.crown_new_models(FOUND)
    return store.control


def begin(control: SqlControl, version: int = 2, stage: Stage = Stage.SHADOW, share: float = 0.5) -> Rollout:
    return control.begin_rollout("fashion", version, stage=stage, share=share, actor="ann", reason="try it")


def change(control: SqlControl, change: RolloutChange, **expected: object) -> Rollout:
    return control.change_rollout("fashion", change, actor="bob", reason="go on", **expected)  # type: ignore[arg-type]


def standing(version: int | None = None, stage: str = "shadow", share: float = 0.5) -> dict[str, object] | None:
    if version is None:
        return None
    return {"version": str(version), "stage": stage, "share": share, "paused": False, "policy": {}}


def test_a_rollout_begins_with_the_alias_challenger_and_with_rows_of_both_histories(
    control: SqlControl, reader: SqlControl
) -> None:
    before = reader.revision()
    policy = {"alpha": 0.05, "steps": [0.05, 0.25]}
    rollout = control.begin_rollout(
        "fashion", 2, stage=Stage.CANARY, share=0.25, policy=policy, actor="ann", reason="try it"
    )
    assert rollout == Rollout(
        "fashion", 2, Stage.CANARY, 0.25, rollout.salt, 1000.0, 1000.0, "ann", "try it", policy=policy
    )
    state = reader.state()
    assert (state.revision, state.rollouts) == (before + 1, {"fashion": rollout})
    assert state.aliases["fashion"] == {"champion": 1, "challenger": 2}
    [move, _] = reader.history("fashion")
    assert (move.alias, move.version, move.previous, move.actor, move.revision) == (
        "challenger", 2, None, "ann", before + 1,
    )  # fmt: skip
    [decision] = reader.decisions("fashion")
    assert (decision.kind, decision.actor, decision.reason, decision.time, decision.revision) == (
        "rollout_began", "ann", "try it", 1000.0, before + 1,
    )  # fmt: skip
    assert decision.before == {"champion": "1", "rollout": None}
    trial = {"version": "2", "stage": "canary", "share": 0.25, "paused": False, "policy": policy}
    assert decision.after == {"champion": "1", "rollout": trial}


def test_every_rollout_draws_its_own_salt(control: SqlControl) -> None:
    first = begin(control)
    control.roll_back("fashion", actor="ann", reason="")
    assert begin(control).salt != first.salt


def test_the_same_rollout_begun_again_changes_nothing_and_another_is_refused(control: SqlControl) -> None:
    rollout = begin(control)
    before = control.state()
    assert begin(control) == rollout
    for wrong in ({"version": 3}, {"stage": Stage.CANARY}, {"share": 0.1}):
        with pytest.raises(RolloutUnderWay, match="fashion/2 is on trial"):
            begin(control, **wrong)  # type: ignore[arg-type]
    assert control.state() == before


def test_what_cannot_be_tried_is_not_begun(control: SqlControl) -> None:
    control.change_wish(Ref("fashion", 3), WishChange(Loading.UNLOADED))
    control.delete_version(CHALLENGER)
    before = control.state()
    for version, error in [(1, AlreadyChampion), (2, UnknownVersion), (3, VersionUnloaded), (9, UnknownVersion)]:
        with pytest.raises(error):
            begin(control, version)
    with pytest.raises(UnknownModel):
        control.begin_rollout("nobody", 1, stage=Stage.SHADOW, share=0.5, actor="ann", reason="")
    assert (control.state(), control.decisions("fashion")) == (before, [])


def test_a_change_of_the_stage_begins_it_anew_and_any_other_does_not(control: SqlControl, clock: ManualClock) -> None:
    begun = begin(control)
    clock.advance(10)
    paused = change(control, RolloutChange(paused=True, share=0.75))
    assert (paused.paused, paused.share, paused.in_effect, paused.stage_began) == (True, 0.75, 0.0, 1000.0)
    clock.advance(10)
    canary = change(control, RolloutChange(stage=Stage.CANARY, share=0.05, paused=False))
    assert (canary.stage, canary.share, canary.began, canary.stage_began) == (Stage.CANARY, 0.05, 1000.0, 1020.0)
    assert (canary.salt, canary.actor, canary.reason) == (begun.salt, "bob", "go on")
    assert control.state().rollouts == {"fashion": canary}
    latest = control.decisions("fashion")[0]
    assert latest.kind == "rollout_changed"
    assert (latest.before["rollout"]["share"], latest.after["rollout"]["share"]) == (0.75, 0.05)


def test_a_change_that_changes_nothing_raises_no_revision(control: SqlControl) -> None:
    begun = begin(control)
    before = control.revision()
    assert change(control, RolloutChange(share=0.5, stage=Stage.SHADOW, paused=False, policy={})) == begun
    assert control.revision() == before
    assert len(control.decisions("fashion")) == 1


def test_a_change_of_another_rollout_than_was_expected_is_refused(control: SqlControl) -> None:
    with pytest.raises(NoRollout):
        change(control, RolloutChange(share=0.1))
    begin(control)
    before = control.state()
    for expected in ({"expected_version": 3}, {"expected_stage": Stage.CANARY}):
        with pytest.raises(RolloutUnderWay):
            change(control, RolloutChange(share=0.1), **expected)
    assert control.state() == before
    change(control, RolloutChange(share=0.1), expected_version=2, expected_stage=Stage.SHADOW)


def test_a_promotion_moves_the_champion_and_ends_the_trial_at_one_revision(control: SqlControl) -> None:
    begin(control)
    before = control.revision()
    decision = control.promote("fashion", 2, actor="ann", reason="it is better", expected=1)
    state = control.state()
    assert (state.revision, state.rollouts, state.aliases["fashion"]) == (before + 1, {}, {"champion": 2})
    move = control.history("fashion")[0]
    assert (move.alias, move.version, move.previous, move.reason) == ("champion", 2, 1, "it is better")
    assert move.revision == decision.revision == state.revision
    assert control.decisions("fashion")[0] == decision
    assert (decision.kind, decision.before) == ("promoted", {"champion": "1", "rollout": standing(2)})
    assert decision.after == {"champion": "2", "rollout": None}


def test_what_may_not_be_promoted_changes_nothing(control: SqlControl) -> None:
    begin(control)
    control.change_wish(CHALLENGER, WishChange(Loading.UNLOADED, in_use_too=True))
    before = control.state()
    for version, expected, error in [
        (3, None, RolloutUnderWay),
        (2, 3, AliasMoved),
        (2, 1, VersionUnloaded),
        (9, None, UnknownVersion),
    ]:
        with pytest.raises(error):
            control.promote("fashion", version, actor="ann", reason="", expected=expected)
    assert control.state() == before
    control.roll_back("fashion", actor="ann", reason="")
    with pytest.raises(AlreadyChampion):
        control.promote("fashion", 1, actor="ann", reason="")


def test_a_version_may_be_promoted_without_a_trial(control: SqlControl) -> None:
    assert control.promote("fashion", 3, actor="ann", reason="").before == {"champion": "1", "rollout": None}
    assert control.aliases()["fashion"] == {"champion": 3}


def test_rolling_back_ends_the_trial_and_leaves_the_champion(control: SqlControl) -> None:
    begin(control)
    before = control.revision()
    with pytest.raises(AliasMoved, match="challenger of fashion names version 2, and version 3 was expected"):
        control.roll_back("fashion", actor="ann", reason="", expected=3)
    decision = control.roll_back("fashion", actor="ann", reason="it is worse", expected=2)
    state = control.state()
    assert (state.revision, state.rollouts, state.aliases["fashion"]) == (before + 1, {}, {"champion": 1})
    assert (decision.kind, decision.before) == ("rolled_back", {"champion": "1", "rollout": standing(2)})
    assert decision.after == {"champion": "1", "rollout": None}


def test_without_a_trial_rolling_back_goes_back_step_by_step(control: SqlControl) -> None:
    for version in (2, 3):
        control.promote("fashion", version, actor="ann", reason="")
    for previous in (2, 1):
        assert control.previous_champion("fashion") == previous
        assert control.roll_back("fashion", actor="ann", reason="").after["champion"] == str(previous)
        assert control.aliases()["fashion"] == {"champion": previous}
    assert control.previous_champion("fashion") is None
    with pytest.raises(NothingToRollBack):
        control.roll_back("fashion", actor="ann", reason="")


def test_a_rollback_decided_twice_is_made_once(control: SqlControl) -> None:
    control.promote("fashion", 2, actor="ann", reason="")
    control.promote("fashion", 3, actor="ann", reason="")
    control.roll_back("fashion", actor="ann", reason="", expected=3)
    with pytest.raises(AliasMoved):
        control.roll_back("fashion", actor="ann", reason="", expected=3)
    assert control.aliases()["fashion"] == {"champion": 2}


def test_a_deleted_champion_is_passed_over_and_an_unloaded_one_is_said(control: SqlControl) -> None:
    for version in (2, 3):
        control.promote("fashion", version, actor="ann", reason="")
    control.delete_version(CHALLENGER)
    assert control.previous_champion("fashion") == 1
    control.change_wish(Ref("fashion", 1), WishChange(Loading.UNLOADED))
    with pytest.raises(VersionUnloaded):
        control.roll_back("fashion", actor="ann", reason="")
    assert control.aliases()["fashion"] == {"champion": 3}


@pytest.mark.parametrize(
    ("champions", "gone", "expected"),
    [
        ([], [], None),
        ([1], [], None),
        ([1, 2], [], 1),
        ([1, 2, 1], [], None),
        ([1, 2, 3, 2], [], 1),
        ([1, 2, 3, 2, 4], [], 2),
        ([1, 2, 3], [2], 1),
        ([1, 2, 3], [1, 2], None),
    ],
)
def test_the_champion_before_is_the_one_that_nothing_was_rolled_back_from(
    champions: list[int], gone: list[int], expected: int | None
) -> None:
    assert predecessor(champions, gone) == expected


def test_a_version_on_trial_is_neither_unloaded_nor_deleted(control: SqlControl) -> None:
    begin(control)
    before = control.state()
    with pytest.raises(VersionInUse, match="if it is on trial, roll it back"):
        control.change_wish(CHALLENGER, WishChange(Loading.UNLOADED))
    with pytest.raises(VersionInUse):
        control.delete_version(CHALLENGER)
    assert control.state() == before


def test_a_trial_holds_the_champion_and_the_challenger(control: SqlControl) -> None:
    begin(control)
    before = control.state()
    for alias, version in [("champion", 2), ("champion", 3), ("challenger", 3)]:
        with pytest.raises(RolloutUnderWay, match="promote it or roll it back first"):
            control.move_alias("fashion", alias, version, actor="ann", reason="")
    assert control.state() == before
    control.move_alias("fashion", "candidate", 3, actor="ann", reason="")
    control.move_alias("mood", "challenger", 3, actor="ann", reason="")


def test_a_challenger_that_was_named_by_hand_goes_with_the_trial(control: SqlControl) -> None:
    control.move_alias("fashion", "challenger", 3, actor="ann", reason="")
    begin(control)
    assert control.history("fashion")[0].previous == 3
    control.roll_back("fashion", actor="ann", reason="")
    assert control.aliases()["fashion"] == {"champion": 1}


def test_a_model_that_is_deleted_has_nothing_on_trial(control: SqlControl) -> None:
    begin(control)
    control.delete_model("fashion", [1, 2, 3])
    assert control.state().rollouts == {}


def test_of_several_that_begin_a_rollout_at_once_one_wins(control: SqlControl) -> None:
    def attempt(version: int) -> int | None:
        try:
            return begin(control, version).version
        except RolloutUnderWay:
            return None

    with ThreadPoolExecutor(2) as threads:
        won = [version for version in threads.map(attempt, [2, 3]) if version is not None]
    assert len(won) == 1
    assert control.aliases()["fashion"]["challenger"] == won[0]
    assert len(control.decisions("fashion")) == 1


def test_decisions_are_limited_to_the_newest_and_to_their_model(control: SqlControl) -> None:
    begin(control)
    control.roll_back("fashion", actor="ann", reason="")
    assert [one.kind for one in control.decisions("fashion")] == ["rolled_back", "rollout_began"]
    assert [one.kind for one in control.decisions("fashion", limit=1)] == ["rolled_back"]
    assert control.decisions("mood") == []


def test_who_may_only_read_decides_nothing(control: SqlControl, reader: SqlControl) -> None:
    with pytest.raises(Exception) as raised:  # noqa: PT011  # each database says it in its own words
        begin(reader)
    assert not isinstance(raised.value, ServoloopError) or isinstance(raised.value, StoreUnavailable)
    assert control.state().rollouts == {}


def test_the_recorder_does_what_is_asked_of_it_as_json(control: SqlControl, store: OpenStore) -> None:
    def asked(verb: str, **facts: object) -> dict[str, object]:
        sent = {"verb": verb, "model": "fashion", "actor": "ann", "reason": "", **facts}
        answer: dict[str, object] = orjson.loads(orjson.dumps(apply(store, orjson.loads(orjson.dumps(sent)))))  # type: ignore[arg-type]
        return answer

    begun = asked("begin_rollout", version=2, stage="shadow", share=0.5, paused=True, policy={"a": [1]})
    assert rollout_of(begun) == control.state().rollouts["fashion"]
    altered = {"change": asdict(RolloutChange(Stage.CANARY, 0.1)), "expected_version": 2, "expected_stage": "shadow"}
    assert rollout_of(asked("change_rollout", **altered)) == control.state().rollouts["fashion"]
    promoted = decision_of(asked("promote", version=2, expected=1))
    assert (promoted, promoted.after["champion"]) == (control.decisions("fashion")[0], "2")
    assert decision_of(asked("roll_back", expected=2)).after["champion"] == "1"


@pytest.mark.parametrize(
    "error",
    [RolloutUnderWay(CHALLENGER), AlreadyChampion(CHALLENGER), NoRollout("fashion"), NothingToRollBack("fashion")],
)
def test_errors_travel_as_facts(error: ServoloopError) -> None:
    back = error_of(orjson.loads(orjson.dumps(error_facts(error))))
    assert (type(back), str(back)) == (type(error), str(error))
