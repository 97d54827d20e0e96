"""What is said to the recorder and what it answers, as JSON facts in frames.

RECORD    {"records": [a Record's fields, ...]}, under a number
RECORDED  the same number, {"refused": [ids]}: all others of that number are durable
CHANGE    {"verb": "move_alias" | "crown_new_models", ...}
CHANGED   {"move": ...} or {"aliases": ...}; or FAILED, with the error's facts
"""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from service.errors import AliasMoved, BrokenContract, ServoloopError, StoreUnavailable, UnknownModel, UnknownVersion
from service.store.base import AliasMove, Control, Found

Facts = Mapping[str, Any]


def crown_facts(found: Found) -> dict[str, Any]:
    """The CHANGE that crowns the first versions of new models."""
    table = {model: {str(version): digest for version, digest in numbers.items()} for model, numbers in found.items()}
    return {"verb": "crown_new_models", "found": table}


def apply(control: Control, facts: Facts) -> dict[str, Any]:
    """Do what a CHANGE says; what CHANGED answers. Raises what the verb raises."""
    match facts:
        case {"verb": "move_alias", "model": model, "alias": alias, "version": version, **more}:
            move = control.move_alias(model, alias, version, **more)
            return {"move": asdict(move)}
        case {"verb": "crown_new_models", "found": table}:
            found = {model: {int(text): digest for text, digest in numbers.items()} for model, numbers in table.items()}
            return {"aliases": control.crown_new_models(found)}
        case _:
            raise BrokenContract("CHANGE", expected="a verb and its facts", got=facts.get("verb"))


def move_of(facts: Facts) -> AliasMove:
    """The move in a CHANGED."""
    return AliasMove(**facts["move"])


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
        case StoreUnavailable():
            return {"error": error.kind, "reason": error.reason}
        case _:
            return {"error": "internal"}


def error_of(facts: Facts) -> ServoloopError:
    """The error that FAILED tells of."""
    match facts:
        case {"error": UnknownVersion.kind, "model": model, "name": name, "known": known}:
            return UnknownVersion(model, name, known)
        case {"error": UnknownModel.kind, "name": name, "known": known}:
            return UnknownModel(name, known)
        case {"error": AliasMoved.kind, "model": model, "alias": alias, "expected": expected, "found": found}:
            return AliasMoved(model, alias, expected=expected, found=found)
        case {"error": StoreUnavailable.kind, "reason": reason}:
            return StoreUnavailable(reason)
        case _:
            return BrokenContract(
                "the recorder", expected="an answer", got="an error of its own; its log has the reason"
            )
