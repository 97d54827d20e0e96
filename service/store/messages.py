"""What is said to the recorder and what it answers, as JSON facts in frames.

RECORD    {"records": [[a Record's fields in their order], ...]}, under a number; with inputs of some of them also
          "inputs": [[an Input's fields, its size instead of its data], ...], and their data one after another
RECORDED  the same number, {"refused": how many}: all others of that number are durable
FEEDBACK  {"events": [[a FeedbackEvent's fields in their order], ...]}, under a number
NOTED     the same number, {"outcomes": [[an Outcome's fields in their order], ...]}: what is accepted is durable; or
          FAILED, with the error's facts
CHANGE    {"verb": "move_alias" | "change_wish" | "delete_version" | "delete_model" | "note_removed" |
          "crown_new_models", ...}
          or {"verb": "begin_rollout" | "change_rollout" | "promote" | "roll_back", "model", ...}
          or {"verb": "keep_report", "report": [a StoredReport's fields in their order]}
          or about jobs, as service.store.job_messages says
          or {"verb": "erase", "ids": [...]} | {"verb": "erase_tagged", "tag": [name, value], "model", "after", "limit"}
CHANGED   {"move": ...}, {"wish": ...}, {"aliases": ...}, {"rollout": ...}, {"decision": ...}, {"erased": [predictions,
          events], "after"?} or {}; or FAILED, with the error's facts
"""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
import orjson

from service.domain import Loading, Precision, Ref, Rollout, Stage, Wish
from service.errors import (
    AliasMoved,
    AlreadyChampion,
    BrokenContract,
    JobUnderWay,
    NoRollout,
    NothingToRollBack,
    NotSupported,
    RolloutUnderWay,
    ServoloopError,
    StoreUnavailable,
    UnknownJob,
    UnknownModel,
    UnknownVersion,
    VersionInUse,
    VersionUnloaded,
)
from service.store.base import AliasMove, Contracts, Found, Input, StoredReport, Stores, Tag, WishChange
from service.store.feedback import ModelContract
from service.store.job_messages import apply_to_jobs
from service.store.record_queue import Group
from service.store.rollouts import Decision, RolloutChange
from service.wire.frames import Frame, Kind

Facts = Mapping[str, Any]


def record_frame(group: Group) -> Frame:
    """The RECORD of what is sent together."""
    meta: dict[str, Any] = {"records": [orjson.Fragment(offer.record) for offer in group.offers]}
    kept = [offer.input for offer in group.offers if offer.input is not None]
    if not kept:
        return Frame(Kind.RECORD, group.number, meta)
    meta["inputs"] = [[*one[:-1], len(one.data)] for one in kept]
    data = np.frombuffer(b"".join([one.data for one in kept]), np.uint8)
    return Frame(Kind.RECORD, group.number, meta, [data])


def inputs_in(frame: Frame) -> list[Input]:
    """Those of a RECORD. Raises BrokenContract, TypeError or ValueError."""
    described = frame.meta.get("inputs", [])
    if not described:
        return []
    [data] = frame.arrays
    sizes = [one[-1] for one in described]
    if data.dtype != np.uint8 or sum(sizes) != data.size or min(sizes) < 0:
        raise BrokenContract("inputs", expected=f"{sum(sizes)} bytes", got=data.size)
    inputs, start = [], 0
    for *fields, size in described:
        inputs.append(Input._make((*fields, data[start : start + size].tobytes())))
        start += size
    return inputs


def crown_facts(found: Found, contracts: Contracts) -> dict[str, Any]:
    """The CHANGE that crowns the first versions of new models."""
    shared = {model: [contract.task, contract.labels] for model, contract in contracts.items()}
    table = {model: {str(version): digest for version, digest in numbers.items()} for model, numbers in found.items()}
    return {"verb": "crown_new_models", "found": table, "contracts": shared}


def wish_facts(ref: Ref, change: WishChange) -> dict[str, Any]:
    """The CHANGE of what is wanted of a version."""
    return {"verb": "change_wish", "ref": str(ref), "change": asdict(change)}


def apply(stores: Stores, facts: Facts) -> dict[str, Any]:
    """Do what a CHANGE says; what CHANGED answers. Raises what the verb raises."""
    control, erasure = stores.control, stores.erasure
    match facts:
        case {"verb": "move_alias", "model": model, "alias": alias, "version": version, **more}:
            move = control.move_alias(model, alias, version, **more)
            return {"move": asdict(move)}
        case {"verb": "change_wish", "ref": name, "change": change}:
            return {"wish": asdict(control.change_wish(Ref.parse(name), _wish_change(change)))}
        case {"verb": "delete_version", "ref": name}:
            control.delete_version(Ref.parse(name))
            return {}
        case {"verb": "delete_model", "model": model, "versions": numbers}:
            control.delete_model(model, numbers)
            return {}
        case {"verb": "note_removed", "ref": name}:
            control.note_removed(Ref.parse(name))
            return {}
        case {"verb": "crown_new_models", "found": table, "contracts": shared}:
            found = {model: {int(text): digest for text, digest in numbers.items()} for model, numbers in table.items()}
            contracts = {model: ModelContract(task, tuple(labels)) for model, (task, labels) in shared.items()}
            return {"aliases": control.crown_new_models(found, contracts)}
        case {"verb": "begin_rollout", "model": model, "version": version, "stage": stage, **more}:
            return {"rollout": asdict(control.begin_rollout(model, version, stage=Stage(stage), **more))}
        case {"verb": "change_rollout", "model": model, "change": change, "expected_stage": stage, **more}:
            expected = None if stage is None else Stage(stage)
            rollout = control.change_rollout(model, _rollout_change(change), expected_stage=expected, **more)
            return {"rollout": asdict(rollout)}
        case {"verb": "promote", "model": model, "version": version, **more}:
            return {"decision": asdict(control.promote(model, version, **more))}
        case {"verb": "roll_back", "model": model, **more}:
            return {"decision": asdict(control.roll_back(model, **more))}
        case {"verb": "keep_report", "report": fields}:
            stores.reports.keep(StoredReport._make(fields))
            return {}
        case {"verb": "erase", "ids": ids}:
            return {"erased": list(erasure.erase(ids))}
        case {"verb": "erase_tagged", "tag": tag, "model": model, "after": after, "limit": limit}:
            gone, last = erasure.erase_tagged(Tag(*tag), model, after=after, limit=limit)
            return {"erased": list(gone), "after": last}
        case _:
            return apply_to_jobs(stores.jobs, facts)


def move_of(facts: Facts) -> AliasMove:
    """The move in a CHANGED."""
    return AliasMove(**facts["move"])


def wish_of(facts: Facts) -> Wish:
    """The wish in a CHANGED."""
    wish = facts["wish"]
    return Wish(**{**wish, "loading": Loading(wish["loading"]), "precision": Precision(wish["precision"])})


def rollout_of(facts: Facts) -> Rollout:
    """The rollout in a CHANGED."""
    rollout = facts["rollout"]
    return Rollout(**{**rollout, "stage": Stage(rollout["stage"])})


def decision_of(facts: Facts) -> Decision:
    """The decision in a CHANGED."""
    return Decision(**facts["decision"])


def _rollout_change(facts: Facts) -> RolloutChange:
    stage = facts["stage"]
    return RolloutChange(**{**facts, "stage": None if stage is None else Stage(stage)})


def _wish_change(facts: Facts) -> WishChange:
    loading, precision = facts["loading"], facts["precision"]
    return WishChange(
        None if loading is None else Loading(loading),
        facts["replicas"],
        None if precision is None else Precision(precision),
        facts["load"],
        facts["reload"],
        facts["in_use_too"],
    )


def error_facts(error: ServoloopError) -> dict[str, Any]:
    """What FAILED says."""
    match error:
        case UnknownVersion():
            return {"error": error.kind, "model": error.model, "name": error.name, "known": error.known}
        case UnknownModel():
            return {"error": error.kind, "name": error.name, "known": error.known}
        case AliasMoved():
            facts = {"model": error.model, "alias": error.alias, "expected": error.expected, "found": error.found}
            return {"error": error.kind, **facts}
        case VersionInUse():
            return {"error": error.kind, "ref": str(error.ref), "aliases": error.aliases}
        case NotSupported():
            return {"error": error.kind, "what": error.what, "instead": error.instead}
        case VersionUnloaded() | RolloutUnderWay() | AlreadyChampion():
            return {"error": error.kind, "ref": str(error.ref)}
        case JobUnderWay():
            return {"error": error.kind, "model": error.model, "work": error.work, "job": error.job_id}
        case UnknownJob():
            return {"error": error.kind, "job": error.job_id}
        case NoRollout() | NothingToRollBack():
            return {"error": error.kind, "model": error.model}
        case StoreUnavailable():
            return {"error": error.kind, "reason": error.reason}
        case _:
            return {"error": "internal"}


def error_of(facts: Facts, who: str = "the process that was asked") -> ServoloopError:
    """The error that FAILED tells of; `who` said it."""
    match facts:
        case {"error": UnknownVersion.kind, "model": model, "name": name, "known": known}:
            return UnknownVersion(model, name, known)
        case {"error": UnknownModel.kind, "name": name, "known": known}:
            return UnknownModel(name, known)
        case {"error": AliasMoved.kind, "model": model, "alias": alias, "expected": expected, "found": found}:
            return AliasMoved(model, alias, expected=expected, found=found)
        case {"error": VersionInUse.kind, "ref": name, "aliases": aliases}:
            return VersionInUse(Ref.parse(name), aliases)
        case {"error": NotSupported.kind, "what": what, "instead": instead}:
            return NotSupported(what, instead)
        case {"error": VersionUnloaded.kind, "ref": name}:
            return VersionUnloaded(Ref.parse(name))
        case {"error": JobUnderWay.kind, "model": model, "work": work, "job": job_id}:
            return JobUnderWay(model, work, job_id)
        case {"error": UnknownJob.kind, "job": job_id}:
            return UnknownJob(job_id)
        case {"error": RolloutUnderWay.kind, "ref": name}:
            return RolloutUnderWay(Ref.parse(name))
        case {"error": AlreadyChampion.kind, "ref": name}:
            return AlreadyChampion(Ref.parse(name))
        case {"error": NoRollout.kind, "model": model}:
            return NoRollout(model)
        case {"error": NothingToRollBack.kind, "model": model}:
            return NothingToRollBack(model)
        case {"error": StoreUnavailable.kind, "reason": reason}:
            return StoreUnavailable(reason)
        case _:
            return BrokenContract(who, expected="an answer", got="an error of its own; its log has the reason")
