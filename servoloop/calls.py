"""Each verb as a call: what to send, and how to read what comes back."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TypedDict
from urllib.parse import quote, urlencode

from servoloop.instances import Instance, form, to_json
from servoloop.measured import (
    Drift,
    Evaluation,
    EvaluationReport,
    EvaluationReports,
    read_drift,
    read_evaluation,
    read_picture,
    read_report,
    read_reports,
)
from servoloop.policy import Call
from servoloop.results import (
    AliasMove,
    Decision,
    Deleted,
    FeedbackPage,
    FeedbackResult,
    Model,
    Prediction,
    Predictions,
    Rollout,
    Version,
    VersionChange,
    read_alias_move,
    read_decision,
    read_deleted,
    read_feedback,
    read_feedback_page,
    read_model,
    read_models,
    read_predictions,
    read_ready,
    read_rollout,
    read_version,
    read_version_change,
)

MODELS = Call("GET", "/v1/models", read_models)
READY = Call("GET", "/readyz", read_ready, answers=(200, 503), retried=False)

_GROUP = 500
# The service takes 1 MiB in one request that asks what became of each item.
_GROUP_BYTES = 1 << 20
_LINES = 16
_JSON = {"Content-Type": "application/json"}
_PICTURES = {"png": "image/png", "svg": "image/svg+xml"}


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


class FeedbackOptions(TypedDict, total=False):
    """What else is said of feedback: `kind` is label, or rating where there is one, unless it is given; `labelled_at`
    is when it was found to be so, now unless given; `supersedes` an event that counts no more."""

    kind: str | None
    source: str | None
    actor: str | None
    labelled_at: datetime | None
    supersedes: str | None
    idempotency_key: str | None


class FeedbackFilters(TypedDict, total=False):
    """Which events are wanted; `since` (included) and `until` (excluded) are when they were received."""

    model: str | None
    prediction_id: str | None
    external_id: str | None
    kind: str | None
    source: str | None
    since: datetime | None
    until: datetime | None


def feedback_item(
    prediction: Prediction | str | None,
    said: Mapping[str, object],
    external_id: str | None,
    model: str | None,
    options: FeedbackOptions,
) -> dict[str, object]:
    """Raises ValueError for a time without its zone."""
    prediction_id = prediction.prediction_id if isinstance(prediction, Prediction) else prediction
    item = {"prediction_id": prediction_id, "external_id": external_id, "model": model, **said, **options}
    return {name: _written(value) for name, value in item.items() if value is not None}


def feedback(item: Mapping[str, object], key: str) -> Call[tuple[FeedbackResult, ...]]:
    """`key`: sent again under it, the same is kept once, so that it may be tried again."""
    return Call("POST", "/v1/feedback", read_feedback, to_json(item), {**_JSON, "Idempotency-Key": key})


def feedback_lines(lines: Iterable[bytes], key: str) -> Call[tuple[FeedbackResult, ...]]:
    """Several items, each with its own outcome."""
    headers = {"Content-Type": "application/x-ndjson", "Idempotency-Key": key}
    return Call("POST", "/v1/feedback", read_feedback, b"\n".join(lines), headers)


def feedback_events(limit: int, cursor: str | None, filters: FeedbackFilters) -> Call[FeedbackPage]:
    wanted = {**filters, "limit": str(limit), "cursor": cursor}
    query = urlencode({name: _written(value) for name, value in wanted.items() if value is not None})
    return Call("GET", f"/v1/feedback?{query}", read_feedback_page)


class EvaluationOptions(TypedDict, total=False):
    """Which predictions are looked at: made within `window` (30m, 24h or 7d), or from `since` to `until`.

    `role`: answered, shadow or all; `slice`: those with this tag, name:value; `matured`: only those that have most of
    the labels that they will ever get; `by`: with the groups that differ in the value of this tag.
    """

    version: int | str | None
    window: str | None
    since: datetime | None
    until: datetime | None
    role: str | None
    slice: str | None
    matured: bool
    by: str | None


def evaluation(model: str, options: EvaluationOptions) -> Call[Evaluation]:
    return Call("GET", _asked(model, "evaluation", options), read_evaluation)


def evaluation_picture(model: str, form: str, options: EvaluationOptions) -> Call[bytes]:
    return _picture(_asked(model, "evaluation", options), form)


def drift(model: str, version: int | str | None, rows: int | None) -> Call[Drift]:
    return Call("GET", _asked(model, "drift", {"version": version, "rows": rows}), read_drift)


def drift_picture(model: str, form: str, version: int | str | None, rows: int | None) -> Call[bytes]:
    return _picture(_asked(model, "drift", {"version": version, "rows": rows}), form)


def _asked(model: str, what: str, options: Mapping[str, object]) -> str:
    wanted = {name: _written(value) for name, value in options.items() if value is not None and value is not False}
    query = urlencode({name: "true" if value is True else value for name, value in wanted.items()})
    path = f"{_path(model)}/{what}"
    return f"{path}?{query}" if query else path


def _picture(path: str, form: str) -> Call[bytes]:
    if form not in _PICTURES:
        raise ValueError(f"a picture is one of {', '.join(_PICTURES)}, got {form!r}")
    return Call("GET", path, read_picture, headers={"Accept": _PICTURES[form]})


class EvaluateOptions(TypedDict, total=False):
    """What is evaluated: `version`, the champion unless it is given, perhaps `against` another on the same rows; `name`
    is that of the rows, for people."""

    version: int | str | None
    against: int | str | None
    name: str | None


def evaluate(
    model: str,
    instances: Iterable[Instance],
    labels: Iterable[object],
    options: EvaluateOptions,
    on_row: Callable[[int], object],
) -> Call[EvaluationReport]:
    """Raises TypeError or ValueError for what can't be sent."""
    rows = zip(instances, labels, strict=True)
    lines = [to_json({"instance": form(instance), "label": label}) for instance, label in rows]

    def content() -> Iterator[bytes]:
        for start in range(0, len(lines), _LINES):
            yield b"\n".join(lines[start : start + _LINES]) + b"\n"
            on_row(min(start + _LINES, len(lines)))

    path = _asked(model, "evaluations", options)
    headers = {"Content-Type": "application/x-ndjson"}
    return Call("POST", path, read_report, content, headers, answers=(201,))


def evaluate_held_out(model: str, options: EvaluateOptions) -> Call[EvaluationReport]:
    wanted = {name: str(value) for name, value in options.items() if value is not None and name != "name"}
    body = to_json({"dataset": "held-out", **wanted})
    return Call("POST", f"{_path(model)}/evaluations", read_report, body, _JSON, answers=(201,))


def evaluations(model: str, version: int | str | None, limit: int, cursor: str | None) -> Call[EvaluationReports]:
    wanted = {"version": version, "limit": limit, "cursor": cursor}
    return Call("GET", _asked(model, "evaluations", wanted), read_reports)


def in_groups(items: Iterable[Mapping[str, object]]) -> Iterator[list[bytes]]:
    """The items as lines, so many together as one request takes. Raises TypeError or ValueError as `feedback_item`."""
    group: list[bytes] = []
    num_bytes = 0
    for item in items:
        line = to_json({name: _written(value) for name, value in item.items()})
        if group and (len(group) == _GROUP or num_bytes + len(line) >= _GROUP_BYTES):
            yield group
            group, num_bytes = [], 0
        group.append(line)
        num_bytes += len(line) + 1
    if group:
        yield group


def _written(value: object) -> object:
    if not isinstance(value, datetime):
        return value
    if value.tzinfo is None:
        raise ValueError(f"a time needs its zone, got {value.isoformat()}")
    return value.isoformat()


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


class RolloutOptions(TypedDict, total=False):
    """How a version is on trial; what is left out stays as it is. `stage` is shadow or canary, `share` from 0 to 1;
    `expected_stage` is the one that it must be at now."""

    stage: str | None
    share: float | None
    paused: bool | None
    policy: Mapping[str, object] | None
    expected_stage: str | None


def rollout(model: str) -> Call[Rollout]:
    return Call("GET", f"{_path(model)}/rollout", read_rollout)


def set_rollout(model: str, version: int | str, reason: str, options: RolloutOptions) -> Call[Rollout]:
    wanted = {name: value for name, value in options.items() if value is not None}
    body = to_json({"version": str(version), "reason": reason, **wanted})
    # As for an alias: a 503 says why it can't be loaded.
    return Call("PUT", f"{_path(model)}/rollout", read_rollout, body, _JSON, retried=False)


def promote(model: str, version: int | str | None, reason: str, expected: int | str | None) -> Call[Decision]:
    wanted = {"version": version, "expected": expected}
    return _decide(model, "promote", reason, wanted)


def roll_back(model: str, reason: str, expected: int | str | None) -> Call[Decision]:
    return _decide(model, "rollback", reason, {"expected": expected})


def _decide(model: str, verb: str, reason: str, wanted: Mapping[str, int | str | None]) -> Call[Decision]:
    said = {name: str(value) for name, value in wanted.items() if value is not None}
    # What was decided may have been done though no answer came, and is another thing when it is asked for again.
    return Call(
        "POST", f"{_path(model)}/{verb}", read_decision, to_json({"reason": reason, **said}), _JSON, retried=False
    )


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
