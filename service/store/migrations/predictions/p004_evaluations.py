"""Reports of offline evaluations."""

import sqlalchemy as sa
from alembic import op

revision = "p004"
down_revision = "p003"


def upgrade() -> None:
    op.create_table(
        "evaluations",
        sa.Column("id", sa.String(36), primary_key=True),
        sa.Column("model", sa.String(64), nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("against", sa.Integer),
        sa.Column("dataset", sa.String(256), nullable=False),
        sa.Column("digest", sa.String(32), nullable=False),
        sa.Column("rows", sa.Integer, nullable=False),
        sa.Column("principal", sa.String(256), nullable=False),
        sa.Column("report", sa.Text, nullable=False),
    )
    op.create_index("evaluations_by_model", "evaluations", ["model", "id"])
