"""Which version an alias names. A file appearing on disk moves none: only the first version of a new model gets one."""

import os
import tempfile
from pathlib import Path

import orjson

from models.manifest import is_name
from service.domain import CHAMPION
from service.errors import Misconfigured

Aliases = dict[str, dict[str, int]]
"""Model -> alias -> version."""


class AliasFile:
    """`aliases.json` in the data directory, replaced as a whole. The supervisor alone writes it."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> Aliases:
        """All aliases; none where there is no file yet. Raises Misconfigured on a file that can't be understood."""
        try:
            table = orjson.loads(self._path.read_bytes())
        except FileNotFoundError:
            return {}
        except (OSError, orjson.JSONDecodeError) as error:
            raise Misconfigured(f"{self._path} can't be read: {error}; mend or remove it") from None
        if not _well_formed(table):
            raise Misconfigured(f'{self._path} is malformed; expected {{"model": {{"champion": 1}}}}')
        aliases: Aliases = table
        return aliases

    def write(self, aliases: Aliases) -> None:
        """Replace the file: readers see the old or the new one, whole, also after a crash."""
        data = orjson.dumps(aliases, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS)
        with tempfile.NamedTemporaryFile(dir=self._path.parent, delete=False) as file:
            try:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
                Path(file.name).replace(self._path)
            except BaseException:
                Path(file.name).unlink()
                raise


def crown_new_models(aliases: Aliases, versions: dict[str, list[int]]) -> Aliases:
    """`aliases`, with the lowest version of each model that has no champion yet as its champion."""
    crowned = {model: dict(named) for model, named in aliases.items()}
    for model, available in versions.items():
        if available:
            crowned.setdefault(model, {}).setdefault(CHAMPION, min(available))
    return crowned


def _well_formed(table: object) -> bool:
    return isinstance(table, dict) and all(
        is_name(model)
        and isinstance(named, dict)
        and all(is_name(alias) and type(version) is int and version > 0 for alias, version in named.items())
        for model, named in table.items()
    )
