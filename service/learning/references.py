"""What versions are compared with: the reference of each checkpoint, and how its inputs become the numbers watched."""

import io
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from models.checkpoint_files import CheckpointFiles
from models.inputs import InputContract
from models.manifest import BrokenCheckpoint, Task
from models.preprocess import Preprocessor, RawRows
from models.reference import REFERENCE_FILE, Array, Reference, features, parse_reference
from service.domain import Ref
from service.store.base import Input

log = logging.getLogger(__name__)

_PATIENCE_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Watched:
    """A version with its reference; `lengths` counts the tokens of texts."""

    task: Task
    contract: InputContract
    reference: Reference
    lengths: Callable[[RawRows], Array] | None = None

    def features(self, inputs: Sequence[Input]) -> dict[str, Array]:
        """The numbers (n,) by which inputs are watched; of inputs that came as callers give them."""
        rows: RawRows = [_row(one) for one in inputs]  # type: ignore[assignment]
        found = features(self.contract, rows, None if self.lengths is None else self.lengths(rows))
        # A version that is older than its reference, or the reverse, may name others.
        return {name: values for name, values in found.items() if name in self.reference.inputs}


class References:
    """Reads them from the model roots; each once, since checkpoints are immutable."""

    def __init__(self, roots: Sequence[Path], clock: Callable[[], float]) -> None:
        """`clock` in seconds."""
        self._roots = roots
        self._clock = clock
        self._known: dict[Ref, Watched] = {}
        self._missing: dict[Ref, tuple[float, str]] = {}

    def of(self, ref: Ref) -> Watched | str:
        """A version with its reference, or why it has none."""
        if ref in self._known:
            return self._known[ref]
        looked_at, reason = self._missing.get(ref, (-_PATIENCE_SECONDS, ""))
        if self._clock() - looked_at < _PATIENCE_SECONDS:
            return reason
        try:
            watched = self._read(ref)
        except (BrokenCheckpoint, ValueError, OSError) as error:
            reason = f"its reference can't be read: {error}"
            log.warning("a version's reference can't be read", extra={"version": str(ref), "reason": str(error)})
        else:
            if watched is not None:
                self._known[ref] = watched
                return watched
            reason = f"its checkpoint has no {REFERENCE_FILE}"
        self._missing[ref] = self._clock(), reason
        return reason

    def _read(self, ref: Ref) -> Watched | None:
        for root in self._roots:
            folder = root / ref.model / str(ref.version)
            if not folder.is_dir():
                continue
            files = CheckpointFiles(folder)
            manifest = files.manifest
            if REFERENCE_FILE not in manifest.files:
                return None
            reference = parse_reference(files.read(REFERENCE_FILE))
            if manifest.input.kind != "text":
                return Watched(manifest.task, manifest.input, reference)
            return Watched(
                manifest.task, manifest.input, reference, _tokens(Preprocessor(manifest.preprocess, files.read))
            )
        raise ValueError("its folder is not there")


def _tokens(preprocess: Preprocessor) -> Callable[[RawRows], Array]:
    def lengths(rows: RawRows) -> Array:
        found = preprocess(rows).lengths
        assert found is not None  # texts become sequences
        return found

    return lengths


def _row(one: Input) -> str | Array:
    if one.form == "text":
        return one.data.decode()
    row: Array = np.load(io.BytesIO(one.data), allow_pickle=False)
    return row
