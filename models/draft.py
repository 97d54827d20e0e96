"""A manifest as its author writes it, still without `files`, `model` and `version`. Never imports torch."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from models.manifest import (
    MAX_MANIFEST_BYTES,
    WEIGHTS,
    BrokenCheckpoint,
    FileEntry,
    Manifest,
    parse_manifest,
)

_NOT_YET = FileEntry(sha256="0" * 64, size=0)


@dataclass(frozen=True, slots=True)
class Draft:
    """A checkpoint without its weights.

    `manifest` is complete but for its entry of the weights file, which `declared_weights` holds where the author gave
    one. `files` are the contents of all other files, by name.
    """

    manifest: Manifest
    files: dict[str, bytes]
    declared_weights: FileEntry | None

    def read(self, name: str) -> bytes:
        """The bytes of a file that preprocessing reads."""
        return self.files[name]

    def with_weights(self, data: bytes) -> Manifest:
        """The manifest of the checkpoint with these weights."""
        return self.manifest.model_copy(update={"files": {**self.manifest.files, WEIGHTS: FileEntry.of(data)}})


def read_draft(path: Path, *, model: str, version: int) -> Draft:
    """Read an author's manifest, and the files beside it that it names. Raises BrokenCheckpoint.

    The version is always `version`: a manifest that was copied, or that training wrote, may say another.
    """
    fields = _read_fields(path)
    if fields.setdefault("model", model) != model:
        raise BrokenCheckpoint(f"{path.name} says model {fields['model']!r}, not {model!r}")
    declared = fields.get("files", {})
    if not isinstance(declared, dict):
        raise BrokenCheckpoint(f"{path.name}: files is no object of name -> sha256 and size")
    files = {name: _read_beside(path, name) for name in sorted({*declared, *_named_by_steps(fields)} - {WEIGHTS})}
    entries = {name: FileEntry.of(data).model_dump() for name, data in files.items()}
    for name in declared.keys() & entries.keys():
        if declared[name] != entries[name]:
            raise BrokenCheckpoint(f"{name} is not the file that {path.name} names: its sha256 or size differs")
    entries[WEIGHTS] = declared.get(WEIGHTS, _NOT_YET.model_dump())
    manifest = parse_manifest(orjson.dumps({**fields, "version": version, "files": entries}))
    return Draft(manifest, files, manifest.files[WEIGHTS] if WEIGHTS in declared else None)


def _read_fields(path: Path) -> dict[str, Any]:
    data = _read(path)
    if len(data) > MAX_MANIFEST_BYTES:
        raise BrokenCheckpoint(f"{path.name} is larger than {MAX_MANIFEST_BYTES} bytes")
    try:
        fields = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise BrokenCheckpoint(f"{path.name} is no JSON: {error}") from None
    if not isinstance(fields, dict):
        raise BrokenCheckpoint(f"{path.name} holds no JSON object")
    return fields


def _named_by_steps(fields: Mapping[str, Any]) -> Iterator[str]:
    """The files that preprocess steps read. What is wrong with the steps is for the manifest's schema to say."""
    steps = fields.get("preprocess")
    for step in steps if isinstance(steps, list) else ():
        if isinstance(step, dict) and isinstance(name := step.get("file"), str):
            yield name


def _read_beside(manifest: Path, name: str) -> bytes:
    if Path(name).name != name:
        raise BrokenCheckpoint(f"{name!r} must be the plain name of a file beside {manifest.name}")
    return _read(manifest.parent / name)


def _read(path: Path) -> bytes:
    if not path.is_file():
        raise BrokenCheckpoint(f"there is no file {path}")
    try:
        return path.read_bytes()
    except OSError as error:
        raise BrokenCheckpoint(f"{path} can't be read: {error.strerror}") from None
