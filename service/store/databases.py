"""Where the store lies, and how it is connected to: the one place that tells SQLite and PostgreSQL apart.

SQLite: two files in the data directory. Releases 3.7.0 to 3.51.2 can lose committed rows of a write-ahead log when
connections write and checkpoint at once, so we keep to the rollback journal with synchronous=FULL; the recorder alone
opens the files for writing, on one connection each.

PostgreSQL: two schemas of the database that SERVOLOOP_STORE_URL names.
"""

import sqlite3
import time
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from enum import StrEnum
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

import orjson
from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.pool import QueuePool

from service.errors import Misconfigured, StoreUnavailable
from service.settings import Settings

_CONNECT_SECONDS = 5
# How long a connection waits for others: a reader for a commit, the writer for the longest read.
_READER_WAITS_SECONDS, _WRITER_WAITS_SECONDS = 2.0, 30.0
_READER_CONNECTIONS = 2
# A read takes no longer: while it lasts, SQLite commits nothing.
_READ_SECONDS = 5.0
_STEPS_BETWEEN_LOOKS = 10_000
# PostgreSQL takes 65,535 parameters in a statement, SQLite as few as 32,766; a name may be two, and be there twice.
_MOST_NAMED = 1_000
# PostgreSQL's class of codes for a statement or a row that is too large: alone of its OperationalErrors, it stays so.
_LIMIT_EXCEEDED = "54"

T = TypeVar("T")


class Part(StrEnum):
    """The two databases: they don't block each other."""

    CONTROL = "control"
    PREDICTIONS = "predictions"


@dataclass(frozen=True, slots=True)
class Location:
    """A folder for SQLite files, or the URL of a PostgreSQL database, whose password no repr shows."""

    folder: Path
    url: URL | None = None

    @classmethod
    def of(cls, settings: Settings) -> "Location":
        """Raises Misconfigured on a URL that can't be understood."""
        if settings.store_url is None:
            return cls(settings.data_dir)
        try:
            url = make_url(settings.store_url.get_secret_value()).set(drivername="postgresql+psycopg")
        except (ArgumentError, ValueError):
            raise Misconfigured("SERVOLOOP_STORE_URL is no URL of a database") from None
        return cls(settings.data_dir, url)

    def file(self, part: Part) -> Path:
        """The SQLite file of a part."""
        return self.folder / f"{part}.sqlite3"

    def writer(self, part: Part) -> Engine:
        """For the recorder alone. Connects when it is first used. Raises Misconfigured where the driver is missing."""
        if self.url is not None:
            return _postgres(self.url, part, read_only=False)
        return _sqlite(self.file(part), read_only=False)

    def reader(self, part: Part) -> Engine:
        """Can't write. Connects when it is first used. Raises Misconfigured where the driver is missing."""
        if self.url is not None:
            return _postgres(self.url, part, read_only=True)
        return _sqlite(self.file(part), read_only=True)


@contextmanager
def transaction(engine: Engine) -> Iterator[Connection]:
    """One transaction, committed at the block's end. Raises StoreUnavailable where trying again later may help."""
    try:
        with engine.begin() as connection:
            yield connection
    except (OperationalError, InterfaceError) as error:
        if not _may_pass(error):
            raise
        raise StoreUnavailable(reason_of(error)) from error
    except PoolTimeoutError as error:
        raise StoreUnavailable("all connections are busy") from error


@contextmanager
def sqlite_transaction(engine: Engine) -> Iterator[sqlite3.Connection]:
    """As `transaction` on a writer of SQLite, for the driver's own statements. Raises StoreUnavailable.

    Where transactions are many and small, what SQLAlchemy does for each takes longer than its inserts.
    """
    with _sqlite_driver(engine) as driver:
        driver.execute("BEGIN IMMEDIATE")
        yield driver
        driver.execute("COMMIT")


def driver_of(connection: Connection) -> sqlite3.Connection:
    """What lies under a connection to SQLite."""
    driver = connection.connection.dbapi_connection
    assert isinstance(driver, sqlite3.Connection)
    return driver


def sqlite_value(engine: Engine, query: str) -> Any:
    """The one value that a query gives, asked of the driver. Raises StoreUnavailable."""
    with _sqlite_driver(engine) as driver:
        _limit_time(driver)
        try:
            (value,) = driver.execute(query).fetchone()
        finally:
            driver.set_progress_handler(None, 0)  # a writer's next commit may take longer
    return value


@contextmanager
def snapshot(engine: Engine) -> Iterator[Connection]:
    """A transaction whose reads all see the same state. Raises StoreUnavailable."""
    if engine.dialect.name == "postgresql":  # SQLite's transactions are so by themselves
        engine = engine.execution_options(isolation_level="REPEATABLE READ")
    with transaction(engine) as connection:
        yield connection


def reason_of(error: DBAPIError) -> str:
    """The driver's first line, which names neither statement nor parameters."""
    return str(error.orig).partition("\n")[0]


def portions(names: Iterable[T]) -> Iterator[list[T]]:
    """Of rows that statements name one by one, however many they are, as many at a time as one statement takes."""
    left = iter(names)
    while portion := list(islice(left, _MOST_NAMED)):
        yield portion


def _may_pass(error: DBAPIError) -> bool:
    """Whether the same statement may do better later: what failed is the connection, a lock or a disk, and not it."""
    if isinstance(error.orig, sqlite3.Error):
        return _sqlite_may_pass(error.orig)
    state: str | None = getattr(error.orig, "sqlstate", None)
    if state is None:  # the server said nothing: there is none, or the driver did not send this
        return error.statement is None or error.connection_invalidated
    return not state.startswith(_LIMIT_EXCEEDED)


def _sqlite_may_pass(error: sqlite3.Error) -> bool:
    # SQLITE_ERROR is what SQLite has no code for: nearly always a statement that it does not take. The driver's own
    # errors have no code.
    code: int = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)
    return isinstance(error, sqlite3.OperationalError) and code & 0xFF != sqlite3.SQLITE_ERROR


def _sqlite(path: Path, *, read_only: bool) -> Engine:
    mode, seconds = ("ro", _READER_WAITS_SECONDS) if read_only else ("rwc", _WRITER_WAITS_SECONDS)
    address = f"file:{quote(str(path.absolute()))}?mode={mode}"

    def connect() -> sqlite3.Connection:
        # isolation_level None: the driver would begin transactions by its own rules, and none before CREATE TABLE.
        connection = sqlite3.connect(address, uri=True, timeout=seconds, isolation_level=None, check_same_thread=False)
        if not read_only:
            connection.execute("PRAGMA journal_mode = TRUNCATE")
            connection.execute("PRAGMA synchronous = FULL")
        return connection

    engine = create_engine(
        "sqlite://",
        creator=connect,
        poolclass=QueuePool,
        **_pool(read_only=read_only),
    )

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        if read_only:
            _limit_time(driver_of(connection))
        # A writer takes the lock at once: one that read first could not be let in later.
        connection.exec_driver_sql("BEGIN" if read_only else "BEGIN IMMEDIATE")

    return engine


@contextmanager
def _sqlite_driver(engine: Engine) -> Iterator[sqlite3.Connection]:
    """The driver's connection; what is not committed at the block's end is taken back. Raises StoreUnavailable."""
    try:
        with closing(engine.raw_connection()) as pooled:
            driver = pooled.dbapi_connection
            assert isinstance(driver, sqlite3.Connection)
            yield driver
    except sqlite3.OperationalError as error:
        if not _sqlite_may_pass(error):
            raise
        raise StoreUnavailable(str(error)) from error
    except PoolTimeoutError as error:
        raise StoreUnavailable("all connections are busy") from error


def _limit_time(driver: sqlite3.Connection) -> None:
    """Let SQLite break off what takes too long."""
    ends = time.monotonic() + _READ_SECONDS
    driver.set_progress_handler(lambda: time.monotonic() > ends, _STEPS_BETWEEN_LOOKS)


def _postgres(url: URL, part: Part, *, read_only: bool) -> Engine:
    options = [f"-c search_path={schema_of(part)}"]
    if read_only:
        options.append(f"-c default_transaction_read_only=on -c statement_timeout={_READ_SECONDS:g}s")
    given = url.query.get("options", "")
    arguments = {
        "connect_timeout": _CONNECT_SECONDS,
        "application_name": "servoloop",
        "options": " ".join([*([given] if isinstance(given, str) else given), *options]).strip(),
    }
    try:
        return create_engine(
            url.difference_update_query(["options"]),
            connect_args=arguments,
            pool_pre_ping=True,  # a server that was restarted costs no request
            **_pool(read_only=read_only),
        )
    except ImportError:
        raise Misconfigured(
            "PostgreSQL is asked for, and its driver is not installed: pip install 'servoloop[postgres]'"
        ) from None


def _pool(*, read_only: bool) -> dict[str, Any]:
    return {
        "pool_size": _READER_CONNECTIONS if read_only else 1,
        "max_overflow": 0,
        "pool_timeout": _READER_WAITS_SECONDS,
        "json_serializer": lambda value: orjson.dumps(value).decode(),
        "json_deserializer": orjson.loads,
        # What callers sent must not end up in logs.
        "hide_parameters": True,
    }


def schema_of(part: Part) -> str:
    """The PostgreSQL schema of a part."""
    return f"servoloop_{part}"
