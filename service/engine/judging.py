"""What back ends are held against: PyTorch in float32, and promise 1.

Shapes: n rows, O outputs.
"""

import numpy as np

from models.manifest import Manifest
from models.metrics import Undefined, r2
from models.preprocess.tensors import Array
from service.domain import Precision
from service.engine.crew import Stint
from service.engine.heldout import Rows
from service.engine.replica import Replica

BATCH = 32
# Promise 1, of the logits' scale.
TOLERANCES = {Precision.FLOAT32: 1e-5, Precision.BFLOAT16: 2e-2, Precision.FLOAT16: 2e-2}
_ALONE = 12


def compare(found: Array, expected: Array, truth: Array | None, manifest: Manifest) -> tuple[float, float | None]:
    """The metric's difference in points, and the share of the same labels; None where there are no labels.

    Without a truth, what float32 says is taken for it, but for rows of which float32 is unsure.
    """
    task, scale = manifest.task, max(1e-6, float(np.abs(expected).max()))
    if not np.isfinite(found).all():
        return -100.0, None
    if task in ("multiclass", "binary"):
        labels, wanted = (_labels(logits, manifest) for logits in (found, expected))
        agreement = float((labels == wanted).mean())
        if truth is not None:
            return 100 * float((labels == truth).mean() - (wanted == truth).mean()), agreement
        clear = _margins(expected, manifest) > 2 * TOLERANCES[Precision.BFLOAT16] * scale
        return (-100 * float((labels != wanted)[clear].mean()) if clear.any() else 0.0), agreement
    if task == "regression" and truth is not None and manifest.target is not None:
        target = manifest.target
        values = [logits[:, 0].astype(np.float64) * target.std + target.mean for logits in (found, expected)]
        try:
            return 100 * (r2(values[0], truth) - r2(values[1], truth)), None
        except Undefined:
            pass
    return -100 * float(np.abs(found - expected).mean()) / scale, None


def _labels(logits: Array, manifest: Manifest) -> Array:
    if manifest.task == "binary":
        labels: Array = (logits[:, 0] >= np.log(manifest.threshold / (1 - manifest.threshold))).astype(np.int64)
        return labels
    best: Array = logits.argmax(axis=1)
    return best


def _margins(logits: Array, manifest: Manifest) -> Array:
    if manifest.task == "binary":
        away: Array = 2 * np.abs(logits[:, 0] - np.log(manifest.threshold / (1 - manifest.threshold)))
        return away
    ordered = np.sort(logits, axis=1)
    margins: Array = ordered[:, -1] - ordered[:, -2]
    return margins


def break_of_promise(replica: Replica, rows: Rows, tolerance: float) -> str | None:
    """What breaks promise 1, on a few rows alone and in batches; None where nothing does."""
    order = np.random.default_rng(1).permutation(len(rows.rows))
    few = [rows.rows[index] for index in order[:_ALONE]]
    others = [rows.rows[index] for index in order[_ALONE : _ALONE + BATCH - len(few)]]
    alone = np.concatenate([replica.run([row], ragged=rows.ragged)[0] for row in few])
    scale = max(1e-6, float(np.abs(alone).max()))
    for batch in (few, [*few, *others], few[:3]):
        count = min(len(batch), len(few))
        together = replica.run(batch, ragged=rows.ragged)[0][:count]
        apart = float(np.abs(together - alone[:count]).max()) / scale
        if not apart <= tolerance:
            return f"a row's answer is {apart:.1e} of the scale away in a batch of {len(batch)}, {tolerance:g} allowed"
    return None


def break_side_by_side(stint: Stint, expected: Array, tolerance: float) -> str | None:
    """What batches beside one another answered wrongly; None where nothing was."""
    scale = max(1e-6, float(np.abs(expected).max()))
    apart = float(np.abs(np.stack([share.answer for share in stint.shares]) - expected).max()) / scale
    if apart <= tolerance:
        return None
    return f"an answer is {apart:.1e} of the scale away in {len(stint.shares)} batches at once, {tolerance:g} allowed"


def outputs_of(replica: Replica, rows: Rows) -> Array:
    """(n, O), in batches of similar length."""
    order = np.argsort([len(row) for row in rows.rows], kind="stable") if rows.ragged else np.arange(len(rows.rows))
    parts = [
        replica.run([rows.rows[index] for index in order[start : start + BATCH]], ragged=rows.ragged)[0]
        for start in range(0, len(order), BATCH)
    ]
    outputs = np.concatenate(parts)
    found = np.empty_like(outputs)
    found[order] = outputs
    return found
