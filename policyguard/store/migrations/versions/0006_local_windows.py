"""Windows are named by the local time of their start, so that hosts with other zone tables find the same ones.

Days, weeks, months and years of zones get a new name, the nearest local midnight, in the windows and in the charges of
legs. Two windows that two tables had opened for one day become one.

Revision ID: 0006
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import sqlalchemy as sa
from alembic import op

from policyguard.zones import names, zone

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_CALENDAR = ("day", "week", "month", "year")
_DAY = timedelta(days=1)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def upgrade() -> None:
    op.add_column("budget_windows", sa.Column("opens_us", sa.BigInteger(), nullable=False, server_default="0"))
    op.execute("UPDATE budget_windows SET opens_us = starts_us")
    _rename(list(_renamed()))


def downgrade() -> None:
    moved = op.get_bind().exec_driver_sql(
        "SELECT key, starts_us, opens_us FROM budget_windows WHERE starts_us <> opens_us"
    )
    _rename([tuple(row) for row in moved])
    op.drop_column("budget_windows", "opens_us")


def _renamed() -> Iterator[tuple[str, int, int]]:
    """Windows whose local start is not their start in UTC: key, old and new name."""
    for key, starts_us in op.get_bind().exec_driver_sql("SELECT key, starts_us FROM budget_windows").all():
        identity = key.split("|", 6)  # owner, id, unit, period, zone, per, value
        if len(identity) > 5 and identity[3] in _CALENDAR and identity[4] in names():
            local = _local(starts_us, identity[4])
            if local != starts_us:
                yield key, starts_us, local


def _local(starts_us: int, name: str) -> int:
    starts = (_EPOCH + timedelta(microseconds=starts_us)).astimezone(zone(name)).replace(tzinfo=UTC)
    midnight = (starts + _DAY / 2).replace(hour=0, minute=0, second=0, microsecond=0)
    return (midnight - _EPOCH) // timedelta(microseconds=1)


def _rename(moved: list[tuple[str, int, int]]) -> None:
    if not moved:
        return
    table = op.create_table(
        "moved_windows",
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("before", sa.BigInteger(), nullable=False),
        sa.Column("after", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("key", "before"),
    )
    op.bulk_insert(table, [{"key": key, "before": before, "after": after} for key, before, after in moved])
    for statement in _STATEMENTS:
        op.execute(statement)
    op.drop_table("moved_windows")


_MOVED = "FROM moved_windows AS m WHERE m.key = {0}.key AND m.before = {0}.starts_us"
_STATEMENTS = (
    """
    CREATE TABLE named_windows AS
    SELECT w.key, m.after AS starts_us, max(w.ends_us) AS ends_us, max(w.budget_id) AS budget_id,
      max(w.unit) AS unit, max(w.mode) AS mode, max(w.limit_amount) AS limit_amount, sum(w.reserved) AS reserved,
      sum(w.spent) AS spent, max(w.alert_at) AS alert_at, max(w.alerted) AS alerted, min(w.opens_us) AS opens_us
    FROM budget_windows AS w JOIN moved_windows AS m ON m.key = w.key AND m.before = w.starts_us
    GROUP BY w.key, m.after
    """,
    f"DELETE FROM budget_windows WHERE EXISTS (SELECT 1 {_MOVED.format('budget_windows')})",  # noqa: S608 (constant)
    """
    INSERT INTO budget_windows (key, starts_us, ends_us, budget_id, unit, mode, limit_amount, reserved, spent, alert_at,
      alerted, opens_us)
    SELECT key, starts_us, ends_us, budget_id, unit, mode, limit_amount, reserved, spent, alert_at, alerted, opens_us
    FROM named_windows
    """,
    "DROP TABLE named_windows",
    f"UPDATE leg_charges SET starts_us = (SELECT m.after {_MOVED.format('leg_charges')})"  # noqa: S608 (constant)
    f" WHERE EXISTS (SELECT 1 {_MOVED.format('leg_charges')})",
)
