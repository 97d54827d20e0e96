"""docs/ names every route, status and type of problem, and what is kept of /v2, as they are, and none besides."""

import re
from collections.abc import Iterator

import httpx

from service.api.inference.metadata import EXTENSIONS
from service.api.problems import STATUS
from service.errors import (
    ClientLeft,
    Forced,
    InvalidInput,
    JobUnderWay,
    Misconfigured,
    NotServing,
    ServoloopError,
    Unavailable,
    Unknown,
    UnknownJob,
)
from tests.pages import ROOT, names, section, table

API, OPERATIONS = ROOT / "docs" / "api.md", ROOT / "docs" / "operations.md"
PROTOCOL = ROOT / "docs" / "inference-protocol.md"
# These stand for several errors, or are read by no client, or are said where errors have no types.
NEVER_SAID = {ServoloopError, InvalidInput, Unknown, Unavailable, ClientLeft, Misconfigured, Forced}
NEVER_SAID |= {NotServing}
# Nor can these be said while nobody does jobs, and so nobody can ask for one.
NEVER_SAID |= {JobUnderWay, UnknownJob}
# What is said before there is a request, or by what surrounds ours.
BESIDE = {
    400: {"malformed-request"},
    404: {"http"},
    405: {"http"},
    408: {"head-too-slow"},
    431: {"headers-too-large"},
    500: {"internal"},
}


def all_errors(kind: type[ServoloopError] = ServoloopError) -> Iterator[type[ServoloopError]]:
    yield kind
    for child in kind.__subclasses__():
        yield from all_errors(child)


def problems() -> dict[int, set[str]]:
    """The types of problems by their status."""
    found = {status: set(types) for status, types in BESIDE.items()}
    for error in set(all_errors()) - NEVER_SAID:
        status = next((STATUS[kind] for kind in error.__mro__ if kind in STATUS), 500)
        found.setdefault(status, set()).add(error.kind.replace("_", "-"))
    return found


def test_every_status_has_its_row_with_the_types_of_its_problems() -> None:
    rows = table(section(API, "Errors"), "status")
    assert {int(status): set(names(types)) for status, types, _ in rows} == problems()


def test_what_overload_is_answered_with_is_said_with_its_status() -> None:
    known = problems()
    rows = table(section(OPERATIONS, "Overload"), "answer")
    answers = [re.fullmatch(r"(\d{3}) `([a-z-]+)`", row[0]) for row in rows]
    assert all(answer is not None and answer[2] in known[int(answer[1])] for answer in answers)


async def test_every_route_is_listed(client: httpx.AsyncClient) -> None:
    document = (await client.get("/openapi.json")).json()
    served = {f"{method.upper()} {path}" for path, methods in document["paths"].items() for method in methods}
    listed, last = set(), ""
    for cell, _ in [*table(API.read_text(), "route"), *table(PROTOCOL.read_text(), "route")]:
        for route in names(cell):
            # A short one differs from the one before it in its last part.
            last = route if " " in route else last.rpartition("/")[0] + route
            listed.add(last)
    assert listed == served


def test_the_extensions_are_those_of_the_protocols_page() -> None:
    kept = {row[0]: row[1] for row in table(PROTOCOL.read_text(), "of the protocol")}
    assert set(kept.values()) == {"yes", "no", "ignored"}
    said = {
        "binary_tensor_data": "binary tensor data, both ways",
        "classification": "classification",
        "model_configuration": "model configuration",
        "model_repository": "model repository: index, load, unload",
        "model_repository(unload_dependents)": "model repository: index, load, unload",
        "schedule_policy": "`priority`, `timeout`",
        "statistics": "statistics",
    }
    assert list(said) == EXTENSIONS
    assert {kept[row] for row in said.values()} == {"yes"}
