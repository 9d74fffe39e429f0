"""Callers' keys of the proxy.

Revision ID: 0004
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "proxy_keys",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("digest", sa.String(), nullable=False),
        sa.Column("surfaces", sa.Text(), nullable=False),
        sa.Column("names_user", sa.Boolean(), nullable=False),
        sa.Column("private_id", sa.String(), nullable=False),
        sa.Column("created_us", sa.BigInteger(), nullable=False),
        sa.Column("revoked_us", sa.BigInteger()),
        sa.PrimaryKeyConstraint("id", name="pk_proxy_keys"),
        sa.UniqueConstraint("digest", name="uq_proxy_keys_digest"),
    )


def downgrade() -> None:
    op.drop_table("proxy_keys")
