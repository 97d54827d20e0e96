"""Work that the loop process does for models, with a log of each."""

import sqlalchemy as sa
from alembic import op

revision = "c004"
down_revision = "c003"


def upgrade() -> None:
    op.create_table(
        "jobs",
        sa.Column("id", sa.String(36), primary_key=True),
        sa.Column("model", sa.String(64), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("single_flight", sa.Boolean, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("spec", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("actor", sa.String(256), nullable=False),
        sa.Column("principal", sa.String(256), nullable=False),
        sa.Column("created", sa.BigInteger, nullable=False),
        sa.Column("started", sa.BigInteger),
        sa.Column("ended", sa.BigInteger),
        sa.Column("owner", sa.String(256)),
        sa.Column("leased_until", sa.BigInteger),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("cancel_asked", sa.Boolean, nullable=False),
        sa.Column("progress", sa.Text),
        sa.Column("result", sa.Text),
        sa.Column("error", sa.Text),
    )
    op.create_index("jobs_by_model", "jobs", ["model", "id"])
    is_alone = sa.text("single_flight AND state IN ('queued', 'running')")
    op.create_index(
        "jobs_under_way",
        "jobs",
        ["model", "kind"],
        unique=True,
        sqlite_where=is_alone,
        postgresql_where=is_alone,
    )
    op.create_table(
        "job_events",
        sa.Column("job", sa.String(36), primary_key=True),
        sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("time", sa.BigInteger, nullable=False),
        sa.Column("what", sa.String(64), nullable=False),
        sa.Column("details", sa.Text, nullable=False),
    )
