"""Feedback, what follows from it, inputs, and the probabilities of all labels."""

import sqlalchemy as sa
from alembic import op

revision = "p002"
down_revision = "p001"


def upgrade() -> None:
    op.add_column("predictions", sa.Column("scores", sa.Text))
    op.create_table(
        "inputs",
        sa.Column("prediction_id", sa.String(36), primary_key=True),
        sa.Column("model", sa.String(64), nullable=False),
        sa.Column("form", sa.String(16), nullable=False),
        sa.Column("chosen", sa.String(16), nullable=False),
        sa.Column("probability", sa.Float, nullable=False),
        sa.Column("digest", sa.String(32), nullable=False),
        sa.Column("size", sa.Integer, nullable=False),
        sa.Column("data", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "feedback",
        sa.Column("id", sa.String(36), primary_key=True),
        sa.Column("prediction_id", sa.String(36)),
        sa.Column("model", sa.String(64)),
        sa.Column("external_id", sa.String(256)),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("value", sa.Text),
        sa.Column("source", sa.String(256), nullable=False),
        sa.Column("trust", sa.SmallInteger, nullable=False),
        sa.Column("actor", sa.String(256)),
        sa.Column("principal", sa.String(256), nullable=False),
        sa.Column("labelled_at", sa.BigInteger, nullable=False),
        sa.Column("received_at", sa.BigInteger, nullable=False),
        sa.Column("supersedes", sa.String(36)),
        sa.Column("idempotency_key", sa.String(256)),
        sa.Column("digest", sa.String(32), nullable=False),
    )
    op.create_index("feedback_by_model", "feedback", ["model", "id"])
    op.create_table(
        "unresolved",
        sa.Column("event_id", sa.String(36), primary_key=True),
        sa.Column("prediction_id", sa.String(36)),
        sa.Column("model", sa.String(64)),
        sa.Column("external_id", sa.String(256)),
        sa.Column("orphaned", sa.Boolean, nullable=False),
    )
    op.create_table(
        "truths",
        sa.Column("prediction_id", sa.String(36), primary_key=True),
        sa.Column("model", sa.String(64), nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("role", sa.String(16), nullable=False),
        sa.Column("label", sa.Text),
        sa.Column("label_event", sa.String(36)),
        sa.Column("labelled_at", sa.BigInteger),
        sa.Column("received_at", sa.BigInteger),
        sa.Column("rating", sa.Float),
        sa.Column("rating_event", sa.String(36)),
        sa.Column("num_events", sa.Integer, nullable=False),
        sa.Column("changed", sa.BigInteger, nullable=False),
    )
    op.create_index("truths_by_change", "truths", ["changed", "prediction_id"])
    for name, table, *columns in (
        ("predictions_by_pair", "predictions", "paired_with"),
        ("feedback_by_prediction", "feedback", "prediction_id"),
        ("feedback_by_external_id", "feedback", "external_id", "model"),
        ("feedback_by_idempotency_key", "feedback", "idempotency_key", "principal"),
        ("unresolved_by_prediction", "unresolved", "prediction_id"),
        ("unresolved_by_external_id", "unresolved", "external_id", "model"),
    ):
        given = sa.text(f"{columns[0]} IS NOT NULL")
        op.create_index(name, table, columns, sqlite_where=given, postgresql_where=given)
