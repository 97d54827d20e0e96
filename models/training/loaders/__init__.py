from models.training.loaders import images, tables
from models.training.loaders.registry import LOADERS, MissingData, UnknownLoader, load, register

__all__ = ["LOADERS", "MissingData", "UnknownLoader", "images", "load", "register", "tables"]
