"""The prediction log."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "p001"
down_revision = None


def upgrade() -> None:
    json = sa.JSON().with_variant(JSONB(), "postgresql")
    op.create_table(
        "predictions",
        sa.Column("id", sa.String(36), primary_key=True),
        sa.Column("time", sa.BigInteger, nullable=False),
        sa.Column("model", sa.String(64), nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("role", sa.String(16), nullable=False),
        sa.Column("paired_with", sa.String(36)),
        sa.Column("propensity", sa.Float, nullable=False),
        sa.Column("external_id", sa.String(256)),
        sa.Column("key", sa.String(256)),
        sa.Column("tags", json, nullable=False),
        sa.Column("outputs", json, nullable=False),
        sa.Column("latency", sa.Float, nullable=False),
        sa.Column("principal", sa.String(256), nullable=False),
        sa.Column("request_id", sa.String(128), nullable=False),
    )
    op.create_index("predictions_by_model", "predictions", ["model", "id"])
    named = sa.text("external_id IS NOT NULL")
    op.create_index(
        "predictions_by_external_id",
        "predictions",
        ["external_id", "id"],
        sqlite_where=named,
        postgresql_where=named,
    )
