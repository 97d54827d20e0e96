"""The tables, for queries. What makes them is in migrations/; a test holds the two together.

Times are whole milliseconds since 1970. Ids are UUIDv7 as text: their order is the order of time, so the primary key
serves the newest-first lists and the retention without an index of its own.
"""

from sqlalchemy import JSON, BigInteger, Column, Float, Index, Integer, MetaData, String, Table, Text
from sqlalchemy.dialects.postgresql import JSONB

CONTROL = MetaData()
PREDICTIONS = MetaData()

_JSON = JSON().with_variant(JSONB(), "postgresql")

# One row, which every change locks first: changes queue up behind it, on PostgreSQL too.
revision = Table(
    "revision", CONTROL, Column("id", Integer, primary_key=True), Column("value", BigInteger, nullable=False)
)

versions = Table(
    "versions",
    CONTROL,
    Column("model", String(64), primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("digest", String(64), nullable=False),
    Column("first_seen", BigInteger, nullable=False),
    # When it was deleted, and when its files were gone: the row stays, so that its number is never used again.
    Column("deleted", BigInteger),
    Column("removed", BigInteger),
)

# Versions without a row are wanted as every version is at first.
wishes = Table(
    "wishes",
    CONTROL,
    Column("model", String(64), primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("loading", String(16), nullable=False),
    Column("replicas", Integer, nullable=False),
    Column("precision", String(16), nullable=False),
    Column("generation", Integer, nullable=False),
)

aliases = Table(
    "aliases",
    CONTROL,
    Column("model", String(64), primary_key=True),
    Column("alias", String(64), primary_key=True),
    Column("version", Integer, nullable=False),
)

alias_history = Table(
    "alias_history",
    CONTROL,
    Column("id", Integer, primary_key=True),
    Column("model", String(64), nullable=False),
    Column("alias", String(64), nullable=False),
    Column("version", Integer, nullable=False),
    Column("previous", Integer),
    Column("actor", String(256), nullable=False),
    Column("reason", Text, nullable=False),
    Column("time", BigInteger, nullable=False),
    Column("revision", BigInteger, nullable=False),
    Index("alias_history_by_model", "model", "id"),
)

predictions = Table(
    "predictions",
    PREDICTIONS,
    Column("id", String(36), primary_key=True),
    Column("time", BigInteger, nullable=False),
    Column("model", String(64), nullable=False),
    Column("version", Integer, nullable=False),
    Column("digest", String(64), nullable=False),
    Column("role", String(16), nullable=False),
    Column("paired_with", String(36)),
    Column("propensity", Float, nullable=False),
    Column("external_id", String(256)),
    Column("key", String(256)),
    Column("tags", _JSON, nullable=False),
    Column("outputs", _JSON, nullable=False),
    Column("latency", Float, nullable=False),
    Column("principal", String(256), nullable=False),
    Column("request_id", String(128), nullable=False),
    Index("predictions_by_model", "model", "id"),
)
# Most predictions carry no id of the caller's: they cost nothing here.
_named = predictions.c.external_id.is_not(None)
Index(
    "predictions_by_external_id",
    predictions.c.external_id,
    predictions.c.id,
    sqlite_where=_named,
    postgresql_where=_named,
)
