"""What all versions of a model share: its task and its labels."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "c003"
down_revision = "c002"


def upgrade() -> None:
    op.create_table(
        "contracts",
        sa.Column("model", sa.String(64), primary_key=True),
        sa.Column("task", sa.String(16), nullable=False),
        sa.Column("labels", sa.JSON().with_variant(JSONB(), "postgresql"), nullable=False),
    )
