"""Points in time as callers write them."""

import re
from datetime import UTC, datetime

import pytest
from pydantic import TypeAdapter, ValidationError

from service.learning.instants import Instant

INSTANT: TypeAdapter[datetime] = TypeAdapter(Instant)


@pytest.mark.parametrize("text", ["1970-01-01T00:00:00Z", "2026-01-31 08:00:00+14:00", "5999-12-31T23:59:59-14:00"])
def test_what_is_taken_can_be_said_in_utc(text: str) -> None:
    assert INSTANT.validate_python(text).astimezone(UTC).timestamp() >= 0
    assert re.search(INSTANT.json_schema()["pattern"], text)


@pytest.mark.parametrize(
    "text",
    [
        "0001-01-01T00:00:00+14:00",
        "1969-12-31T23:59:59Z",
        "1970-01-01T00:00:00+00:01",
        "6000-01-01T00:00:00Z",
        "9999-12-31T23:59:59-14:00",
    ],
)
def test_other_years_are_refused(text: str) -> None:
    with pytest.raises(ValidationError, match="a time of the years 1970 to 5999, as written and in UTC"):
        INSTANT.validate_python(text)
