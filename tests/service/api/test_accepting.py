import pytest

from service.api.accepting import preferred, weights

OFFERED = ("application/json", "application/x-ndjson", "text/csv", "image/png", "image/svg+xml")


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("", "application/json"),
        ("*/*", "application/json"),
        ("text/html", "application/json"),
        ("text/html, */*;q=0.8", "application/json"),
        ("text/csv", "text/csv"),
        ("TEXT/CSV; header=present", "text/csv"),
        ("text/html, text/csv", "text/csv"),
        ("image/png, text/csv", "image/png"),
        ("image/png;q=0.5, text/csv;q=0.9", "text/csv"),
        ("image/png;charset=x;q=0.5, text/csv ; q = 0.9", "text/csv"),
        ("application/json, text/csv", "application/json"),
        ("text/csv, application/json", "text/csv"),
        ("application/json;q=0.9, text/csv", "text/csv"),
        ("text/csv, */*", "text/csv"),
        ("*/*, text/csv", "text/csv"),
        ("text/csv;q=0.5, */*", "application/json"),
        ("image/*", "image/png"),
        ("image/*, image/png;q=0.1", "image/svg+xml"),
        ("application/*", "application/json"),
        ("application/json;q=0, */*;q=0.1", "application/x-ndjson"),
        ("text/csv;q=0", "application/json"),
        ("text/csv;q=0.000, image/png;q=0.001", "image/png"),
        ("text/csv;q=much", "application/json"),
        ("text/csv;q=nan", "application/json"),
        ("text/csv;q=-1", "application/json"),
        ("text/csv;q=9, image/png;q=0.1", "image/png"),
        (",;,q=1;", "application/json"),
    ],
)
def test_what_is_preferred_of_what_is_offered(accept: str, expected: str) -> None:
    assert preferred([accept], OFFERED) == expected


def test_several_headers_are_one_list() -> None:
    assert preferred([], OFFERED) == "application/json"
    assert preferred(["image/png;q=0.5", "text/csv"], OFFERED) == "text/csv"


def test_what_weighs_nothing_is_listed_too() -> None:
    assert list(weights("gzip;q=0, BR;q=0.5,x")) == [("gzip", 0.0), ("br", 0.5), ("x", 1.0)]
