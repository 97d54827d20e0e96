"""reference.json of a version that was retrained: of the world that it was retrained for, not of the one before."""

from dataclasses import dataclass

import numpy as np
import torch

from models.feedback.rows import LabelledRows
from models.raw_rows import joined, take
from models.training import evaluate, reference
from models.training.judging import Version
from models.training.originals import Part

LEAST_ROWS = 200
"""Of fewer labelled rows a histogram would follow chance: then the test set is what the version is compared with."""
_LEAST_JUDGED = 100


@dataclass(frozen=True, slots=True)
class LabelledParts:
    """Labelled rows that were learned from, and others that were not; and the frozen test set, where there is one."""

    trained: LabelledRows
    set_apart: LabelledRows
    test: Part | None


def build(new: Version, parts: LabelledParts, device: torch.device) -> bytes | None:
    """Return the file's bytes; None where there are no rows to make them of.

    Inputs and answers are those of the latest half of the labelled rows, since ids are in the order of time: where the
    world changed, the older half says how it was. How sure the version is, and how often right, is counted on rows that
    it did not learn from.
    """
    test, set_apart = parts.test, parts.set_apart
    held = Part("feedback", set_apart.rows, set_apart.targets)
    both = _together([part for part in (test, held) if part is not None and len(part.targets)])
    seen = _latest([rows for rows in (parts.trained, set_apart) if len(rows)])
    if seen is None:
        seen = both
    judged = held if len(held.targets) >= _LEAST_JUDGED else both
    if seen is None or judged is None:
        return None
    answers = new.answers(seen.rows, device)
    of_judged = answers if judged is seen else new.answers(judged.rows, device)
    manifest, tensors = new.manifest, new.preprocess(seen.rows)
    return reference.build(manifest.input, manifest.labels, seen.rows, tensors, answers, (of_judged, judged.targets))


def _latest(given: list[LabelledRows]) -> Part | None:
    """The latest half, but LEAST_ROWS at least; None where there are not so many."""
    count = sum(map(len, given))
    if count < LEAST_ROWS:
        return None
    whole = _together([Part("feedback", rows.rows, rows.targets) for rows in given])
    assert whole is not None
    latest = np.argsort(np.concatenate([rows.ids for rows in given]))[-max(LEAST_ROWS, count // 2) :]
    return Part(whole.source, take(whole.rows, latest), whole.targets[latest])


def _together(parts: list[Part]) -> Part | None:
    if not parts:
        return None
    targets: evaluate.Array = np.concatenate([part.targets for part in parts])
    return Part(parts[0].source, joined([part.rows for part in parts]), targets)
