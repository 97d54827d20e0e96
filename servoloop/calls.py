"""Each verb as a call: what to send, and how to read what comes back."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TypedDict
from urllib.parse import quote

from servoloop.instances import Instance, form, to_json
from servoloop.policy import Call
from servoloop.results import (
    AliasMove,
    Deleted,
    Model,
    Predictions,
    Version,
    VersionChange,
    read_alias_move,
    read_deleted,
    read_model,
    read_models,
    read_predictions,
    read_ready,
    read_version,
    read_version_change,
)

MODELS = Call("GET", "/v1/models", read_models)
READY = Call("GET", "/readyz", read_ready, answers=(200, 503), retried=False)

_JSON = {"Content-Type": "application/json"}


class Options(TypedDict, total=False):
    """How an answer is wanted; `timeout_ms` is the service's time for it, `key` keeps a caller on one version."""

    version: int | str | None
    alias: str | None
    top_k: int | None
    return_probabilities: bool
    timeout_ms: float | None
    key: str | None
    tags: Mapping[str, str] | None
    request_id: str | None


def predict(
    model: str,
    instances: Iterable[Instance],
    external_ids: Sequence[str] | None,
    *,
    version: int | str | None = None,
    alias: str | None = None,
    top_k: int | None = None,
    return_probabilities: bool = False,
    timeout_ms: float | None = None,
    key: str | None = None,
    tags: Mapping[str, str] | None = None,
    request_id: str | None = None,
) -> Call[Predictions]:
    """Raises TypeError or ValueError for what can't be sent."""
    if isinstance(instances, str | bytes | Path | Mapping):
        raise TypeError(f"expected several instances, got one {type(instances).__name__}")
    if version is not None and alias is not None:
        raise ValueError("name a version or an alias, not both")
    path = _path(model)
    if version is not None:
        path = _path(model, version)
    elif alias is not None:
        path += f"/aliases/{quote(alias, safe='')}"
    parameters = {
        "top_k": top_k,
        "return_probabilities": return_probabilities or None,
        "timeout_ms": timeout_ms,
        "key": key,
        "tags": None if tags is None else dict(tags),
        "external_ids": None if external_ids is None else list(external_ids),
    }
    body = {
        "instances": [form(instance) for instance in instances],
        "parameters": {name: value for name, value in parameters.items() if value is not None},
    }
    headers = dict(_JSON)
    if request_id is not None:
        headers["X-Request-Id"] = request_id
    return Call("POST", f"{path}/predict", read_predictions, to_json(body), headers)


def model(name: str) -> Call[Model]:
    return Call("GET", _path(name), read_model)


def version(model: str, version: int | str) -> Call[Version]:
    return Call("GET", _path(model, version), read_version)


def load(
    model: str,
    version: int | str,
    *,
    pinned: bool | None = None,
    replicas: int | None = None,
    precision: str | None = None,
    wait: float,
) -> Call[VersionChange]:
    wanted = {"pinned": pinned, "replicas": replicas, "precision": precision}
    return _change(model, version, "load", wait, {name: value for name, value in wanted.items() if value is not None})


def reload(model: str, version: int | str, *, wait: float) -> Call[VersionChange]:
    return _change(model, version, "reload", wait, {})


def unload(model: str, version: int | str, *, wait: float) -> Call[VersionChange]:
    return _change(model, version, "unload", wait, {})


def delete(model: str, version: int | str | None = None, *, wait: float) -> Call[Deleted]:
    path = f"{_path(model, version)}?wait_ms={_milliseconds(wait):.15g}"
    # A 503 may come of a deletion that was made: asked for again, it would be unknown.
    return Call("DELETE", path, read_deleted, answers=(200, 202), retried=False, patience=wait)


def move_alias(model: str, alias: str, version: int, reason: str, expected: int | None) -> Call[AliasMove]:
    body = {"version": str(version), "reason": reason, "expected": None if expected is None else str(expected)}
    path = f"{_path(model)}/aliases/{quote(alias, safe='')}"
    # As for a version's changes: a 503 says why it can't be loaded.
    return Call("PUT", path, read_alias_move, to_json(body), _JSON, retried=False)


def _change(
    model: str, version: int | str, verb: str, wait: float, wanted: Mapping[str, object]
) -> Call[VersionChange]:
    # A 503 says why it can't be loaded, and may take long to find out: whether to try again is for the caller to say.
    return Call(
        "POST",
        f"{_path(model, version)}/{verb}",
        read_version_change,
        to_json({**wanted, "wait_ms": _milliseconds(wait)}),
        _JSON,
        answers=(200, 202),
        retried=False,
        patience=wait,
    )


def _milliseconds(wait: float) -> float:
    if not 0 <= wait < float("inf"):
        raise ValueError(f"wait must be a number of seconds, got {wait}")
    return 1000 * wait


def _path(model: str, version: int | str | None = None) -> str:
    path = f"/v1/models/{quote(model, safe='')}"
    return path if version is None else f"{path}/versions/{quote(str(version), safe='')}"
