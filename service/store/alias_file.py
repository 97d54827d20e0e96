"""Takes over `aliases.json`, which kept the aliases before there was a store."""

from pathlib import Path

import orjson

from models.manifest import is_name
from service.errors import Misconfigured
from service.store.base import Control


def import_alias_file(path: Path, control: Control) -> None:
    """Put its aliases into the store, once, and rename it. Raises Misconfigured where it can't be understood."""
    try:
        table = orjson.loads(path.read_bytes())
    except FileNotFoundError:
        return
    except (OSError, orjson.JSONDecodeError) as error:
        raise Misconfigured(f"{path} can't be read: {error}; mend or remove it") from None
    if not _well_formed(table):
        raise Misconfigured(f'{path} is malformed; expected {{"model": {{"champion": 1}}}}')
    control.import_aliases(table)
    path.replace(path.with_suffix(".json.imported"))


def _well_formed(table: object) -> bool:
    return isinstance(table, dict) and all(
        is_name(model)
        and isinstance(named, dict)
        and all(is_name(alias) and type(version) is int and version > 0 for alias, version in named.items())
        for model, named in table.items()
    )
