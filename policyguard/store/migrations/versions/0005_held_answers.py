"""What waits for a review: a request, or the answer to one.

Revision ID: 0005
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("reviews", sa.Column("kind", sa.String(), nullable=False, server_default="request"))


def downgrade() -> None:
    op.drop_column("reviews", "kind")
