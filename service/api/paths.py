"""Which paths ask for predictions, and of what; and which of them speak the Open Inference Protocol."""

import functools
import re

from models.manifest import parse_version
from service.domain import Address

# As Starlette matches the paths of the routes.
_PREDICT = re.compile(
    r"/v1/models/(?P<model>[^/]+)/(?:versions/(?P<version>[^/]+)/|aliases/(?P<alias>[^/]+)/)?predict$"
)
_INFER = re.compile(r"/v2/models/(?P<model>[^/]+)/(?:versions/(?P<version>[^/]+)/)?infer$")
# Of paths that are kept; those of models that exist are no longer.
_MAX_BYTES = 256


def address_in(path: str) -> Address | None:
    """What a decoded path asks predictions of; None where it asks for something else."""
    if (found := _PREDICT.match(path)) is not None:
        return Address(**found.groupdict())
    if (found := _INFER.match(path)) is not None:
        return tensors_address(found["model"], found["version"])
    return None


def tensors_address(model: str, version: str | None) -> Address:
    """What the Open Inference Protocol addresses: its versions are any texts, so aliases are versions there too."""
    if version is None or parse_version(version) is not None:
        return Address(model, version=version)
    return Address(model, alias=version)


def is_inference_protocol(path: str) -> bool:
    """Whether this path, or one that isn't there, belongs to the Open Inference Protocol."""
    return path == "/v2" or path.startswith("/v2/")


def address_at(path: bytes) -> Address | None:
    """As `address_in`, of a path as it was sent; None too where it is long, or has to be decoded first."""
    return _kept_address(path) if len(path) <= _MAX_BYTES else None


@functools.lru_cache(maxsize=1024)
def _kept_address(path: bytes) -> Address | None:
    return None if b"%" in path or b"#" in path else address_in(path.decode("ascii"))
