"""Checkpoints that want to do harm: each is written beside good ones, and none may be served.

Every one is a good checkpoint with one thing changed, and, where a digest would give it away, a manifest that vouches.
"""

import hashlib
import json
import os
import pickle
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

from models.manifest import MANIFEST, WEIGHTS
from tests import checkpoints

MARK = "executed"
"""The file that a checkpoint would make if code in it ran."""

Manifest = dict[str, Any]


class _Bomb:
    def __init__(self, mark: Path) -> None:
        self._mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.system, (f"touch {self._mark}",))


def _manifest(folder: Path) -> Manifest:
    found: Manifest = json.loads((folder / MANIFEST).read_bytes())
    return found


def _write(folder: Path, manifest: Manifest) -> None:
    (folder / MANIFEST).write_text(json.dumps(manifest))


def _vouch(folder: Path, name: str, data: bytes) -> None:
    """Replace a file, and have the manifest say that it is right."""
    (folder / name).write_bytes(data)
    manifest = _manifest(folder)
    manifest["files"][name] = {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data)}
    _write(folder, manifest)


def _with_header(
    folder: Path, header: dict[str, Any] | bytes, data: bytes = bytes(16), length: int | None = None
) -> None:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    _vouch(folder, WEIGHTS, struct.pack("<Q", len(text) if length is None else length) + text + data)


def _edited(change: Callable[[Manifest], object]) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        manifest = _manifest(folder)
        change(manifest)
        _write(folder, manifest)

    return apply


def _text_edited(old: str, new: str) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        text = (folder / MANIFEST).read_text()
        assert old in text
        (folder / MANIFEST).write_text(text.replace(old, new, 1))

    return apply


def _tensor(begin: int, end: int, shape: list[Any], dtype: str = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def _elsewhere(folder: Path) -> Path:
    """A place outside of every model root."""
    place = folder.parents[2] / "elsewhere"
    place.mkdir(exist_ok=True)
    return place


def _linked(name: str) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        outside = _elsewhere(folder) / f"{folder.parent.name}-{name}"
        (folder / name).rename(outside)
        (folder / name).symlink_to(outside)

    return apply


def _linked_version(folder: Path) -> None:
    outside = _elsewhere(folder) / folder.parent.name
    folder.rename(outside)
    folder.symlink_to(outside)


def _linked_model(folder: Path) -> None:
    outside = _elsewhere(folder) / folder.parent.name
    folder.parent.rename(outside)
    folder.parent.symlink_to(outside)


def _sparse(folder: Path) -> None:
    manifest = _manifest(folder)
    manifest["files"][WEIGHTS]["size"] = 1 << 42
    _write(folder, manifest)
    os.truncate(folder / WEIGHTS, 1 << 42)


def _fifo(folder: Path) -> None:
    (folder / WEIGHTS).unlink()
    os.mkfifo(folder / WEIGHTS)


def _loop(folder: Path) -> None:
    for name in (WEIGHTS, MANIFEST):
        (folder / name).unlink()
    folder.rmdir()
    folder.symlink_to(folder.name)


def _pickled(folder: Path) -> None:
    _vouch(folder, WEIGHTS, pickle.dumps(_Bomb(_elsewhere(folder) / MARK)))


def _pickled_in_zip(folder: Path) -> None:
    import torch

    outside = _elsewhere(folder) / "pickle.pt"
    torch.save(_Bomb(_elsewhere(folder) / MARK), outside)
    _vouch(folder, WEIGHTS, outside.read_bytes())


WEIGHT, BIAS = "output.weight", "output.bias"

# What is done to a model of four numbers, and what the reason must say.
OF_NUMBERS: dict[str, tuple[Callable[[Path], object], str]] = {
    "pickle": (_pickled, "header"),
    "zip-of-pickle": (_pickled_in_zip, "header"),
    "header-past-end": (lambda at: _with_header(at, {}, length=1 << 62), "past the end of the file"),
    "header-no-json": (lambda at: _with_header(at, b"{" * 64), "no JSON"),
    "header-deep": (lambda at: _with_header(at, b"[" * 200_000 + b"]" * 200_000), "no JSON"),
    "header-a-list": (lambda at: _with_header(at, b"[]"), "no JSON object"),
    "header-twice": (
        lambda at: _with_header(
            at,
            b'{"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16]},"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}}',
        ),
        "twice",
    ),
    "overlapping": (
        lambda at: _with_header(at, {"a": _tensor(0, 16, [4]), "b": _tensor(8, 24, [4])}, bytes(24)),
        "begins at byte",
    ),
    "with-a-gap": (lambda at: _with_header(at, {"a": _tensor(0, 4, [1]), "b": _tensor(12, 16, [1])}), "begins at byte"),
    "past-the-data": (lambda at: _with_header(at, {"a": _tensor(0, 1 << 40, [1 << 38])}), "tensors end at byte"),
    "backwards": (lambda at: _with_header(at, {"a": _tensor(16, 0, [4])}), "spans -16 bytes"),
    "negative-shape": (lambda at: _with_header(at, {"a": _tensor(0, 16, [-2, -2])}), "not whole and positive"),
    "shape-overflows": (lambda at: _with_header(at, {"a": _tensor(0, 16, [1 << 62, 4])}), "its shape and dtype need"),
    "shape-of-floats": (lambda at: _with_header(at, {"a": _tensor(0, 16, [4.0])}), "not whole and positive"),
    "shape-of-words": (lambda at: _with_header(at, {"a": _tensor(0, 16, ["4"])}), "not whole and positive"),
    "dtype-unknown": (lambda at: _with_header(at, {"a": _tensor(0, 16, [4], "OBJ")}), "malformed"),
    "dtype-a-list": (
        lambda at: _with_header(at, {"a": {"dtype": [], "shape": [4], "data_offsets": [0, 16]}}),
        "malformed",
    ),
    "other-tensors": (lambda at: _with_header(at, {"a": _tensor(0, 16, [4])}), "doesn't fit the architecture"),
    "huge-zero-tensor": (
        lambda at: _with_header(at, {"a": _tensor(0, 0, [0, 1 << 62])}, b""),
        "doesn't fit the architecture",
    ),
    "linked-weights": (_linked(WEIGHTS), "leads out"),
    "linked-manifest": (_linked(MANIFEST), "leads out"),
    "linked-version": (_linked_version, "leads out"),
    "linked-model": (_linked_model, "leads out"),
    "linked-to-itself": (_loop, "link"),
    "endless-weights": (_sparse, "memory"),
    "pipe-for-weights": (_fifo, "no regular file"),
    "size-too-small": (_edited(lambda m: m["files"][WEIGHTS].update(size=3)), "bytes"),
    "size-too-large": (_edited(lambda m: m["files"][WEIGHTS].update(size=1 << 60)), "bytes"),
    "size-of-a-hundred-digits": (_text_edited('"size": ', f'"size": {"9" * 100}'), "bytes"),
    "other-digest": (_edited(lambda m: m["files"][WEIGHTS].update(sha256="0" * 64)), "sha256"),
    "file-outside": (_edited(lambda m: m["files"].update({"../../../etc/passwd": m["files"][WEIGHTS]})), "files"),
    "file-absolute": (_edited(lambda m: m["files"].update({"/etc/passwd": m["files"][WEIGHTS]})), "files"),
    "other-name": (_edited(lambda m: m.update(model="clothes")), "the manifest says clothes/1"),
    "name-of-a-path": (_edited(lambda m: m.update(model="../clothes")), "model"),
    "version-of-a-hundred-digits": (_text_edited('"version": 1', f'"version": {"1" * 100}'), "version"),
    "manifest-deep": (_edited(lambda m: m.update(lineage=_deep(900))), "nested too deeply"),
    "manifest-deeper": (lambda at: (at / MANIFEST).write_bytes(b"[" * 1_000_000), "no JSON"),
    "manifest-a-list": (lambda at: (at / MANIFEST).write_bytes(b"[1]"), "manifest.json"),
    "manifest-of-nan": (_text_edited('"minimum": -100.0', '"minimum": NaN'), "no JSON"),
    "manifest-of-nul": (lambda at: (at / MANIFEST).write_bytes(bytes(100)), "no JSON"),
    "manifest-of-bytes": (lambda at: (at / MANIFEST).write_bytes(b'{"model": "\xff"}'), "no JSON"),
    "manifest-too-large": (lambda at: (at / MANIFEST).write_bytes(b" " * (5 << 20)), "larger than"),
    "manifest-of-other-types": (_edited(lambda m: m.update(labels={"hot": 1})), "labels"),
    "key-twice": (_text_edited('"version": 1', '"version": 2, "version": 1'), "twice"),
    "unknown-key": (_edited(lambda m: m.update(auto_map={"AutoModel": "evil.Model"})), "auto_map"),
    "unknown-family": (_edited(lambda m: m["architecture"].update(family="os.system")), "unknown architecture"),
    "enormous-layer": (
        _edited(lambda m: m["architecture"]["config"].update(hidden=[1 << 24, 1 << 24])),
        "doesn't fit the architecture",
    ),
    "beyond-any-layer": (
        _edited(lambda m: m["architecture"]["config"].update(hidden=[10**30])),
        "config of architecture",
    ),
    "a-million-layers": (
        _edited(lambda m: m["architecture"]["config"].update(hidden=[1] * 1_000_000)),
        "config of architecture",
    ),
    "enormous-input": (_edited(lambda m: m["input"].update(shape=[1 << 20] * 6)), "input"),
    "endless-padding": (_edited(lambda m: m.update(preprocess=[{"step": "pad", "length": 1 << 60}])), "preprocess"),
    "a-million-steps": (
        _edited(lambda m: m.update(preprocess=[{"step": "scale", "factor": 1}] * 100_000)),
        "preprocess",
    ),
    "weights-of-nan": (lambda at: _poison(at), "NaN"),
}


def _deep(depth: int) -> dict[str, Any]:
    nested: dict[str, Any] = {}
    for _ in range(depth):
        nested = {"a": nested}
    return nested


def _poison(folder: Path) -> None:
    data = bytearray((folder / WEIGHTS).read_bytes())
    data[-4:] = b"\x00\x00\xc0\x7f"
    _vouch(folder, WEIGHTS, bytes(data))


def _tokenizer(**parts: Any) -> Callable[[Path], None]:
    """A tokenizer file with these parts, in place of the vocabulary."""
    words = {"[UNK]": 1, "good": 2}

    def apply(folder: Path) -> None:
        model = {"type": "WordLevel", "vocab": words, "unk_token": "[UNK]"}
        document = {"version": "1.0", "added_tokens": [], "normalizer": None, "pre_tokenizer": None, "model": model}
        data = json.dumps({**document, **parts}).encode()
        _vouch(folder, "tokenizer.json", data)
        manifest = _manifest(folder)
        manifest["preprocess"] = [{"step": "tokenize", "file": "tokenizer.json", "max_length": 64}]
        _write(folder, manifest)

    return apply


# And to a model of texts.
_SPLIT = {"type": "Split", "pattern": {"Regex": r"(\w+\s?)+$"}, "behavior": "Isolated", "invert": False}
_WORD_PIECE = {"type": "WordPiece", "vocab": {"[UNK]": 1}, "unk_token": "[UNK]", "continuing_subword_prefix": "##"}
_TENFOLD = {"type": "Replace", "pattern": {"String": "a"}, "content": "a" * 10}
OF_TEXTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "endless-pattern": (_tokenizer(pre_tokenizer=_SPLIT), "pattern"),
    "endless-replacing": (
        _tokenizer(normalizer={"type": "Replace", "pattern": {"Regex": r"(a|a)*b"}, "content": ""}),
        "pattern",
    ),
    "endless-word": (
        _tokenizer(model={**_WORD_PIECE, "max_input_chars_per_word": 1 << 40}),
        "max_input_chars_per_word",
    ),
    "panicking-normalizer": (
        _tokenizer(normalizer={"type": "Precompiled", "precompiled_charsmap": "AAAA"}),
        "not served",
    ),
    "memory-bomb": (_tokenizer(normalizer={"type": "Sequence", "normalizers": [_TENFOLD] * 9}), "times longer"),
    "inserting-everywhere": (_tokenizer(normalizer={**_TENFOLD, "pattern": {"String": ""}}), "empty"),
    "tokenizer-no-json": (lambda at: _raw_tokenizer(at, b"\x80\x04 pickle"), "tokenizer.json"),
    "tokenizer-deep": (lambda at: _raw_tokenizer(at, b"[" * 500_000), "tokenizer.json"),
    "tokenizer-huge": (lambda at: _raw_tokenizer(at, b" " * (65 << 20)), "tokenizer.json"),
    "tokenizer-of-another-kind": (_tokenizer(model={"type": "Python", "code": "import os"}), "tokenizer.json"),
}


def _raw_tokenizer(folder: Path, data: bytes) -> None:
    _tokenizer()(folder)
    _vouch(folder, "tokenizer.json", data)


def write(root: Path) -> dict[str, str]:
    """Write them all, each a model of its own; what the reason of each must say."""
    wanted = {}
    for cases, write_good in ((OF_NUMBERS, checkpoints.write_vector), (OF_TEXTS, checkpoints.write_text)):
        for name, (spoil, reason) in cases.items():
            write_good(root, name)
            spoil(root / name / "1")
            wanted[name] = reason
    return wanted
