"""What is wanted of each version, and which versions were deleted."""

import sqlalchemy as sa
from alembic import op

revision = "c002"
down_revision = "c001"


def upgrade() -> None:
    op.create_table(
        "wishes",
        sa.Column("model", sa.String(64), primary_key=True),
        sa.Column("version", sa.Integer, primary_key=True),
        sa.Column("loading", sa.String(16), nullable=False),
        sa.Column("replicas", sa.Integer, nullable=False),
        sa.Column("precision", sa.String(16), nullable=False),
        sa.Column("generation", sa.Integer, nullable=False),
    )
    op.add_column("versions", sa.Column("deleted", sa.BigInteger))
    op.add_column("versions", sa.Column("removed", sa.BigInteger))
