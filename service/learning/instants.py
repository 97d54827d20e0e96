"""Points in time as callers write them, and as they are told."""

import re
from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import AfterValidator, AwareDatetime, BeforeValidator, Field
from pydantic_core import PydanticCustomError

WINDOW_PATTERN = r"^[1-9][0-9]{0,4}[mhd]$"
"""So many minutes, hours or days."""

_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ]")

# The minutes of later years are more than the store's columns hold, and some days of the years 1 and 9999 are none in
# UTC.
_YEARS = r"^(19[7-9][0-9]|[2-5][0-9]{3})-"
_IN_YEARS = re.compile(_YEARS)


def _written_out(value: Any) -> Any:
    """Pydantic takes a number too: seconds since 1970, or milliseconds, whichever it finds likelier."""
    if value is None:
        return value
    if not (isinstance(value, str) and _DATE.match(value)):
        raise PydanticCustomError("datetime_parsing", "Input should be a date and a time: 2026-01-31T08:00:00Z")
    if not _IN_YEARS.match(value):
        raise _out_of_years()
    return value


def _since_1970(value: datetime) -> datetime:
    if value.timestamp() < 0:
        raise _out_of_years()  # by its zone alone
    return value


def _out_of_years() -> PydanticCustomError:
    what = "Input should be a time of the years 1970 to 5999, as written and in UTC"
    return PydanticCustomError("datetime_range", what)


Instant = Annotated[
    AwareDatetime,
    BeforeValidator(_written_out),
    AfterValidator(_since_1970),
    Field(json_schema_extra={"pattern": _YEARS}),
]
"""A date, a time and its zone, of the years 1970 to 5999, and not before 1970 in UTC either."""


def written(seconds: float) -> str:
    """Seconds since 1970 as a date and a time, to the millisecond."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
