"""What INFER, RESULT and FAILED frames hold: requests for rows, and their answers, as many as travel together.

INFER     {"model", "version", "priority"?, "alone"?}; an int64 (n, 3) of each request's id, rows and microseconds left;
          the rows of all, one request after another; the rows' lengths, where they are sequences (models.preprocess)
RESULT    {"failures"?: {request id: {row: reason}}}; an int64 (n, 4) of each answer's id, rows and microseconds in the
          queue and in its batch; the outputs of all, (rows, k)
FAILED    what one request is answered with instead, under its id:
          {"error": "queue_full", "queued", "limit", "unit", "wait"} | {"error": "overloaded", "wait"} |
          {"error": "deadline", "where"} | {"error": "not_ready", "reason"} | {"error": "internal"}

A frame costs its sender and its reader the same however many it holds, and an array is one piece of memory: so
requests alike that are sent in one turn of the event loop share a frame, and so do a turn's answers of one width.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from models.preprocess import Tensors
from models.preprocess.tensors import Array
from service.domain import DEFAULT_PRIORITY, LOWEST_PRIORITY, Ref
from service.errors import (
    BrokenContract,
    DeadlineExceeded,
    NotLoaded,
    NotReady,
    Overloaded,
    PredictionFailed,
    QueueFull,
    ServoloopError,
)
from service.wire.frames import Frame, Kind

MOST_BYTES = 1 << 20
"""Of rows, or outputs, that share a frame: it is copied together and kept as one piece, and large ones gain nothing."""

_MICROSECONDS = 1e6


class Outputs(NamedTuple):
    """What was computed of a request: (n, k) float32, why rows failed, and the seconds in the queue and in its batch.

    `quarantined` are those of the failed rows that no engine was given.
    """

    values: Array
    failures: Mapping[int, str]
    queue_seconds: float
    compute_seconds: float
    quarantined: frozenset[int] = frozenset()


class InferRequest(NamedTuple):
    """One request: its rows, at least one, and the seconds that it has left."""

    request_id: int
    time_left: float
    tensors: Tensors


class InferResult(NamedTuple):
    """The answer to one request."""

    request_id: int
    outputs: Outputs


class InferHeader(NamedTuple):
    """What all requests of one frame have in common. With a `digest` there is one, of a row that runs alone."""

    ref: Ref
    priority: int = DEFAULT_PRIORITY
    digest: bytes = b""


def infer_frame(header: InferHeader, requests: Sequence[InferRequest]) -> Frame:
    """Requests for rows of one dtype and one shape, but for lengths."""
    meta: dict[str, Any] = {"model": header.ref.model, "version": header.ref.version}
    if header.priority != DEFAULT_PRIORITY:
        meta["priority"] = header.priority
    if header.digest:
        meta["alone"] = header.digest.hex()
    heads = [(one.request_id, len(one.tensors), int(_MICROSECONDS * one.time_left)) for one in requests]
    arrays = [np.array(heads, np.int64), _joined([one.tensors.values for one in requests])]
    lengths = [one.tensors.lengths for one in requests if one.tensors.lengths is not None]
    return Frame(Kind.INFER, meta=meta, arrays=[*arrays, _joined(lengths)] if lengths else arrays)


def requests_in(frame: Frame) -> tuple[InferHeader, list[InferRequest]]:
    """The requests of an INFER; their rows are views of the frame's.

    Raises BrokenContract, KeyError, TypeError or ValueError.
    """
    meta = frame.meta
    header = InferHeader(
        Ref(meta["model"], meta["version"]),
        meta.get("priority", DEFAULT_PRIORITY),
        bytes.fromhex(meta.get("alone", "")),
    )
    if header.priority not in range(LOWEST_PRIORITY + 1):
        raise BrokenContract("priority", expected=f"0 to {LOWEST_PRIORITY}", got=header.priority)
    heads, values, *lengths = frame.arrays
    found = _heads(heads, 3)
    num_rows = len(lengths[0]) if lengths else len(values)
    if header.digest and num_rows > 1:
        raise BrokenContract("rows to run alone", expected=1, got=num_rows)
    in_time = all(rows > 0 and left >= 0 for _, rows, left in found)
    if not found or not in_time or sum(rows for _, rows, _ in found) != num_rows:
        raise BrokenContract("INFER", expected=f"{num_rows} rows of requests in time", got=found[:3])
    parts = _sequences(found, values, lengths[0]) if lengths else _dense(found, values)
    return header, [
        InferRequest(request_id, left / _MICROSECONDS, tensors)
        for (request_id, _, left), tensors in zip(found, parts, strict=True)
    ]


def result_frames(results: Iterable[InferResult]) -> list[Frame]:
    """Few frames: outputs of one width share one, up to MOST_BYTES."""
    alike: dict[tuple[int, ...], list[InferResult]] = {}
    num_bytes: dict[tuple[int, ...], int] = {}
    frames = []
    for result in results:
        values = result.outputs.values
        width, size = values.shape[1:], values.nbytes
        if width in alike and num_bytes[width] + size > MOST_BYTES:
            frames.append(_result_frame(alike.pop(width)))
        if width not in alike:
            alike[width], num_bytes[width] = [], 0
        alike[width].append(result)
        num_bytes[width] += size
    return frames + [_result_frame(group) for group in alike.values()]


def results_in(frame: Frame) -> list[InferResult]:
    """The answers of a RESULT; outputs are views of the frame's. Raises BrokenContract, TypeError or ValueError."""
    heads, values = frame.arrays
    found = _heads(heads, 4)
    if not found or values.ndim < 2 or sum(rows for _, rows, _, _ in found) != len(values):
        raise BrokenContract("RESULT", expected="answers of as many rows as there are", got=(found[:3], values.shape))
    failures = frame.meta.get("failures", {})
    if not isinstance(failures, dict):
        raise BrokenContract("failures", expected="an object", got=type(failures).__name__)
    results, start = [], 0
    for request_id, rows, queue, compute in found:
        part, start = values[start : start + rows], start + rows
        why = {int(row): reason for row, reason in dict(failures.get(str(request_id), {})).items()} if failures else {}
        outputs = Outputs(part, why, queue / _MICROSECONDS, compute / _MICROSECONDS)
        results.append(InferResult(request_id, outputs))
    return results


def failed_frame(request_id: int, error: ServoloopError) -> Frame:
    """What a request that can't be computed is answered with."""
    return Frame(Kind.FAILED, request_id, meta=_facts(error))


def error_in(frame: Frame, ref: Ref) -> ServoloopError:
    """The error of a FAILED, which is about this version. Raises KeyError."""
    facts = frame.meta
    match facts.get("error"):
        case "queue_full":
            return QueueFull(ref, facts["queued"], facts["limit"], facts["unit"], facts["wait"])
        case "overloaded":
            return Overloaded(ref, facts["wait"])
        case "deadline":
            return DeadlineExceeded(ref, facts["where"])
        case "not_ready":
            return NotLoaded(ref, facts["reason"])
        case _:
            return PredictionFailed(ref, "the engine failed")


def _facts(error: ServoloopError) -> dict[str, Any]:
    match error:
        case QueueFull():
            facts = {"queued": error.queued, "limit": error.limit, "unit": error.unit, "wait": error.wait}
            return {"error": "queue_full", **facts}
        case Overloaded():
            return {"error": "overloaded", "wait": error.wait}
        case DeadlineExceeded():
            return {"error": "deadline", "where": error.where}
        case NotReady():
            return {"error": "not_ready", "reason": error.reason}
        case _:
            return {"error": "internal"}


def _result_frame(results: Sequence[InferResult]) -> Frame:
    heads = [
        (
            request_id,
            len(outputs.values),
            int(_MICROSECONDS * outputs.queue_seconds),
            int(_MICROSECONDS * outputs.compute_seconds),
        )
        for request_id, outputs in results
    ]
    failures = {
        str(request_id): {str(index): reason for index, reason in outputs.failures.items()}
        for request_id, outputs in results
        if outputs.failures
    }
    meta = {"failures": failures} if failures else {}
    values = _joined([outputs.values for _, outputs in results])
    return Frame(Kind.RESULT, meta=meta, arrays=[np.array(heads, np.int64), values])


def _joined(arrays: Sequence[Array]) -> Array:
    """One after another; what is alone is not copied."""
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)


def _heads(array: Array, width: int) -> list[list[int]]:
    if array.dtype != np.int64 or array.ndim != 2 or array.shape[1] != width:
        raise BrokenContract("heads of a frame", expected=f"int64 (n, {width})", got=f"{array.dtype} {array.shape}")
    heads: list[list[int]] = array.tolist()
    return heads


def _dense(heads: Sequence[Sequence[int]], values: Array) -> list[Tensors]:
    parts, start = [], 0
    for _, rows, _ in heads:
        parts.append(Tensors(values[start : start + rows]))
        start += rows
    return parts


def _sequences(heads: Sequence[Sequence[int]], values: Array, lengths: Array) -> list[Tensors]:
    if lengths.min() < 0 or lengths.sum() != len(values):
        raise BrokenContract("lengths", expected=f"{len(values)} elements in all", got=lengths[:3].tolist())
    parts, row, start = [], 0, 0
    for _, rows, _ in heads:
        of_request = lengths[row : row + rows]
        end = start + int(of_request.sum())
        parts.append(Tensors(values[start:end], of_request))
        row, start = row + rows, end
    return parts
