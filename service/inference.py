"""What INFER and RESULT frames hold: requests for rows, and their answers, as many as travel together.

INFER     {"model", "version", "priority"?, "alone"?}; an int64 (n, 3) of each request's id, rows and microseconds left;
          the rows of all, one request after another; the rows' lengths, where they are sequences (models.preprocess)
RESULT    {"failures"?: {request id: {row: reason}}}; an int64 (n, 4) of each answer's id, rows and microseconds in the
          queue and in its batch; the outputs of all, (rows, k)

A frame costs its sender and its reader the same however many it holds, and an array is one piece of memory: so
requests alike that are sent in one turn of the event loop share a frame, and so do a turn's answers of one width.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from models.preprocess import Tensors
from models.preprocess.tensors import Array
from service.domain import DEFAULT_PRIORITY, LOWEST_PRIORITY, Ref
from service.errors import BrokenContract
from service.wire import Frame, Kind

MOST_BYTES = 1 << 20
"""Of rows, or outputs, that share a frame: it is copied together and kept as one piece, and large ones gain nothing."""

_MICROSECONDS = 1e6


class Asked(NamedTuple):
    """One request: its rows, at least one, and the seconds that it has left."""

    request_id: int
    time_left: float
    tensors: Tensors


class Answered(NamedTuple):
    """One answer: (rows, k) outputs, why rows failed, and its seconds in the queue and in its batch."""

    request_id: int
    outputs: Array
    failures: Mapping[int, str]
    queue_seconds: float
    compute_seconds: float


class Asking(NamedTuple):
    """What all requests of one frame have in common. With a `digest` there is one, of a row that runs alone."""

    ref: Ref
    priority: int = DEFAULT_PRIORITY
    digest: bytes = b""


def infer_frame(asking: Asking, requests: Sequence[Asked]) -> Frame:
    """Requests for rows of one dtype and one shape, but for lengths."""
    meta: dict[str, Any] = {"model": asking.ref.model, "version": asking.ref.version}
    if asking.priority != DEFAULT_PRIORITY:
        meta["priority"] = asking.priority
    if asking.digest:
        meta["alone"] = asking.digest.hex()
    heads = [(one.request_id, len(one.tensors), int(_MICROSECONDS * one.time_left)) for one in requests]
    arrays = [np.array(heads, np.int64), _joined([one.tensors.values for one in requests])]
    lengths = [one.tensors.lengths for one in requests if one.tensors.lengths is not None]
    return Frame(Kind.INFER, meta=meta, arrays=[*arrays, _joined(lengths)] if lengths else arrays)


def asked_in(frame: Frame) -> tuple[Asking, list[Asked]]:
    """The requests of an INFER; their rows are views of the frame's.

    Raises BrokenContract, KeyError, TypeError or ValueError.
    """
    meta = frame.meta
    asking = Asking(
        Ref(meta["model"], meta["version"]),
        meta.get("priority", DEFAULT_PRIORITY),
        bytes.fromhex(meta.get("alone", "")),
    )
    if asking.priority not in range(LOWEST_PRIORITY + 1):
        raise BrokenContract("priority", expected=f"0 to {LOWEST_PRIORITY}", got=asking.priority)
    heads, values, *lengths = frame.arrays
    found = _heads(heads, 3)
    num_rows = len(lengths[0]) if lengths else len(values)
    if asking.digest and num_rows > 1:
        raise BrokenContract("rows to run alone", expected=1, got=num_rows)
    in_time = all(rows > 0 and left >= 0 for _, rows, left in found)
    if not found or not in_time or sum(rows for _, rows, _ in found) != num_rows:
        raise BrokenContract("INFER", expected=f"{num_rows} rows of requests in time", got=found[:3])
    parts = _sequences(found, values, lengths[0]) if lengths else _dense(found, values)
    return asking, [
        Asked(request_id, left / _MICROSECONDS, tensors)
        for (request_id, _, left), tensors in zip(found, parts, strict=True)
    ]


def result_frames(answers: Iterable[Answered]) -> list[Frame]:
    """Few frames: outputs of one width share one, up to MOST_BYTES."""
    alike: dict[tuple[int, ...], list[Answered]] = {}
    num_bytes: dict[tuple[int, ...], int] = {}
    frames = []
    for answer in answers:
        width, size = answer.outputs.shape[1:], answer.outputs.nbytes
        if width in alike and num_bytes[width] + size > MOST_BYTES:
            frames.append(_result_frame(alike.pop(width)))
        if width not in alike:
            alike[width], num_bytes[width] = [], 0
        alike[width].append(answer)
        num_bytes[width] += size
    return frames + [_result_frame(group) for group in alike.values()]


def answers_in(frame: Frame) -> list[Answered]:
    """The answers of a RESULT; outputs are views of the frame's. Raises BrokenContract, TypeError or ValueError."""
    heads, outputs = frame.arrays
    found = _heads(heads, 4)
    if not found or outputs.ndim < 2 or sum(rows for _, rows, _, _ in found) != len(outputs):
        raise BrokenContract("RESULT", expected="answers of as many rows as there are", got=(found[:3], outputs.shape))
    failures = frame.meta.get("failures", {})
    if not isinstance(failures, dict):
        raise BrokenContract("failures", expected="an object", got=type(failures).__name__)
    answers, start = [], 0
    for request_id, rows, queue, compute in found:
        part, start = outputs[start : start + rows], start + rows
        why = {int(row): reason for row, reason in dict(failures.get(str(request_id), {})).items()} if failures else {}
        answers.append(Answered(request_id, part, why, queue / _MICROSECONDS, compute / _MICROSECONDS))
    return answers


def _result_frame(answers: Sequence[Answered]) -> Frame:
    heads = [
        (
            one.request_id,
            len(one.outputs),
            int(_MICROSECONDS * one.queue_seconds),
            int(_MICROSECONDS * one.compute_seconds),
        )
        for one in answers
    ]
    failures = {
        str(one.request_id): {str(index): reason for index, reason in one.failures.items()}
        for one in answers
        if one.failures
    }
    meta = {"failures": failures} if failures else {}
    return Frame(Kind.RESULT, meta=meta, arrays=[np.array(heads, np.int64), _joined([one.outputs for one in answers])])


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
