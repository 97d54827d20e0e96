"""The author's parameter names brought to the documented ones, and a proposal how where shapes say it."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path

import orjson
from torch import Tensor

from models.manifest import BrokenCheckpoint

Shape = tuple[int, ...]
Renames = Mapping[str, str | None]
_Parameters = frozenset[tuple[str, Shape]]

_MOST_SHOWN = 20


def rename(state: Mapping[str, Tensor], renames: Renames) -> dict[str, Tensor]:
    """The tensors under their new names; a new name of None leaves the tensor out.

    A key that ends with a dot renames everything below it; a whole name counts before a prefix, a longer prefix before
    a shorter one. Raises BrokenCheckpoint when a key fits nothing, or two tensors would have one name.
    """
    new_names = {name: _new_name(name, renames) for name in state}
    idle = [old for old in renames if not any(_applies(old, name) for name in state)]
    if idle:
        raise BrokenCheckpoint(
            f"--rename names what is not in the weights: {', '.join(idle)}. They have {_modules(state)}"
        )
    counts = Counter(new for new in new_names.values() if new is not None)
    doubled = [name for name, count in counts.items() if count > 1]
    if doubled:
        raise BrokenCheckpoint(f"--rename gives several tensors one name: {', '.join(doubled)}")
    return {new: state[old] for old, new in new_names.items() if new is not None}


def read_renames(path: Path) -> dict[str, str | None]:
    """Read a JSON object of old name -> new name or null. Raises BrokenCheckpoint."""
    try:
        table = orjson.loads(path.read_bytes())
    except orjson.JSONDecodeError as error:
        raise BrokenCheckpoint(f"{path.name} is no JSON: {error}") from None
    if not isinstance(table, dict) or not all(new is None or isinstance(new, str) for new in table.values()):
        raise BrokenCheckpoint(f"{path.name}: expected a JSON object of old name -> new name, or null to leave out")
    uneven = [old for old, new in table.items() if new is not None and old.endswith(".") != (new[-1:] in ("", "."))]
    if uneven:
        raise BrokenCheckpoint(f"{path.name}: a prefix ends with a dot, and so does what replaces it: {uneven[0]!r}")
    return table


def propose(given: Mapping[str, Shape], wanted: Mapping[str, Shape]) -> dict[str, str]:
    """Renames of modules of `given` to those of `wanted` that have parameters of the same last names and shapes.

    Modules that are alike are paired in their order, and those without a counterpart are left out. Neither mapping
    holds names that agree already.
    """
    heirs: dict[_Parameters, list[str]] = defaultdict(list)
    for prefix, parameters in _by_module(wanted).items():
        heirs[parameters].append(prefix)
    renames: dict[str, str] = {}
    for prefix, parameters in _by_module(given).items():
        if heirs[parameters]:
            renames |= _entries(prefix, heirs[parameters].pop(0), (leaf for leaf, _ in parameters))
    return renames


def _by_module(shapes: Mapping[str, Shape]) -> dict[str, _Parameters]:
    """Prefix with its dot, or nothing for a parameter of the network itself -> last names and shapes."""
    modules: dict[str, set[tuple[str, Shape]]] = defaultdict(set)
    for name, shape in shapes.items():
        module, dot, leaf = name.rpartition(".")
        modules[module + dot].add((leaf, shape))
    return {prefix: frozenset(parameters) for prefix, parameters in modules.items()}


def _entries(old: str, new: str, leaves: Iterable[str]) -> dict[str, str]:
    """A rename of the prefix, or one of each parameter where there is none."""
    if old:
        return {old: new}
    return {leaf: new + leaf for leaf in sorted(leaves)}


def _modules(names: Iterable[str]) -> str:
    parts = (name.rpartition(".") for name in names)
    prefixes = list(dict.fromkeys(module + dot if dot else leaf for module, dot, leaf in parts))
    others = len(prefixes) - _MOST_SHOWN
    return ", ".join(prefixes[:_MOST_SHOWN]) + (f" and {others} more" if others > 0 else "")


def _applies(old: str, name: str) -> bool:
    return name.startswith(old) if old.endswith(".") else name == old


def _new_name(name: str, renames: Renames) -> str | None:
    if name in renames:
        return renames[name]
    prefix = max((old for old in renames if old.endswith(".") and name.startswith(old)), key=len, default="")
    new = renames.get(prefix, "")
    return None if new is None else new + name.removeprefix(prefix)
