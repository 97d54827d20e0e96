"""One registry of network families by name; operators add their own as plug-ins."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import Any

from pydantic import ValidationError

from models.architectures.cnn import Cnn, CnnConfig
from models.architectures.common import FamilyConfig, Network
from models.architectures.mlp import Mlp, MlpConfig
from models.architectures.recurrent import Recurrent, RecurrentConfig
from models.architectures.transformer import Transformer, TransformerConfig
from models.problems import problems

PLUGIN_GROUP = "servoloop.architectures"


@dataclass(frozen=True)
class Family:
    """How a family's config is read and its network made. A plug-in's entry point names one of these."""

    config: type[FamilyConfig]
    network: Callable[[Any], Network]


FAMILIES: dict[str, Family] = {
    "cnn": Family(CnnConfig, Cnn),
    "recurrent": Family(RecurrentConfig, Recurrent),
    "transformer": Family(TransformerConfig, Transformer),
    "mlp": Family(MlpConfig, Mlp),
}


class UnknownArchitecture(ValueError):
    """No family has this name."""

    def __init__(self, family: str, known: list[str]) -> None:
        super().__init__(f"unknown architecture {family!r}; known are {', '.join(known)}")
        self.family = family
        self.known = known


class InvalidConfig(ValueError):
    """A family's config has problems: each is `key: what is wrong`."""

    def __init__(self, family: str, problems: list[str]) -> None:
        super().__init__(f"config of architecture {family!r}: {'; '.join(problems)}")
        self.family = family
        self.problems = problems


def find(family: str) -> Family:
    """Return the family: built in, or else an installed plug-in. Raises UnknownArchitecture."""
    if family in FAMILIES:
        return FAMILIES[family]
    plugins = {point.name: point for point in entry_points(group=PLUGIN_GROUP)}
    if family not in plugins:
        raise UnknownArchitecture(family, known=sorted([*FAMILIES, *plugins]))
    plugin = plugins[family].load()
    if not isinstance(plugin, Family):
        raise TypeError(f"plug-in {family!r} must name a Family, got {type(plugin).__name__}")
    return plugin


def parse(family: str, config: Mapping[str, Any]) -> FamilyConfig:
    """Return the checked config. Raises UnknownArchitecture or InvalidConfig, both ValueErrors."""
    config_type = find(family).config
    try:
        return config_type.model_validate(dict(config))
    except ValidationError as error:
        raise InvalidConfig(family, problems(error)) from None


def build(family: str, config: Mapping[str, Any]) -> Network:
    """Return a freshly initialised network. Raises UnknownArchitecture or InvalidConfig, both ValueErrors."""
    return find(family).network(parse(family, config))
