"""Who asks, and by when, as the headers of a request have it, or the metadata of a call. Names are in lower case."""

import re
from collections.abc import Mapping

from uuid_utils import uuid7

from service.domain import ANONYMOUS, Caller
from service.errors import MalformedHeader
from service.serving.parameters import PRINTABLE

MALFORMED_ID = MalformedHeader("X-Request-Id", "the id is malformed", "1 to 128 visible ASCII characters")

_VISIBLE = re.compile(rb"[\x21-\x7e]{1,128}\Z")
_KEY = re.compile(PRINTABLE + r"{1,256}\Z")


def request_id_in(headers: Mapping[bytes, bytes]) -> tuple[str, bool]:
    """The caller's id, or ours where it sent none or a malformed one; and whether it was malformed."""
    sent = headers.get(b"x-request-id")
    if sent is None:
        return str(uuid7()), False
    if _VISIBLE.match(sent) is None:
        return str(uuid7()), True
    return sent.decode("latin-1"), False


def caller_in(headers: Mapping[bytes, bytes], request_id: str, arrived: float) -> Caller:
    """Raises MalformedHeader for headers that can't be understood."""
    key = headers.get(b"x-routing-key")
    text = None if key is None else key.decode("latin-1")
    if text is not None and not _KEY.match(text):
        raise MalformedHeader("X-Routing-Key", "the key is malformed", "1 to 256 printable characters")
    return Caller(request_id, ANONYMOUS, arrived, _timeout(headers.get(b"x-request-timeout-ms")), text)


def _timeout(sent: bytes | None) -> float | None:
    if sent is None:
        return None
    try:
        milliseconds = float(sent)
    except ValueError:
        milliseconds = -1.0
    if not 0 < milliseconds < float("inf"):
        expected = "a positive number of milliseconds"
        raise MalformedHeader("X-Request-Timeout-Ms", f"{sent.decode('latin-1')[:50]!r} is no time", expected)
    return milliseconds / 1000
