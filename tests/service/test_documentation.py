"""README and docs name every variable, option and metric, as they are, and none besides."""

import inspect
import json
import re
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.metrics import MetricWrapperBase

from service.cli.serving import serve
from service.registry.fleet import VersionState
from service.settings import SHIPPED_CHECKPOINTS, Settings
from service.telemetry.instruments import EngineTelemetry, HttpTelemetry, RecorderTelemetry, SupervisorTelemetry
from service.telemetry.quality import LoopTelemetry
from service.watch.evidence import Cause
from tests.pages import PAGES, ROOT, names, section, table

README, API, OPERATIONS = ROOT / "README.md", ROOT / "docs" / "api.md", ROOT / "docs" / "operations.md"
DATA_DIR = "`$XDG_DATA_HOME/servoloop`, or `~/.local/share/servoloop`"
MIB = 1 << 20


def stated(default: Any) -> str:
    """A default as the README writes it."""
    match default:
        case None:
            return "none"
        case Path() if default == SHIPPED_CHECKPOINTS:
            return "the four"
        case dict():
            return f"`{json.dumps(default)}`"
        case bool():
            return f"`{default}`".lower()
        case int() if default and default % MIB == 0:
            return f"{default // MIB} MiB"
        case int() | float():
            return f"`{default:g}`"
        case _:
            return f"`{default}`"


def test_every_variable_has_its_row_and_its_default() -> None:
    fields = Settings.model_fields
    documented = []
    for variables, defaults, _ in table(section(README, "Configuration"), "variable"):
        fields_of_row = [name.removeprefix("SERVOLOOP_").lower() for name in names(variables)]
        documented += fields_of_row
        expected = ", ".join(stated(fields[name].default) for name in fields_of_row if name != "data_dir") or DATA_DIR
        assert defaults == expected, variables
    assert sorted(documented) == sorted(fields)


def test_every_option_of_serve_is_named_and_stands_for_a_variable() -> None:
    before_the_table, _, _ = section(README, "Configuration").partition("| variable |")
    options = inspect.signature(serve).parameters
    assert {name for name in names(before_the_table) if name.startswith("--")} == {
        f"--{option.replace('_', '-')}" for option in options
    }
    assert options.keys() <= Settings.model_fields.keys()


def instruments() -> dict[str, set[str]]:
    """Of all processes: name -> labels."""
    owners = [kind(CollectorRegistry()) for kind in (HttpTelemetry, EngineTelemetry, RecorderTelemetry, LoopTelemetry)]
    found = {}
    for owner in [*owners, SupervisorTelemetry(CollectorRegistry())]:
        for instrument in vars(owner).values():
            if isinstance(instrument, MetricWrapperBase):
                [family] = instrument.describe()
                name = f"{family.name}_total" if family.type == "counter" else family.name
                found[name] = set(instrument._labelnames)
    return found


def test_every_metric_has_its_row_and_its_labels() -> None:
    documented = {
        name: set(filter(None, labels.split(",")))
        for cell, _ in table(section(API, "Metrics"), "metric")
        for name, labels in re.findall(r"`(\w+)(?:\{([\w,]+)\})?`", cell)
    }
    assert documented == instruments()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_no_page_names_a_metric_that_is_not_there(page: Path) -> None:
    named = set(re.findall(r"\bservoloop_[a-z][a-z_]+", page.read_text()))
    assert {re.sub(r"_(bucket|count|sum)$", "", name) for name in named} <= instruments().keys()


def test_a_metric_s_labels_are_its_own_on_every_page() -> None:
    known = instruments()
    for page in PAGES:
        for name, labels in re.findall(r"\b(servoloop_\w+)\{([\w,]+)\}", page.read_text()):
            assert set(labels.split(",")) <= known[name], (page.name, name)


@pytest.mark.parametrize(("page", "title"), [(API, "Versions"), (OPERATIONS, "Versions that come and go")])
def test_every_state_of_a_version_is_explained(page: Path, title: str) -> None:
    explained = [name for row in table(section(page, title), "state") for name in names(row[0])]
    assert sorted(explained) == sorted(VersionState)


def test_every_cause_of_an_engines_end_is_explained() -> None:
    rows = table(section(OPERATIONS, "A dying engine"), "cause")
    assert sorted(name for row in rows for name in names(row[0])) == sorted(Cause)
