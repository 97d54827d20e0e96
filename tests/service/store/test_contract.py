"""Every verb, on both databases."""

import sqlite3
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy.exc import DataError, InternalError, ProgrammingError

from service.errors import AliasMoved, StoreUnavailable, UnknownModel, UnknownVersion
from service.store.base import Filters
from service.store.databases import Location, Part
from service.store.sql_control import SqlControl, read_aliases
from service.store.sql_predictions import SqlPredictions
from tests.stores import OpenStore, a_record, open_store

# SQLite calls it a file that can't be written just now, PostgreSQL a transaction that may only read.
REFUSED = (StoreUnavailable, InternalError)
# Neither is taken for a store that is away: trying again would not help.
MISTYPED = (sqlite3.ProgrammingError, ProgrammingError, DataError)
FOUND = {"fashion": {1: "a" * 64, 2: "b" * 64}, "mood": {3: "c" * 64}}


@pytest.fixture
def predictions_reader(store: OpenStore, location: Location) -> Iterator[SqlPredictions]:
    engine = location.reader(Part.PREDICTIONS)
    yield SqlPredictions(engine)
    engine.dispose()


# Aliases


def test_a_new_store_is_empty_at_revision_0(reader: SqlControl) -> None:
    assert (reader.revision(), reader.aliases(), reader.history("fashion")) == (0, {}, [])


def test_the_first_version_of_a_new_model_becomes_its_champion(store: OpenStore, reader: SqlControl) -> None:
    expected = {"fashion": {"champion": 1}, "mood": {"champion": 3}}
    assert store.control.crown_new_models(FOUND) == expected
    assert reader.aliases() == expected
    [move] = reader.history("mood")
    assert (move.alias, move.version, move.previous, move.actor) == ("champion", 3, None, "supervisor")


def test_a_file_appearing_on_disk_moves_nothing(store: OpenStore) -> None:
    store.control.crown_new_models({"fashion": {2: "b" * 64}})
    before = store.control.revision()
    assert store.control.crown_new_models(FOUND)["fashion"] == {"champion": 2}
    assert store.control.revision() == before + 1
    assert store.control.crown_new_models(FOUND)["fashion"] == {"champion": 2}
    assert store.control.revision() == before + 1


def test_a_champion_that_vanishes_from_disk_is_not_replaced(store: OpenStore) -> None:
    store.control.crown_new_models(FOUND)
    assert store.control.crown_new_models({"fashion": {2: "b" * 64}})["fashion"] == {"champion": 1}


def test_each_change_raises_the_revision_by_one_and_leaves_its_history(store: OpenStore, reader: SqlControl) -> None:
    store.control.crown_new_models(FOUND)
    first = reader.revision()
    before = time.time()
    move = store.control.move_alias("fashion", "champion", 2, actor="ann", reason="it is better: 0.93 → 0.95")
    back = store.control.move_alias("fashion", "champion", 1, actor="bob", reason="rolled back", expected=2)
    assert (move.previous, back.previous) == (1, 2)
    assert [move.revision, back.revision, reader.revision()] == [first + 1, first + 2, first + 2]
    assert reader.state().aliases["fashion"] == {"champion": 1}
    history = reader.history("fashion")
    assert history[:2] == [back, move]
    assert [one.version for one in history] == [1, 2, 1]
    assert before - 0.001 <= move.time <= time.time()
    assert reader.history("fashion", limit=1) == [back]
    assert len(reader.history("mood")) == 1


def test_a_move_to_where_it_is_changes_nothing(store: OpenStore) -> None:
    store.control.crown_new_models(FOUND)
    move = store.control.move_alias("fashion", "champion", 2, actor="ann", reason="first")
    assert store.control.move_alias("fashion", "champion", 2, actor="bob", reason="again") == move
    assert store.control.revision() == move.revision
    assert len(store.control.history("fashion")) == 2


def test_a_new_alias_has_no_previous_version(store: OpenStore) -> None:
    store.control.crown_new_models(FOUND)
    move = store.control.move_alias("fashion", "challenger", 2, actor="ann", reason="")
    assert move.previous is None
    assert store.control.aliases()["fashion"] == {"champion": 1, "challenger": 2}


def test_a_move_that_is_refused_changes_nothing(store: OpenStore) -> None:
    store.control.crown_new_models(FOUND)
    before = store.control.state()
    with pytest.raises(UnknownModel, match="there is: fashion, mood"):
        store.control.move_alias("nobody", "champion", 1, actor="ann", reason="")
    with pytest.raises(UnknownVersion, match="there is: 1, 2"):
        store.control.move_alias("fashion", "champion", 9, actor="ann", reason="")
    with pytest.raises(AliasMoved, match="names version 1, and version 2 was expected"):
        store.control.move_alias("fashion", "champion", 2, actor="ann", reason="", expected=2)
    with pytest.raises(AliasMoved, match="does not exist"):
        store.control.move_alias("fashion", "challenger", 2, actor="ann", reason="", expected=1)
    assert store.control.state() == before
    assert len(store.control.history("fashion")) == 1


def test_changes_made_at_once_each_have_a_revision_of_their_own(store: OpenStore, location: Location) -> None:
    store.control.crown_new_models(FOUND)
    other = open_store(location)

    def move(one: OpenStore, alias: str) -> list[int]:
        def to(version: int) -> int:
            return one.control.move_alias("fashion", alias, version, actor="ann", reason="").revision

        return [to(1 + number % 2) for number in range(10)]

    with ThreadPoolExecutor(2) as pool:
        moves = [pool.submit(move, one, alias) for one, alias in ((store, "a"), (other, "b"))]
        revisions = [revision for done in moves for revision in done.result()]
    other.close()
    assert sorted(revisions) == list(range(2, 22))
    assert store.control.revision() == 21


def test_weights_that_are_not_those_seen_before_are_noted(store: OpenStore, caplog: pytest.LogCaptureFixture) -> None:
    store.control.crown_new_models(FOUND)
    store.control.crown_new_models({"mood": {3: "0" * 64}})
    assert "not those seen before" in caplog.text
    caplog.clear()
    store.control.crown_new_models({"mood": {3: "0" * 64}})
    assert caplog.text == ""


def test_aliases_kept_elsewhere_are_taken_over_for_models_that_have_none(store: OpenStore) -> None:
    store.control.crown_new_models({"fashion": {1: "a" * 64}})
    store.control.import_aliases({"fashion": {"champion": 2}, "mood": {"champion": 3, "trial": 4}})
    expected = {"fashion": {"champion": 1}, "mood": {"champion": 3, "trial": 4}}
    assert store.control.aliases() == expected
    revision = store.control.revision()
    store.control.import_aliases({"mood": {"champion": 9}})
    assert (store.control.aliases(), store.control.revision()) == (expected, revision)


def test_aliases_can_be_read_where_no_service_ever_ran(location: Location) -> None:
    assert read_aliases(location) == {}


def test_aliases_can_be_read_without_a_service(store: OpenStore, location: Location) -> None:
    store.control.crown_new_models(FOUND)
    assert read_aliases(location) == {"fashion": {"champion": 1}, "mood": {"champion": 3}}


# Predictions


def test_a_record_comes_back_as_it_was(store: OpenStore, predictions_reader: SqlPredictions) -> None:
    answered = a_record(
        external_id="order-Ω",
        key="user 7",
        tags={"país": "España", "emoji": "🦊"},
        outputs={"labels": [{"label": "naïve", "probability": 0.123456789012345}]},
        latency=0.00123,
        propensity=0.9,
    )
    shadow = a_record(role="shadow", paired_with=answered.id, outputs={"value": -1e300})
    store.predictions.append([answered, shadow])
    assert predictions_reader.get(answered.id) == answered
    assert predictions_reader.get(shadow.id) == shadow
    assert predictions_reader.get(a_record().id) is None


def test_a_records_time_is_that_of_its_id(store: OpenStore, predictions_reader: SqlPredictions) -> None:
    record = a_record(made=1_700_000_000.123)
    store.predictions.append([record])
    found = predictions_reader.get(record.id)
    assert found is not None
    assert found.time == 1_700_000_000.123


def test_what_is_sent_again_is_there_once(store: OpenStore) -> None:
    first, second = a_record(), a_record()
    store.predictions.append([first])
    store.predictions.append([first, second])
    store.predictions.append([])
    assert store.predictions.list(Filters(), limit=10).records == [second, first]


def test_a_group_is_written_as_a_whole_or_not_at_all(store: OpenStore) -> None:
    good, bad = a_record(), a_record(model=None)
    with pytest.raises(Exception, match=r"(?i)null"):
        store.predictions.append([good, bad])
    assert store.predictions.get(good.id) is None


def test_a_record_of_wrong_types_is_refused_for_good_with_its_group(store: OpenStore) -> None:
    with pytest.raises(MISTYPED):
        store.predictions.append([a_record(), a_record(version={}), a_record()])
    assert store.predictions.list(Filters(), limit=10).records == []


def test_records_are_listed_newest_first_page_by_page(store: OpenStore) -> None:
    records = [a_record() for _ in range(5)]
    store.predictions.append(records)
    newest_first = records[::-1]
    first = store.predictions.list(Filters(), limit=2)
    second = store.predictions.list(Filters(), limit=2, cursor=first.cursor)
    third = store.predictions.list(Filters(), limit=2, cursor=second.cursor)
    assert [*first.records, *second.records, *third.records] == newest_first
    assert third.cursor is None
    exact = store.predictions.list(Filters(), limit=5)
    assert (exact.records, exact.cursor) == (newest_first, None)


def test_records_are_found_by_model_version_external_id_and_time(store: OpenStore) -> None:
    old = a_record(made=1000.0, model="mood", external_id="order-1")
    middle = a_record(made=2000.0, model="mood", version=2)
    new = a_record(made=3000.0, external_id="order-1")
    store.predictions.append([old, middle, new])

    def found(**filters: object) -> list[str]:
        return [record.id for record in store.predictions.list(Filters(**filters), limit=10).records]  # type: ignore[arg-type]

    assert found(model="mood") == [middle.id, old.id]
    assert found(model="mood", version=2) == [middle.id]
    assert found(external_id="order-1") == [new.id, old.id]
    assert found(since=2000.0) == [new.id, middle.id]
    assert found(until=2000.0) == [old.id]
    assert found(since=1000.001, until=3000.0) == [middle.id]
    assert found(model="nobody") == []


def test_the_oldest_are_deleted_in_portions(store: OpenStore) -> None:
    records = [a_record(made=float(second)) for second in range(100, 110)]
    store.predictions.append(records)
    assert store.predictions.delete_older_than(107.0, limit=5) == 5
    assert store.predictions.delete_older_than(107.0, limit=5) == 2
    assert store.predictions.delete_older_than(107.0, limit=5) == 0
    assert store.predictions.list(Filters(), limit=10).records == records[:6:-1]


# Who may write


def test_a_reader_cannot_write(store: OpenStore, reader: SqlControl, predictions_reader: SqlPredictions) -> None:
    store.control.crown_new_models(FOUND)
    with pytest.raises(REFUSED):
        reader.move_alias("fashion", "champion", 2, actor="ann", reason="")
    with pytest.raises(REFUSED):
        predictions_reader.append([a_record()])
    assert store.control.aliases()["fashion"] == {"champion": 1}
