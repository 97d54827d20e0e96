"""Reports of offline evaluations, on both databases."""

from typing import Any

import pytest
from uuid_utils import uuid7

from service.errors import StoreUnavailable
from service.store import sql_reports
from service.store.base import StoredReport
from service.store.control_client import ControlClient
from tests.service.store.recording import Place
from tests.stores import OpenStore


def a_report(**fields: Any) -> StoredReport:
    content = {"versions": [{"version": "1", "metrics": {"accuracy": {"value": 0.5}}}], "comparison": None}
    return StoredReport(str(uuid7()), "fashion", 1, None, "held-out", "d" * 32, 7, "anonymous", content)._replace(
        **fields
    )


def test_a_report_comes_back_as_it_was(store: OpenStore) -> None:
    report = a_report(against=2)
    store.reports.keep(report)
    assert store.reports.get(report.id) == report
    assert store.reports.get(a_report().id) is None


def test_one_that_is_sent_again_stays_as_it_is(store: OpenStore) -> None:
    report = a_report()
    for dataset in ("held-out", "other"):
        store.reports.keep(report._replace(dataset=dataset))
    assert store.reports.list("fashion", None, limit=9) == ([report], None)


def test_those_of_a_version_are_found_on_either_side(store: OpenStore) -> None:
    first, second, third = a_report(), a_report(version=2, against=1), a_report(version=3)
    other = a_report(model="mood")
    for one in (first, second, third, other):
        store.reports.keep(one)
    assert store.reports.list("fashion", 1, limit=9) == ([second, first], None)
    assert store.reports.list("fashion", None, limit=2) == ([third, second], second.id)
    assert store.reports.list("fashion", None, limit=2, cursor=second.id) == ([first], None)


def test_the_oldest_of_a_model_make_room(store: OpenStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sql_reports, "_MOST_REPORTS", 2)
    other = a_report(model="mood")
    reports = [a_report() for _ in range(4)]
    for one in (other, *reports):
        store.reports.keep(one)
    assert store.reports.list("fashion", None, limit=9)[0] == [reports[3], reports[2]]
    assert store.reports.list("mood", None, limit=9)[0] == [other]


async def test_a_report_is_kept_by_the_recorder(place: Place) -> None:
    report = a_report()
    async with place.recorder():
        await ControlClient(place.path).keep_report(report)
    assert place.gate.store.reports.get(report.id) == report
    with pytest.raises(StoreUnavailable):
        await ControlClient(place.path.parent / "nobody").keep_report(report)
