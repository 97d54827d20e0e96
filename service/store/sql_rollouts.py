"""Versions on trial and what was decided of them in SQL; each function works within its caller's transaction.

`now` is in whole milliseconds since 1970.
"""

import secrets
from collections.abc import Collection, Mapping
from dataclasses import fields
from typing import Any, NamedTuple

from sqlalchemy import Connection, RowMapping, and_, delete, insert, select, update

from service.domain import CHALLENGER, CHAMPION, Loading, Ref, Rollout, Stage
from service.errors import (
    AliasMoved,
    AlreadyChampion,
    NoRollout,
    NothingToRollBack,
    RolloutUnderWay,
    VersionUnloaded,
)
from service.store.base import AliasMove
from service.store.rollouts import Decision, DecisionKind, RolloutChange, changed, predecessor, standing
from service.store.sql_state import aliases_in, check_there, known_versions, lock, put_move, raise_to, wish_of
from service.store.tables import alias_history, aliases, decisions, rollouts, versions

_SALT_BYTES = 16


class Change(NamedTuple):
    """A change that is being made: the revision that it leads to, when, and who makes it for which reason."""

    revision: int
    now: int
    actor: str
    reason: str

    def move(self, model: str, alias: str, version: int, previous: int | None) -> AliasMove:
        return AliasMove(model, alias, version, previous, self.actor, self.reason, self.now / 1000, self.revision)


def rollouts_in(connection: Connection) -> dict[str, Rollout]:
    """Model -> what is on trial."""
    return {row.model: _rollout(row._mapping) for row in connection.execute(select(rollouts))}


def check_movable(connection: Connection, model: str, alias: str) -> None:
    """Raises RolloutUnderWay where a trial holds the alias."""
    rollout = rollouts_in(connection).get(model)
    if rollout is not None and alias in (CHAMPION, CHALLENGER):
        raise RolloutUnderWay(rollout.ref)


def begin(
    connection: Connection,
    ref: Ref,
    terms: RolloutChange,
    now: int,
    *,
    actor: str,
    reason: str,
) -> Rollout:
    """As `RolloutControl.begin_rollout`."""
    change = Change(lock(connection) + 1, now, actor, reason)
    check_there(connection, ref)
    named, under_way = aliases_in(connection).get(ref.model, {}), rollouts_in(connection).get(ref.model)
    if under_way is not None:
        if under_way.ref == ref and changed(under_way, terms, now / 1000, actor=actor, reason=reason) is under_way:
            return under_way
        raise RolloutUnderWay(under_way.ref)
    if named.get(CHAMPION) == ref.version:
        raise AlreadyChampion(ref)
    if wish_of(connection, ref).loading is Loading.UNLOADED:
        raise VersionUnloaded(ref)
    assert terms.stage is not None
    assert terms.share is not None
    began = now / 1000
    salt = secrets.token_hex(_SALT_BYTES)
    rollout = Rollout(
        *ref, terms.stage, terms.share, salt, began, began, actor, reason, bool(terms.paused), dict(terms.policy or {})
    )
    connection.execute(insert(rollouts).values(_row(rollout)))
    if named.get(CHALLENGER) != ref.version:
        put_move(connection, change.move(ref.model, CHALLENGER, ref.version, named.get(CHALLENGER)))
    champion = named.get(CHAMPION)
    _note(connection, ref.model, "rollout_began", standing(champion, None), standing(champion, rollout), change)
    return rollout


def alter(
    connection: Connection,
    model: str,
    wanted: RolloutChange,
    now: int,
    *,
    expected_version: int | None,
    expected_stage: Stage | None,
    actor: str,
    reason: str,
) -> Rollout:
    """As `RolloutControl.change_rollout`."""
    change = Change(lock(connection) + 1, now, actor, reason)
    rollout = rollouts_in(connection).get(model)
    if rollout is None:
        raise NoRollout(model)
    if expected_version not in (None, rollout.version) or expected_stage not in (None, rollout.stage):
        raise RolloutUnderWay(rollout.ref)
    after = changed(rollout, wanted, now / 1000, actor=actor, reason=reason)
    if after is not rollout:
        connection.execute(update(rollouts).where(rollouts.c.model == model).values(_row(after)))
        champion = aliases_in(connection).get(model, {}).get(CHAMPION)
        _note(connection, model, "rollout_changed", standing(champion, rollout), standing(champion, after), change)
    return after


def promote(connection: Connection, ref: Ref, now: int, *, actor: str, reason: str, expected: int | None) -> Decision:
    """As `RolloutControl.promote`."""
    change = Change(lock(connection) + 1, now, actor, reason)
    check_there(connection, ref)
    champion, rollout = aliases_in(connection).get(ref.model, {}).get(CHAMPION), rollouts_in(connection).get(ref.model)
    if rollout is not None and rollout.ref != ref:
        raise RolloutUnderWay(rollout.ref)
    if champion == ref.version:
        raise AlreadyChampion(ref)
    if expected not in (None, champion):
        raise AliasMoved(ref.model, CHAMPION, expected=expected, found=champion)
    _crown(connection, ref, champion, change)
    if rollout is not None:
        _end(connection, ref.model)
    return _note(connection, ref.model, "promoted", standing(champion, rollout), standing(ref.version, None), change)


def roll_back(
    connection: Connection, model: str, now: int, *, actor: str, reason: str, expected: int | None
) -> Decision:
    """As `RolloutControl.roll_back`."""
    change = Change(lock(connection) + 1, now, actor, reason)
    known_versions(connection, model)
    champion, rollout = aliases_in(connection).get(model, {}).get(CHAMPION), rollouts_in(connection).get(model)
    alias, held = (CHAMPION, champion) if rollout is None else (CHALLENGER, rollout.version)
    if expected is not None and expected != held:
        raise AliasMoved(model, alias, expected=expected, found=held)
    before, after = standing(champion, rollout), champion
    if rollout is not None:
        _end(connection, model)
    else:
        after = previous_champion(connection, model)
        if after is None:
            raise NothingToRollBack(model)
        _crown(connection, Ref(model, after), champion, change)
    return _note(connection, model, "rolled_back", before, standing(after, None), change)


def previous_champion(connection: Connection, model: str) -> int | None:
    """As `RolloutReader.previous_champion`."""
    is_its = and_(alias_history.c.model == model, alias_history.c.alias == CHAMPION)
    champions = connection.scalars(select(alias_history.c.version).where(is_its).order_by(alias_history.c.id)).all()
    return predecessor(champions, _gone(connection, model))


def decisions_of(connection: Connection, model: str, limit: int) -> list[Decision]:
    """The newest first."""
    query = select(decisions).where(decisions.c.model == model).order_by(decisions.c.id.desc()).limit(limit)
    return [_decision(row._mapping) for row in connection.execute(query)]


def forget(connection: Connection, model: str) -> None:
    """Of a model that is deleted."""
    connection.execute(delete(rollouts).where(rollouts.c.model == model))


def _crown(connection: Connection, ref: Ref, champion: int | None, change: Change) -> None:
    """Raises VersionUnloaded."""
    if wish_of(connection, ref).loading is Loading.UNLOADED:
        raise VersionUnloaded(ref)
    put_move(connection, change.move(ref.model, CHAMPION, ref.version, champion))


def _end(connection: Connection, model: str) -> None:
    """End a trial: nothing of the model is the challenger any more."""
    forget(connection, model)
    connection.execute(delete(aliases).where(aliases.c.model == model, aliases.c.alias == CHALLENGER))


def _gone(connection: Connection, model: str) -> Collection[int]:
    is_deleted = and_(versions.c.model == model, versions.c.deleted.is_not(None))
    return set(connection.scalars(select(versions.c.version).where(is_deleted)))


def _note(
    connection: Connection,
    model: str,
    kind: DecisionKind,
    before: Mapping[str, Any],
    after: Mapping[str, Any],
    change: Change,
) -> Decision:
    """Write down what was decided, at the revision that it leads to."""
    facts = {"model": model, "kind": kind, "before": before, "after": after, "time": change.now}
    by = {"actor": change.actor, "reason": change.reason, "revision": change.revision}
    query = insert(decisions).values(facts | by).returning(decisions.c.id)
    number: int = connection.execute(query).scalar_one()
    raise_to(connection, change.revision)
    return Decision(number, model, change.now / 1000, change.actor, kind, before, after, change.reason, change.revision)


def _decision(row: RowMapping) -> Decision:
    facts = {one.name: row[one.name] for one in fields(Decision)}
    return Decision(**{**facts, "time": facts["time"] / 1000})


def _row(rollout: Rollout) -> dict[str, Any]:
    facts = {one.name: getattr(rollout, one.name) for one in fields(Rollout)}
    times = {name: round(facts[name] * 1000) for name in ("began", "stage_began")}
    return {**facts, **times, "stage": rollout.stage.value, "policy": dict(rollout.policy)}


def _rollout(row: RowMapping) -> Rollout:
    facts = {one.name: row[one.name] for one in fields(Rollout)}
    times = {name: facts[name] / 1000 for name in ("began", "stage_began")}
    return Rollout(**{**facts, **times, "stage": Stage(facts["stage"])})
