"""What is particular to SQLite, to PostgreSQL, and to their addresses."""

import sqlite3
from pathlib import Path

import pytest
from pydantic import SecretStr, ValidationError
from sqlalchemy import literal, select, text
from sqlalchemy.exc import DBAPIError

from service.errors import Misconfigured, StoreUnavailable
from service.settings import Settings
from service.store.databases import Location, Part, sqlite_transaction, transaction
from service.store.sql_control import SqlControl
from service.store.sql_predictions import SqlPredictions
from tests.stores import a_record, open_store


def test_sqlite_keeps_a_rollback_journal_and_syncs_in_full(tmp_path: Path) -> None:
    engine = Location(tmp_path).writer(Part.CONTROL)
    with engine.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "truncate"
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2
    engine.dispose()


def test_control_state_and_predictions_lie_in_files_of_their_own(tmp_path: Path) -> None:
    folder = tmp_path / "with a space, ? and %41"
    folder.mkdir()
    open_store(folder).close()
    assert {path.name for path in folder.glob("*.sqlite3")} == {"control.sqlite3", "predictions.sqlite3"}


def test_a_reader_makes_no_file(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailable, match="unable to open"):
        SqlControl(Location(tmp_path).reader(Part.CONTROL)).revision()
    assert list(tmp_path.iterdir()) == []


def test_a_reader_waits_for_a_commit_and_then_gives_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.store.databases._READER_WAITS_SECONDS", 0.05)
    open_store(tmp_path).close()
    writer = sqlite3.connect(tmp_path / "control.sqlite3", isolation_level=None)
    writer.execute("BEGIN EXCLUSIVE")
    engine = Location(tmp_path).reader(Part.CONTROL)
    with pytest.raises(StoreUnavailable, match="locked"):
        SqlControl(engine).revision()
    writer.execute("COMMIT")
    assert SqlControl(engine).revision() == 0
    writer.close()
    engine.dispose()


def test_a_read_that_takes_too_long_is_broken_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.store.databases._READ_SECONDS", 0.05)
    open_store(tmp_path).close()
    engine = Location(tmp_path).reader(Part.CONTROL)
    endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n"
    with pytest.raises(StoreUnavailable, match="interrupted"), transaction(engine) as connection:
        connection.exec_driver_sql(endless).all()
    assert SqlControl(engine).revision() == 0
    engine.dispose()


def test_a_look_at_the_revision_is_broken_off_when_it_takes_too_long_and_no_change_after_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.store.databases._STEPS_BETWEEN_LOOKS", 1)
    store = open_store(tmp_path)
    assert store.control.revision() == 0
    monkeypatch.setattr("service.store.databases._READ_SECONDS", -1.0)
    with pytest.raises(StoreUnavailable, match="interrupted"):
        store.control.revision()
    store.control.crown_new_models({"fashion": {1: "a" * 64}})
    store.close()


def test_a_statement_that_the_database_does_not_take_is_not_the_stores_absence(location: Location) -> None:
    engine = location.writer(Part.CONTROL)
    if engine.dialect.name == "sqlite":
        with sqlite_transaction(engine) as driver:
            driver.setlimit(sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER, 32_766)
    wanted = select(literal(1)).where(literal(1).in_(range(66_000)))
    for statement in (wanted, text("SELECT this is wrong")):
        with pytest.raises(DBAPIError), transaction(engine) as connection:
            connection.execute(statement)
    if engine.dialect.name == "sqlite":
        with pytest.raises(sqlite3.OperationalError), sqlite_transaction(engine) as driver:
            driver.execute("SELECT this is wrong")
    with transaction(engine) as connection:
        assert connection.execute(select(literal(1))).scalar_one() == 1
    engine.dispose()


@pytest.mark.postgres
@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
@pytest.mark.parametrize(
    "statement",
    [
        "SELECT pg_terminate_backend(pg_backend_pid())",
        "SET LOCAL statement_timeout = 10; SELECT pg_sleep(60)",
        "DO $$ BEGIN RAISE 'the disk is full' USING ERRCODE = 'disk_full'; END $$",
    ],
)
def test_a_server_that_ends_or_is_out_of_time_or_disk_is_unavailable(location: Location, statement: str) -> None:
    engine = location.writer(Part.CONTROL)
    with pytest.raises(StoreUnavailable), transaction(engine) as connection:
        connection.exec_driver_sql(statement)
    with transaction(engine) as connection:
        assert connection.execute(select(literal(1))).scalar_one() == 1
    engine.dispose()


def test_a_writer_that_finds_no_file_or_a_lock_is_unavailable_and_leaves_nothing_half_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.store.databases._WRITER_WAITS_SECONDS", 0.05)
    with pytest.raises(StoreUnavailable, match="unable to open"):
        SqlPredictions(Location(tmp_path / "nowhere").writer(Part.PREDICTIONS)).append([a_record()])
    store = open_store(tmp_path)
    record = a_record()
    reader = sqlite3.connect(tmp_path / "predictions.sqlite3", isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT * FROM predictions").fetchall()
    with pytest.raises(StoreUnavailable, match="locked"):
        store.predictions.append([record])
    reader.close()
    assert store.predictions.get(record.id) is None
    store.predictions.append([record])
    assert store.predictions.get(record.id) == record
    store.close()


def test_a_file_that_is_no_database_is_the_operators_to_mend(tmp_path: Path) -> None:
    (tmp_path / "control.sqlite3").write_bytes(b"these are not the tables you are looking for" * 100)
    with pytest.raises(Misconfigured, match="the control store can't be used: file is not a database"):
        open_store(tmp_path)


def test_a_server_that_is_not_there_is_unavailable_and_its_password_unsaid(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, store_url=SecretStr("postgresql://ann:hunter2@127.0.0.1:9/db"))
    location = Location.of(settings)
    with pytest.raises(StoreUnavailable) as raised, transaction(location.reader(Part.CONTROL)):
        pass
    assert "hunter2" not in str(raised.value)
    assert "hunter2" not in repr(location)
    assert "hunter2" not in repr(settings)
    assert settings.environment()["SERVOLOOP_STORE_URL"] == "postgresql://ann:hunter2@127.0.0.1:9/db"


@pytest.mark.parametrize("url", ["mysql://a:hunter2@b/c", "hunter2", "postgresql://a:hunter2@b", "http://[hunter2"])
def test_a_url_of_something_else_is_refused_without_showing_it(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SERVOLOOP_STORE_URL", url)
    with pytest.raises(ValidationError) as raised:
        Settings()
    assert "store_url" in str(raised.value)
    assert "hunter2" not in str(raised.value)


def test_an_empty_url_keeps_everything_in_the_data_directory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SERVOLOOP_STORE_URL", "")
    assert Location.of(Settings(data_dir=tmp_path)) == Location(tmp_path)
