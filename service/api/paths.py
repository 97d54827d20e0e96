"""Which paths ask for predictions, and of what."""

import functools
import re

from service.domain import Address

# As Starlette matches the paths of the three routes.
_PATH = re.compile(r"/v1/models/(?P<model>[^/]+)/(?:versions/(?P<version>[^/]+)/|aliases/(?P<alias>[^/]+)/)?predict$")
# Of paths that are kept; those of models that exist are no longer.
_MAX_BYTES = 256


def address_in(path: str) -> Address | None:
    """What a decoded path asks predictions of; None where it asks for something else."""
    found = _PATH.match(path)
    return None if found is None else Address(**found.groupdict())


def address_at(path: bytes) -> Address | None:
    """As `address_in`, of a path as it was sent; None too where it is long, or has to be decoded first."""
    return _kept_address(path) if len(path) <= _MAX_BYTES else None


@functools.lru_cache(maxsize=1024)
def _kept_address(path: bytes) -> Address | None:
    return None if b"%" in path or b"#" in path else address_in(path.decode("ascii"))
