"""The sealed record: leaves and checkpoints, keys per subject, cursors of exports, leases of upkeep.

Revision ID: 0002
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

TABLES = ("leaves", "checkpoints", "data_keys", "export_cursors", "leases")


def upgrade() -> None:
    _tree()
    _data_keys()
    _upkeep()


def downgrade() -> None:
    for table in reversed(TABLES):
        op.drop_table(table)


def _number(name: str) -> sa.Column[int]:
    """A whole number that is the key of its table; SQLite wants the type INTEGER."""
    return sa.Column(name, sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=False, nullable=False)


def _tree() -> None:
    op.create_table(
        "leaves",
        _number("leaf"),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("delete_after_us", sa.BigInteger()),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("mac", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("leaf", name="pk_leaves"),
        sa.UniqueConstraint("seq", name="uq_leaves_seq"),
    )
    op.create_table(
        "checkpoints",
        _number("size"),
        sa.Column("root", sa.LargeBinary(), nullable=False),
        sa.Column("previous", sa.BigInteger(), nullable=False),
        sa.Column("at_us", sa.BigInteger(), nullable=False),
        sa.Column("key_id", sa.String(), nullable=False),
        sa.Column("signature", sa.LargeBinary(), nullable=False),
        sa.Column("frontier", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("size", name="pk_checkpoints"),
    )


def _data_keys() -> None:
    op.create_table(
        "data_keys",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("subject", sa.String(), nullable=False),
        sa.Column("key_id", sa.String(), nullable=False),
        sa.Column("nonce", sa.LargeBinary(), nullable=False),
        sa.Column("wrapped", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_data_keys"),
    )
    op.create_index("ix_data_keys_subject", "data_keys", ["subject"])


def _upkeep() -> None:
    op.create_table(
        "export_cursors",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("target", sa.String(), nullable=False),
        sa.Column("background", sa.Boolean(), nullable=False),
        sa.Column("leaf", sa.BigInteger(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("next_us", sa.BigInteger()),
        sa.Column("error", sa.String()),
        sa.PrimaryKeyConstraint("name", name="pk_export_cursors"),
    )
    op.create_table(
        "leases",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("holder", sa.String(), nullable=False),
        sa.Column("until_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_leases"),
    )
