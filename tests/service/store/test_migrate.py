"""Tables and their revision, on both databases."""

import os
import subprocess
import sys
from pathlib import Path

import orjson
import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Engine, inspect, text

from service.domain import Ref
from service.errors import Misconfigured
from service.settings import Settings
from service.store.base import CountFilters, State
from service.store.databases import Location, Part, transaction
from service.store.migrate import MIGRATIONS, metadata_of, migrate, upgrade
from service.store.sql_control import read_versions
from tests.stores import OpenStore, a_record, an_event, open_store

NEWEST = max(script.stem[:4] for script in (MIGRATIONS / Part.CONTROL).glob("*.py"))

HALF_DONE = f"""
import sqlalchemy as sa
from alembic import op

revision = "c999"
down_revision = "{NEWEST}"


def upgrade() -> None:
    op.create_table("half", sa.Column("id", sa.Integer, primary_key=True))
    op.add_column("aliases", sa.Column("note", sa.Text))
    raise RuntimeError("the power went")
"""
ALTERED = f"""
import sqlalchemy as sa
from alembic import op

revision = "c999"
down_revision = "{NEWEST}"


def upgrade() -> None:
    with op.batch_alter_table("aliases") as batch:
        batch.add_column(sa.Column("note", sa.Text, nullable=False, server_default="none"))
        batch.alter_column("alias", new_column_name="name")
"""


def tables(location: Location) -> set[str]:
    engine = location.writer(Part.CONTROL)
    with transaction(engine) as connection:
        names = set(inspect(connection).get_table_names())
    engine.dispose()
    return names


def with_another(folder: Path, code: str) -> Path:
    """The control part's migrations, and one more."""
    for script in (MIGRATIONS / Part.CONTROL).glob("*.py"):
        (folder / script.name).write_bytes(script.read_bytes())
    (folder / "c999_more.py").write_text(code)
    return folder


def revision_in(location: Location) -> str | None:
    engine = location.writer(Part.CONTROL)
    with transaction(engine) as connection:
        revision = MigrationContext.configure(connection).get_current_revision()
    engine.dispose()
    return revision


@pytest.mark.parametrize("part", Part)
def test_the_tables_made_are_those_that_queries_name(store: OpenStore, location: Location, part: Part) -> None:
    engine = location.writer(part)
    with transaction(engine) as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata_of(part)) == []
    engine.dispose()


def test_migrating_again_changes_nothing(store: OpenStore, location: Location) -> None:
    store.control.crown_new_models({"fashion": {1: "a" * 64}})
    migrate(location)
    assert store.control.aliases() == {"fashion": {"champion": 1}}


def test_two_processes_that_start_at_once_make_the_tables_once(settings: Settings, location: Location) -> None:
    code = """if True:
        import sys
        from service.settings import Settings
        from service.store.databases import Location
        from service.store.migrate import migrate
        print("ready", flush=True)
        sys.stdin.readline()
        migrate(Location.of(Settings()))
    """
    environment = {**os.environ, **settings.environment()}
    command = [sys.executable, "-c", code]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "env": environment}
    processes = [subprocess.Popen(command, **pipes) for _ in range(3)]  # type: ignore[call-overload]
    for process in processes:
        assert process.stdout.readline() == b"ready\n"
    for process in processes:
        process.stdin.write(b"\n")
        process.stdin.flush()
    ended = [(process.communicate()[1].decode(), process.returncode) for process in processes]
    assert ended == [("", 0)] * 3
    assert revision_in(location) == NEWEST


def test_a_newer_schema_is_refused(store: OpenStore, location: Location) -> None:
    engine = location.writer(Part.CONTROL)
    with transaction(engine) as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = 'c999'"))
    engine.dispose()
    with pytest.raises(Misconfigured, match=rf"the control store's schema is c999, which is newer .* \({NEWEST}\)"):
        migrate(location)
    assert revision_in(location) == "c999"


@pytest.mark.parametrize("was_there", [True, False])
def test_a_migration_that_fails_leaves_neither_tables_nor_a_revision(
    location: Location, tmp_path: Path, was_there: bool
) -> None:
    if was_there:
        migrate(location)
    before = (tables(location), revision_in(location)) if was_there else None
    folder = tmp_path / "versions"
    folder.mkdir()
    engine = location.writer(Part.CONTROL)
    with pytest.raises(RuntimeError, match="the power went"):
        upgrade(engine, Part.CONTROL, with_another(folder, HALF_DONE))
    engine.dispose()
    assert (tables(location), revision_in(location)) == (before or (set(), None))
    migrate(location)
    assert "aliases" in tables(location)
    assert "half" not in tables(location)


def test_a_table_can_be_altered_with_its_rows(store: OpenStore, location: Location, tmp_path: Path) -> None:
    store.control.crown_new_models({"fashion": {1: "a" * 64}})
    store.close()
    folder = tmp_path / "versions"
    folder.mkdir()
    engine = location.writer(Part.CONTROL)
    upgrade(engine, Part.CONTROL, with_another(folder, ALTERED))
    with transaction(engine) as connection:
        rows = connection.execute(text("SELECT model, name, version, note FROM aliases")).all()
    engine.dispose()
    assert [tuple(row) for row in rows] == [("fashion", "champion", 1, "none")]


def made_by_the_first_release(location: Location, part: Part, script: str, folder: Path) -> Engine:
    """The tables of a part as its first migration makes them."""
    folder.mkdir()
    (folder / script).write_bytes((MIGRATIONS / part / script).read_bytes())
    engine = location.writer(part)
    upgrade(engine, part, folder)
    return engine


def test_a_store_of_the_first_release_keeps_what_it_has(location: Location, tmp_path: Path) -> None:
    engine = made_by_the_first_release(location, Part.CONTROL, "c001_control_state.py", tmp_path / "first")
    with transaction(engine) as connection:
        connection.execute(text("INSERT INTO versions VALUES ('fashion', 4, 'abc', 1), ('mood', 1, 'abc', 1)"))
        connection.execute(text("INSERT INTO aliases VALUES ('fashion', 'champion', 4)"))
    engine.dispose()
    assert read_versions(location, "fashion") == {4: False}
    opened = open_store(location)
    assert opened.control.state() == State(0, {"fashion": {"champion": 4}})
    opened.control.delete_version(Ref("mood", 1))
    assert opened.control.state().deleted == {Ref("mood", 1)}
    opened.close()


def test_a_prediction_log_of_the_first_release_keeps_what_it_has(location: Location, tmp_path: Path) -> None:
    engine = made_by_the_first_release(location, Part.PREDICTIONS, "p001_prediction_log.py", tmp_path / "first")
    record = a_record(external_id="order-1")
    row = (
        f"('{record.id}', 1, 'fashion', 1, '{record.digest}', 'answered', NULL, 1.0, 'order-1', NULL, "
        f"'{{}}', '{orjson.dumps(record.outputs).decode()}', 0.002, 'anonymous', 'request-1')"
    ).replace(":", "\\:")
    with transaction(engine) as connection:
        connection.execute(text(f"INSERT INTO predictions VALUES {row}"))
    engine.dispose()
    opened = open_store(location)
    assert opened.predictions.get(record.id) == record
    assert opened.predictions.count(CountFilters("fashion", 1, "answered", until=60)) == 1
    assert opened.feedback.add([an_event(prediction_id=record.id)], {})[0].status == "joined"
    opened.close()


def test_migrations_are_shipped() -> None:
    names = {path.relative_to(MIGRATIONS).as_posix() for path in MIGRATIONS.rglob("*.py")}
    assert {
        "env.py",
        "control/c001_control_state.py",
        "control/c002_wishes_and_deletion.py",
        "control/c003_contracts.py",
        "control/c004_jobs.py",
        "control/c005_rollouts.py",
        "predictions/p001_prediction_log.py",
        "predictions/p002_feedback.py",
        "predictions/p003_evaluation.py",
    } <= names
