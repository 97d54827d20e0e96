"""Points in time as callers write them, and as they are told."""

import re
from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import AwareDatetime, BeforeValidator
from pydantic_core import PydanticCustomError

_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ]")


def _written_out(value: Any) -> Any:
    """Pydantic takes a number too: seconds since 1970, or milliseconds, whichever it finds likelier."""
    if value is not None and not (isinstance(value, str) and _DATE.match(value)):
        raise PydanticCustomError("datetime_parsing", "Input should be a date and a time: 2026-01-31T08:00:00Z")
    return value


Instant = Annotated[AwareDatetime, BeforeValidator(_written_out)]
"""A date, a time and its zone."""


def written(seconds: float) -> str:
    """Seconds since 1970 as a date and a time, to the millisecond."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
