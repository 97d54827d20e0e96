"""The tables, for queries. What makes them is in migrations/; a test holds the two together.

Times are whole milliseconds since 1970. Ids are UUIDv7 as text: their order is the order of time, so the primary key
serves the newest-first lists and the retention without an index of its own.
"""

from typing import Any

import orjson
from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Dialect,
    Float,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    String,
    Table,
    Text,
    TypeDecorator,
    and_,
)
from sqlalchemy.dialects.postgresql import JSONB

CONTROL = MetaData()
PREDICTIONS = MetaData()

_JSON = JSON().with_variant(JSONB(), "postgresql")


class _Value(TypeDecorator[Any]):
    """Any JSON but null, as text: in a column of type JSON, SQLite would make a number of the text of one."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> str | None:
        return None if value is None else orjson.dumps(value).decode()

    def process_result_value(self, value: str | None, dialect: Dialect) -> Any:
        return None if value is None else orjson.loads(value)


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

# What all versions of a model share; it stays when they are gone, because feedback comes later.
contracts = Table(
    "contracts",
    CONTROL,
    Column("model", String(64), primary_key=True),
    Column("task", String(16), nullable=False),
    Column("labels", _JSON, nullable=False),
)

# Work that the loop process does for models.
jobs = Table(
    "jobs",
    CONTROL,
    Column("id", String(36), primary_key=True),
    Column("model", String(64), nullable=False),
    Column("kind", String(16), nullable=False),
    # Whether no other such job of its model may be under way.
    Column("single_flight", Boolean, nullable=False),
    Column("state", String(16), nullable=False),
    Column("spec", _Value, nullable=False),
    Column("reason", Text, nullable=False),
    Column("actor", String(256), nullable=False),
    Column("principal", String(256), nullable=False),
    Column("created", BigInteger, nullable=False),
    Column("started", BigInteger),
    Column("ended", BigInteger),
    Column("owner", String(256)),
    Column("leased_until", BigInteger),
    Column("attempts", Integer, nullable=False),
    Column("cancel_asked", Boolean, nullable=False),
    Column("progress", _Value),
    Column("result", _Value),
    Column("error", Text),
    Index("jobs_by_model", "model", "id"),
)

# What happened to a job: its log, whose oldest lines make room.
job_events = Table(
    "job_events",
    CONTROL,
    Column("job", String(36), primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("time", BigInteger, nullable=False),
    Column("what", String(64), nullable=False),
    Column("details", _Value, nullable=False),
)

# At most one of a model. `policy` is for who decides; the store keeps it as it is.
rollouts = Table(
    "rollouts",
    CONTROL,
    Column("model", String(64), primary_key=True),
    Column("version", Integer, nullable=False),
    Column("stage", String(16), nullable=False),
    Column("share", Float, nullable=False),
    Column("paused", Boolean, nullable=False),
    Column("policy", _JSON, nullable=False),
    Column("salt", String(64), nullable=False),
    Column("began", BigInteger, nullable=False),
    Column("stage_began", BigInteger, nullable=False),
    Column("actor", String(256), nullable=False),
    Column("reason", Text, nullable=False),
)

# Only ever added to.
decisions = Table(
    "decisions",
    CONTROL,
    Column("id", Integer, primary_key=True),
    Column("model", String(64), nullable=False),
    Column("time", BigInteger, nullable=False),
    Column("actor", String(256), nullable=False),
    Column("kind", String(32), nullable=False),
    Column("before", _JSON, nullable=False),
    Column("after", _JSON, nullable=False),
    Column("reason", Text, nullable=False),
    Column("revision", BigInteger, nullable=False),
    Index("decisions_by_model", "model", "id"),
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
    # Probabilities of all labels, where there are more than two: float32, little-endian, in base64.
    Column("scores", Text),
    Index("predictions_by_model", "model", "id"),
)

# How many were made, by minute since 1970; a slice is those with one tag, the empty one all.
prediction_counts = Table(
    "prediction_counts",
    PREDICTIONS,
    Column("model", String(64), primary_key=True),
    Column("slice", String(600), primary_key=True),
    Column("minute", Integer, primary_key=True, autoincrement=False),
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("role", String(16), primary_key=True),
    Column("count", BigInteger, nullable=False),
)

# What predictions were made of, for some of them.
inputs = Table(
    "inputs",
    PREDICTIONS,
    Column("prediction_id", String(36), primary_key=True),
    Column("model", String(64), nullable=False),
    Column("form", String(16), nullable=False),
    Column("chosen", String(16), nullable=False),
    Column("probability", Float, nullable=False),
    Column("digest", String(32), nullable=False),
    Column("size", Integer, nullable=False),
    Column("data", LargeBinary, nullable=False),
    Index("inputs_by_model", "model", "prediction_id"),
)

# Events as they came. `model` is filled in once the prediction is known.
feedback = Table(
    "feedback",
    PREDICTIONS,
    Column("id", String(36), primary_key=True),
    Column("prediction_id", String(36)),
    Column("model", String(64)),
    Column("external_id", String(256)),
    Column("kind", String(16), nullable=False),
    Column("value", _Value),
    Column("source", String(256), nullable=False),
    Column("trust", SmallInteger, nullable=False),
    Column("actor", String(256)),
    Column("principal", String(256), nullable=False),
    Column("labelled_at", BigInteger, nullable=False),
    Column("received_at", BigInteger, nullable=False),
    Column("supersedes", String(36)),
    Column("idempotency_key", String(256)),
    Column("digest", String(32), nullable=False),
    Index("feedback_by_model", "model", "id"),
)

# Events whose prediction is not there: not yet, or never.
unresolved = Table(
    "unresolved",
    PREDICTIONS,
    Column("event_id", String(36), primary_key=True),
    Column("prediction_id", String(36)),
    Column("model", String(64)),
    Column("external_id", String(256)),
    Column("orphaned", Boolean, nullable=False),
)

# What is known of each prediction that somebody said something of: made from its events, and made anew at each one.
# `changed` grows with every commit that changes rows here, so that who follows the table finds what is new to it.
truths = Table(
    "truths",
    PREDICTIONS,
    Column("prediction_id", String(36), primary_key=True),
    Column("model", String(64), nullable=False),
    Column("version", Integer, nullable=False),
    Column("role", String(16), nullable=False),
    Column("label", _Value),
    Column("label_event", String(36)),
    Column("labelled_at", BigInteger),
    Column("received_at", BigInteger),
    Column("rating", Float),
    Column("rating_event", String(36)),
    Column("num_events", Integer, nullable=False),
    Column("changed", BigInteger, nullable=False),
    Index("truths_by_change", "changed", "prediction_id"),
)

# Reports of offline evaluations: how a version did on labelled rows, and perhaps another beside it.
evaluations = Table(
    "evaluations",
    PREDICTIONS,
    Column("id", String(36), primary_key=True),
    Column("model", String(64), nullable=False),
    Column("version", Integer, nullable=False),
    Column("against", Integer),
    Column("dataset", String(256), nullable=False),
    Column("digest", String(32), nullable=False),
    Column("rows", Integer, nullable=False),
    Column("principal", String(256), nullable=False),
    Column("report", _Value, nullable=False),
    Index("evaluations_by_model", "model", "id"),
)

# One row: the number of the last commit that changed what is known. Its rows may be deleted, so they don't tell it.
truth_changes = Table(
    "truth_changes",
    PREDICTIONS,
    Column("id", Integer, primary_key=True),
    Column("number", BigInteger, nullable=False),
)


def _index_where_given(name: str, *columns: "Column[Any]") -> None:
    """An index of the rows in which the first of its columns is not null: the others cost nothing here."""
    given = columns[0].is_not(None)
    Index(name, *columns, sqlite_where=given, postgresql_where=given)


_index_where_given("predictions_by_external_id", predictions.c.external_id, predictions.c.id)
_index_where_given("predictions_by_pair", predictions.c.paired_with)
_index_where_given("feedback_by_prediction", feedback.c.prediction_id)
_index_where_given("feedback_by_external_id", feedback.c.external_id, feedback.c.model)
_index_where_given("feedback_by_idempotency_key", feedback.c.idempotency_key, feedback.c.principal)
_index_where_given("unresolved_by_prediction", unresolved.c.prediction_id)
_index_where_given("unresolved_by_external_id", unresolved.c.external_id, unresolved.c.model)

_is_alone = and_(jobs.c.single_flight, jobs.c.state.in_(["queued", "running"]))
Index("jobs_under_way", jobs.c.model, jobs.c.kind, unique=True, sqlite_where=_is_alone, postgresql_where=_is_alone)
