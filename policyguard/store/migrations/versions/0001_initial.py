"""The first schema: budgets and legs, reviews and votes, pauses, the record, private data.

Revision ID: 0001
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

TABLES = ("budget_windows", "legs", "leg_charges", "reviews", "review_votes", "pauses", "events", "private", "keys")


def upgrade() -> None:
    _budget_windows()
    _legs()
    _reviews()
    _pauses()
    _events()
    _private()


def downgrade() -> None:
    for table in reversed(TABLES):
        op.drop_table(table)


def _budget_windows() -> None:
    op.create_table(
        "budget_windows",
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("starts_us", sa.BigInteger(), nullable=False),
        sa.Column("ends_us", sa.BigInteger()),
        sa.Column("budget_id", sa.String(), nullable=False),
        sa.Column("unit", sa.String(), nullable=False),
        sa.Column("mode", sa.String(), nullable=False),
        sa.Column("limit_amount", sa.BigInteger(), nullable=False),
        sa.Column("reserved", sa.BigInteger(), nullable=False),
        sa.Column("spent", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("reserved >= 0", name=op.f("ck_budget_windows_reserved")),
        sa.CheckConstraint("spent >= 0", name=op.f("ck_budget_windows_spent")),
        sa.PrimaryKeyConstraint("key", "starts_us", name="pk_budget_windows"),
        sqlite_with_rowid=False,
    )


def _legs() -> None:
    op.create_table(
        "legs",
        sa.Column("leg_id", sa.String(), nullable=False),
        sa.Column("decision_id", sa.String()),
        sa.Column("review_id", sa.String()),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("ceiling_micros", sa.BigInteger(), nullable=False),
        sa.Column("charged_micros", sa.BigInteger(), nullable=False),
        sa.Column("presumed_micros", sa.BigInteger(), nullable=False),
        sa.Column("created_us", sa.BigInteger(), nullable=False),
        sa.Column("sent_us", sa.BigInteger()),
        sa.Column("ended_us", sa.BigInteger()),
        sa.Column("expires_us", sa.BigInteger(), nullable=False),
        sa.Column("surface", sa.String()),
        sa.Column("tenant", sa.String()),
        sa.Column("user", sa.String()),
        sa.Column("tier", sa.String()),
        sa.Column("cohort", sa.String()),
        sa.Column("feature", sa.String()),
        sa.Column("engineer", sa.String()),
        sa.Column("model", sa.String()),
        sa.Column("size", sa.String()),
        sa.Column("quality", sa.String()),
        sa.Column("n", sa.Integer(), nullable=False),
        sa.Column("over_budgets", sa.Text()),
        sa.Column("keep_days", sa.Integer()),
        sa.Column("delete_after_us", sa.BigInteger()),
        sa.CheckConstraint("charged_micros >= 0", name=op.f("ck_legs_charged")),
        sa.PrimaryKeyConstraint("leg_id", name="pk_legs"),
    )
    op.create_index("ix_legs_created", "legs", ["created_us"])
    op.create_index(
        "ix_legs_delete_after",
        "legs",
        ["delete_after_us"],
        sqlite_where=sa.text("delete_after_us IS NOT NULL"),
        postgresql_where=sa.text("delete_after_us IS NOT NULL"),
    )
    op.create_index(
        "ix_legs_live",
        "legs",
        ["expires_us"],
        sqlite_where=sa.text("state IN ('held', 'sent')"),
        postgresql_where=sa.text("state IN ('held', 'sent')"),
    )
    op.create_table(
        "leg_charges",
        sa.Column("leg_id", sa.String(), nullable=False),
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("starts_us", sa.BigInteger(), nullable=False),
        sa.Column("amount", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["leg_id"], ["legs.leg_id"], name="fk_leg_charges_leg_id", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("leg_id", "key", "starts_us", name="pk_leg_charges"),
        sqlite_with_rowid=False,
    )


def _reviews() -> None:
    op.create_table(
        "reviews",
        sa.Column("review_id", sa.String(), nullable=False),
        sa.Column("decision_id", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("surface", sa.String()),
        sa.Column("tenant", sa.String()),
        sa.Column("user", sa.String()),
        sa.Column("tier", sa.String()),
        sa.Column("cohort", sa.String()),
        sa.Column("feature", sa.String()),
        sa.Column("engineer", sa.String()),
        sa.Column("subject", sa.String(), nullable=False),
        sa.Column("request_digest", sa.String(), nullable=False),
        sa.Column("policy_digest", sa.String(), nullable=False),
        sa.Column("reasons", sa.Text(), nullable=False),
        sa.Column("approvals", sa.Integer(), nullable=False),
        sa.Column("reviewers", sa.Text(), nullable=False),
        sa.Column("escalate", sa.Text(), nullable=False),
        sa.Column("level", sa.Integer(), nullable=False),
        sa.Column("round", sa.Integer(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("created_us", sa.BigInteger(), nullable=False),
        sa.Column("due_us", sa.BigInteger(), nullable=False),
        sa.Column("escalate_us", sa.BigInteger()),
        sa.Column("ceiling_micros", sa.BigInteger(), nullable=False),
        sa.Column("keep_days", sa.Integer()),
        sa.Column("delete_after_us", sa.BigInteger()),
        sa.PrimaryKeyConstraint("review_id", name="pk_reviews"),
    )
    op.create_index(
        "ix_reviews_delete_after",
        "reviews",
        ["delete_after_us"],
        sqlite_where=sa.text("delete_after_us IS NOT NULL"),
        postgresql_where=sa.text("delete_after_us IS NOT NULL"),
    )
    op.create_index(
        "ix_reviews_escalate",
        "reviews",
        ["escalate_us"],
        sqlite_where=sa.text("state = 'held'"),
        postgresql_where=sa.text("state = 'held'"),
    )
    op.create_index(
        "ix_reviews_open",
        "reviews",
        ["due_us"],
        sqlite_where=sa.text("state IN ('held', 'approved')"),
        postgresql_where=sa.text("state IN ('held', 'approved')"),
    )
    op.create_table(
        "review_votes",
        sa.Column("review_id", sa.String(), nullable=False),
        sa.Column("reviewer", sa.String(), nullable=False),
        sa.Column("round", sa.Integer(), nullable=False),
        sa.Column("verdict", sa.String(), nullable=False),
        sa.Column("at_us", sa.BigInteger(), nullable=False),
        sa.Column("note_id", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(
            ["review_id"], ["reviews.review_id"], name="fk_review_votes_review_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("review_id", "reviewer", "round", name="pk_review_votes"),
    )


def _pauses() -> None:
    op.create_table(
        "pauses",
        sa.Column("scope", sa.String(), nullable=False),
        sa.Column("value", sa.String(), nullable=False),
        sa.Column("since_us", sa.BigInteger(), nullable=False),
        sa.Column("note_id", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("scope", "value", name="pk_pauses"),
    )


def _events() -> None:
    op.create_table(
        "events",
        sa.Column("seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("at_us", sa.BigInteger(), nullable=False),
        sa.Column("type", sa.String(), nullable=False),
        sa.Column("decision_id", sa.String()),
        sa.Column("leg_id", sa.String()),
        sa.Column("review_id", sa.String()),
        sa.Column("outcome", sa.String()),
        sa.Column("surface", sa.String()),
        sa.Column("tenant", sa.String()),
        sa.Column("user", sa.String()),
        sa.Column("tier", sa.String()),
        sa.Column("cohort", sa.String()),
        sa.Column("feature", sa.String()),
        sa.Column("engineer", sa.String()),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("delete_after_us", sa.BigInteger()),
        sa.PrimaryKeyConstraint("seq", name="pk_events"),
        sa.UniqueConstraint("id", name="uq_events_id"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_events_at", "events", ["at_us"])
    op.create_index("ix_events_decision", "events", ["decision_id"])
    op.create_index(
        "ix_events_delete_after",
        "events",
        ["delete_after_us"],
        sqlite_where=sa.text("delete_after_us IS NOT NULL"),
        postgresql_where=sa.text("delete_after_us IS NOT NULL"),
    )
    op.create_index(
        "ix_events_refused",
        "events",
        ["at_us"],
        sqlite_where=sa.text("outcome = 'deny'"),
        postgresql_where=sa.text("outcome = 'deny'"),
    )
    op.create_index(
        "ix_events_review",
        "events",
        ["review_id"],
        sqlite_where=sa.text("review_id IS NOT NULL"),
        postgresql_where=sa.text("review_id IS NOT NULL"),
    )


def _private() -> None:
    op.create_table(
        "private",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("subject", sa.String(), nullable=False),
        sa.Column("key_id", sa.String(), nullable=False),
        sa.Column("nonce", sa.LargeBinary(), nullable=False),
        sa.Column("ciphertext", sa.LargeBinary(), nullable=False),
        sa.Column("delete_after_us", sa.BigInteger()),
        sa.PrimaryKeyConstraint("id", name="pk_private"),
    )
    op.create_index(
        "ix_private_delete_after",
        "private",
        ["delete_after_us"],
        sqlite_where=sa.text("delete_after_us IS NOT NULL"),
        postgresql_where=sa.text("delete_after_us IS NOT NULL"),
    )
    op.create_index("ix_private_subject", "private", ["subject"])
    op.create_table(
        "keys", sa.Column("key_id", sa.String(), nullable=False), sa.PrimaryKeyConstraint("key_id", name="pk_keys")
    )
