"""How many predictions were made, by minute, and how often what is known of them was changed; inputs by model."""

import sqlalchemy as sa
from alembic import op

revision = "p003"
down_revision = "p002"


def upgrade() -> None:
    counts = op.create_table(
        "prediction_counts",
        sa.Column("model", sa.String(64), primary_key=True),
        sa.Column("slice", sa.String(600), primary_key=True),
        sa.Column("minute", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("version", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("role", sa.String(16), primary_key=True),
        sa.Column("count", sa.BigInteger, nullable=False),
    )
    made = sa.table("predictions", *(sa.column(name) for name in ("model", "version", "role", "time")))
    # Whole numbers divide to whole numbers here, on both databases.
    minute = (
        (made.c.time / sa.literal_column("60000"))
        if op.get_bind().dialect.name == "sqlite"
        else sa.func.div(made.c.time, sa.literal_column("60000"))
    )
    names = ("model", "slice", "minute", "version", "role", "count")
    totals = sa.select(
        made.c.model, sa.literal_column("''"), minute, made.c.version, made.c.role, sa.func.count()
    ).group_by(made.c.model, minute, made.c.version, made.c.role)
    op.execute(counts.insert().from_select(names, totals))
    changes = op.create_table(
        "truth_changes",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("number", sa.BigInteger, nullable=False),
    )
    known = sa.table("truths", sa.column("changed"))
    last = sa.select(sa.literal_column("1"), sa.func.coalesce(sa.func.max(known.c.changed), 0))
    op.execute(changes.insert().from_select(["id", "number"], last))
    op.create_index("inputs_by_model", "inputs", ["model", "prediction_id"])
