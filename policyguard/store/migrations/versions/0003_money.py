"""Alerts of budgets, the breaker of upstreams, and what was refused in columns that reports read.

Revision ID: 0003
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

DIMENSIONS = ("surface", "tenant", "user", "tier", "cohort", "feature", "engineer")


def upgrade() -> None:
    op.add_column("budget_windows", sa.Column("alert_at", sa.String()))
    op.add_column("budget_windows", sa.Column("alerted", sa.Integer(), nullable=False, server_default="0"))
    op.add_column("legs", sa.Column("upstream", sa.String()))
    op.add_column("legs", sa.Column("fault_us", sa.BigInteger()))
    op.add_column("legs", sa.Column("probe", sa.Integer(), nullable=False, server_default="0"))
    _index("ix_legs_fault", "legs", ["upstream", "fault_us"], "fault_us IS NOT NULL")
    _index("ix_legs_presumed", "legs", ["ended_us"], "state = 'presumed'")
    op.create_table(
        "breakers",
        sa.Column("upstream", sa.String(), nullable=False),
        sa.Column("since_us", sa.BigInteger(), nullable=False),
        sa.Column("open_until_us", sa.BigInteger()),
        sa.Column("probes", sa.Integer(), nullable=False),
        sa.Column("probing_us", sa.BigInteger()),
        sa.PrimaryKeyConstraint("upstream", name="pk_breakers"),
    )
    _refusals()


def downgrade() -> None:
    op.drop_table("refusals")
    op.drop_table("breakers")
    op.drop_index("ix_legs_presumed", "legs")
    op.drop_index("ix_legs_fault", "legs")
    for table, names in (("legs", ("probe", "fault_us", "upstream")), ("budget_windows", ("alerted", "alert_at"))):
        for name in names:
            op.drop_column(table, name)


def _index(name: str, table: str, columns: list[str], where: str) -> None:
    op.create_index(name, table, columns, sqlite_where=sa.text(where), postgresql_where=sa.text(where))


def _refusals() -> None:
    op.create_table(
        "refusals",
        sa.Column("decision_id", sa.String(), nullable=False),
        sa.Column("created_us", sa.BigInteger(), nullable=False),
        *(sa.Column(name, sa.String()) for name in DIMENSIONS),
        sa.Column("model", sa.String()),
        sa.Column("size", sa.String()),
        sa.Column("quality", sa.String()),
        sa.Column("n", sa.Integer(), nullable=False),
        sa.Column("ceiling_micros", sa.BigInteger(), nullable=False),
        sa.Column("delete_after_us", sa.BigInteger()),
        sa.PrimaryKeyConstraint("decision_id", name="pk_refusals"),
    )
    op.create_index("ix_refusals_created", "refusals", ["created_us"])
    _index("ix_refusals_delete_after", "refusals", ["delete_after_us"], "delete_after_us IS NOT NULL")
    names = ", ".join(f'"{name}"' for name in DIMENSIONS)
    op.execute(  # what was refused before: its price stands in no column
        f"INSERT INTO refusals (decision_id, created_us, {names}, n, ceiling_micros, delete_after_us)"  # noqa: S608
        f" SELECT decision_id, at_us, {names}, 1, 0, delete_after_us FROM events"
        " WHERE outcome = 'deny' AND type = 'request.decided' AND decision_id IS NOT NULL"
    )
