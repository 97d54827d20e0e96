from models.architectures.common import FamilyConfig, Network
from models.architectures.registry import Family, InvalidConfig, UnknownArchitecture, build, parse

__all__ = ["Family", "FamilyConfig", "InvalidConfig", "Network", "UnknownArchitecture", "build", "parse"]
