"""Declared input steps in numpy: the same code prepares rows for training and for serving. Never imports torch."""

from models.preprocess.images import BrokenImage, decode_image
from models.preprocess.pipeline import Preprocessor, RawRows, Step
from models.preprocess.tensors import Tensors

__all__ = ["BrokenImage", "Preprocessor", "RawRows", "Step", "Tensors", "decode_image"]
