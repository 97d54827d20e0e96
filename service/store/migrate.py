"""Brings the store's tables to what this code knows, once, however many processes start at the same time."""

import logging
import zlib
from pathlib import Path
from typing import Any

from alembic.config import Config
from alembic.runtime.environment import EnvironmentContext
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, MetaData, text
from sqlalchemy.exc import DatabaseError

from service.errors import Misconfigured
from service.store import tables
from service.store.databases import Location, Part, reason_of, schema_of, transaction

log = logging.getLogger(__name__)

MIGRATIONS = Path(__file__).parent / "migrations"


def migrate(location: Location) -> None:
    """Bring both parts to the newest schema.

    Raises Misconfigured where a schema is newer than this code or the database can't be used, StoreUnavailable where
    there is no connection.
    """
    for part in Part:
        engine = location.writer(part)
        try:
            upgrade(engine, part, MIGRATIONS / part)
        except DatabaseError as error:
            raise Misconfigured(f"the {part} store can't be used: {reason_of(error)}") from error
        finally:
            engine.dispose()


def upgrade(engine: Engine, part: Part, versions: Path) -> None:
    """Run the migrations in the folder `versions` that the database does not have yet, all in one transaction.

    Tables and the note of their revision are committed together: a migration that fails leaves neither. The
    transaction holds the database's own lock from its first statement, so a second process waits here, and then finds
    nothing left to do.
    """
    scripts = ScriptDirectory(str(MIGRATIONS), version_locations=[str(versions)])
    with transaction(engine) as connection:
        if connection.dialect.name == "postgresql":
            _lock_postgres(connection, part)
        known = {script.revision for script in scripts.walk_revisions()}
        present = MigrationContext.configure(connection).get_current_heads()
        if unknown := set(present) - known:
            raise Misconfigured(
                f"the {part} store's schema is {', '.join(sorted(unknown))}, which is newer than what this version "
                f"knows ({scripts.get_current_head()}); run the newer version, or give this one another store"
            )
        if present != (scripts.get_current_head(),):
            _run(connection, part, scripts)
            log.info("the store's tables are brought up to date", extra={"part": part, "from": present or None})


def metadata_of(part: Part) -> MetaData:
    """The tables of a part, as queries name them."""
    return tables.CONTROL if part is Part.CONTROL else tables.PREDICTIONS


def _run(connection: Connection, part: Part, scripts: ScriptDirectory) -> None:
    config = Config(attributes={"connection": connection, "metadata": metadata_of(part)})

    def to_head(current: Any, _: MigrationContext) -> Any:
        return scripts._upgrade_revs("head", current)

    with EnvironmentContext(config, scripts, fn=to_head):
        scripts.run_env()


def _lock_postgres(connection: Connection, part: Part) -> None:
    """SQLite's BEGIN IMMEDIATE locks by itself; here it takes a lock of our own, until the transaction ends."""
    schema = schema_of(part)
    connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": zlib.crc32(schema.encode())})
    connection.execute(text(f"CREATE SCHEMA IF NOT EXISTS {schema}"))
