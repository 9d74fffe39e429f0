"""Every table of the store. The migrations build exactly this; a test compares the two.

Money is integer micro-dollars, time integer microseconds UTC, on both engines. Who asked stands here only as a keyed
pseudonym; prompts, names and free text only in `private`, encrypted. Reviewers are kept as the policy files name them.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
    Text,
    UniqueConstraint,
    text,
)

from policyguard.flow.events import DIMENSIONS

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_name)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)

# SQLite gives numbers only to a key of the type INTEGER, which has 64 bits there.
_GENERATED = BigInteger().with_variant(Integer, "sqlite")


def _dimensions() -> list[Column[str]]:
    return [Column(name, String) for name in DIMENSIONS]


def _partial(name: str, *columns: str, where: str) -> Index:
    """An index over the few rows that are asked for, so that all others cost nothing."""
    return Index(name, *columns, sqlite_where=text(where), postgresql_where=text(where))


budget_windows = Table(
    "budget_windows",
    metadata,
    Column("key", String, nullable=False),
    Column("starts_us", BigInteger, nullable=False),  # its local time as if that were UTC: it names the window
    Column("ends_us", BigInteger),
    Column("budget_id", String, nullable=False),
    Column("unit", String, nullable=False),
    Column("mode", String, nullable=False),
    Column("limit_amount", BigInteger, nullable=False),
    Column("reserved", BigInteger, nullable=False),
    Column("spent", BigInteger, nullable=False),
    Column("alert_at", String),  # per cent, in order: `50,80,100`
    Column("alerted", Integer, nullable=False, server_default="0"),  # the highest of them that was told
    Column(
        "opens_us", BigInteger, nullable=False, server_default="0"
    ),  # when it starts, by the table of its first host
    PrimaryKeyConstraint("key", "starts_us"),
    CheckConstraint("reserved >= 0", name="reserved"),
    CheckConstraint("spent >= 0", name="spent"),
    sqlite_with_rowid=False,
)

legs = Table(
    "legs",
    metadata,
    Column("leg_id", String, primary_key=True),
    Column("decision_id", String),
    Column("review_id", String),
    Column("state", String, nullable=False),
    Column("ceiling_micros", BigInteger, nullable=False),
    Column("charged_micros", BigInteger, nullable=False),
    Column("presumed_micros", BigInteger, nullable=False),  # what was charged when it was presumed, for a late settle
    Column("created_us", BigInteger, nullable=False),
    Column("sent_us", BigInteger),
    Column("ended_us", BigInteger),
    Column("expires_us", BigInteger, nullable=False),
    *_dimensions(),
    Column("model", String),
    Column("size", String),
    Column("quality", String),
    Column("n", Integer, nullable=False),
    Column("over_budgets", Text),  # shadow budgets that would have refused, as JSON
    Column("keep_days", Integer),
    Column("delete_after_us", BigInteger),
    Column("upstream", String),
    Column("fault_us", BigInteger),  # when it ended by a fault of its upstream
    Column("probe", Integer, nullable=False, server_default="0"),  # 1: let through to see whether it is up again
    CheckConstraint("charged_micros >= 0", name="charged"),
    _partial("ix_legs_live", "expires_us", where="state IN ('held', 'sent')"),
    _partial("ix_legs_delete_after", "delete_after_us", where="delete_after_us IS NOT NULL"),
    _partial("ix_legs_fault", "upstream", "fault_us", where="fault_us IS NOT NULL"),
    _partial("ix_legs_presumed", "ended_us", where="state = 'presumed'"),
    Index("ix_legs_created", "created_us"),
)

leg_charges = Table(
    "leg_charges",
    metadata,
    Column("leg_id", String, ForeignKey("legs.leg_id", ondelete="CASCADE"), nullable=False),
    Column("key", String, nullable=False),
    Column("starts_us", BigInteger, nullable=False),
    Column("amount", BigInteger, nullable=False),
    PrimaryKeyConstraint("leg_id", "key", "starts_us"),
    sqlite_with_rowid=False,
)

reviews = Table(
    "reviews",
    metadata,
    Column("review_id", String, primary_key=True),
    Column("decision_id", String, nullable=False),
    Column("state", String, nullable=False),
    *_dimensions(),
    Column("subject", String, nullable=False),
    Column("request_digest", String, nullable=False),
    Column("policy_digest", String, nullable=False),
    Column("reasons", Text, nullable=False),
    Column("approvals", Integer, nullable=False),
    Column("reviewers", Text, nullable=False),
    Column("escalate", Text, nullable=False),
    Column("level", Integer, nullable=False),
    Column("round", Integer, nullable=False),
    Column("version", Integer, nullable=False),  # counts votes and states; its update locks the row on PostgreSQL
    Column("created_us", BigInteger, nullable=False),
    Column("due_us", BigInteger, nullable=False),
    Column("escalate_us", BigInteger),  # when the next level fires
    Column("ceiling_micros", BigInteger, nullable=False),
    Column("keep_days", Integer),
    Column("delete_after_us", BigInteger),
    Column("kind", String, nullable=False, server_default="request"),  # what waits: a request, or its answer as output
    _partial("ix_reviews_open", "due_us", where="state IN ('held', 'approved')"),
    _partial("ix_reviews_escalate", "escalate_us", where="state = 'held'"),
    _partial("ix_reviews_delete_after", "delete_after_us", where="delete_after_us IS NOT NULL"),
)

review_votes = Table(
    "review_votes",
    metadata,
    Column("review_id", String, ForeignKey("reviews.review_id", ondelete="CASCADE"), nullable=False),
    Column("reviewer", String, nullable=False),  # the pseudonym; the name stands in the note
    Column("round", Integer, nullable=False),
    Column("verdict", String, nullable=False),
    Column("at_us", BigInteger, nullable=False),
    Column("note_id", String, nullable=False),
    PrimaryKeyConstraint("review_id", "reviewer", "round"),
)

pauses = Table(
    "pauses",
    metadata,
    Column("scope", String, nullable=False),
    Column("value", String, nullable=False),
    Column("since_us", BigInteger, nullable=False),
    Column("note_id", String, nullable=False),
    PrimaryKeyConstraint("scope", "value"),
)

events = Table(
    "events",
    metadata,
    Column("seq", _GENERATED, primary_key=True),
    Column("id", String, nullable=False),
    Column("at_us", BigInteger, nullable=False),
    Column("type", String, nullable=False),
    Column("decision_id", String),
    Column("leg_id", String),
    Column("review_id", String),
    Column("outcome", String),
    *_dimensions(),
    Column("body", Text, nullable=False),
    Column("delete_after_us", BigInteger),
    UniqueConstraint("id"),
    Index("ix_events_at", "at_us"),
    Index("ix_events_decision", "decision_id"),
    _partial("ix_events_review", "review_id", where="review_id IS NOT NULL"),
    _partial("ix_events_refused", "at_us", where="outcome = 'deny'"),
    _partial("ix_events_delete_after", "delete_after_us", where="delete_after_us IS NOT NULL"),
    sqlite_autoincrement=True,  # a number is never given twice, even after retention removed its row
)

private = Table(
    "private",
    metadata,
    Column("id", String, primary_key=True),
    Column("kind", String, nullable=False),
    Column("subject", String, nullable=False),
    Column("key_id", String, nullable=False),
    Column("nonce", LargeBinary, nullable=False),
    Column("ciphertext", LargeBinary, nullable=False),
    Column("delete_after_us", BigInteger),
    Index("ix_private_subject", "subject"),
    _partial("ix_private_delete_after", "delete_after_us", where="delete_after_us IS NOT NULL"),
)

# Another key would give other pseudonyms: budgets per user would start anew, and pauses of users would not match.
keys = Table("keys", metadata, Column("key_id", String, primary_key=True))

# ---- the sealed record ------------------------------------------------------------------------------------

# A leaf outlives its row: it says until when the row is kept, so that one removed by retention can be told from one
# that somebody took away. Leaf n has the n-th row in the order of `seq`.
leaves = Table(
    "leaves",
    metadata,
    Column("leaf", _GENERATED, primary_key=True, autoincrement=False),
    Column("seq", BigInteger, nullable=False),
    Column("delete_after_us", BigInteger),
    Column("digest", LargeBinary, nullable=False),  # of the row's canonical bytes
    Column("mac", LargeBinary, nullable=False),  # keyed, so that an altered leaf can be named
    UniqueConstraint("seq"),
)

checkpoints = Table(
    "checkpoints",
    metadata,
    Column("size", _GENERATED, primary_key=True, autoincrement=False),
    Column("root", LargeBinary, nullable=False),
    Column("previous", BigInteger, nullable=False),  # the size of the checkpoint before, 0 for the first
    Column("at_us", BigInteger, nullable=False),
    Column("key_id", String, nullable=False),
    Column("signature", LargeBinary, nullable=False),
    Column("frontier", LargeBinary, nullable=False),  # from which the tree grows on
)

# The key of one subject's private rows, wrapped. Without it nothing of that subject can be read, in any copy.
# A subject may have several: two processes that meet it first do not wait for each other.
data_keys = Table(
    "data_keys",
    metadata,
    Column("id", String, primary_key=True),
    Column("subject", String, nullable=False),
    Column("key_id", String, nullable=False),
    Column("nonce", LargeBinary, nullable=False),
    Column("wrapped", LargeBinary, nullable=False),
    Index("ix_data_keys_subject", "subject"),
)

export_cursors = Table(
    "export_cursors",
    metadata,
    Column("name", String, primary_key=True),
    Column("target", String, nullable=False),
    Column("background", Boolean, nullable=False),  # `policyguard jobs run` goes on with it
    Column("leaf", BigInteger, nullable=False),  # the next one
    Column("attempts", Integer, nullable=False),  # that failed, one after another
    Column("next_us", BigInteger),  # None: the receiver wants no more
    Column("error", String),
)

# Who does a job of upkeep now. A holder that died is replaced when its time is over.
leases = Table(
    "leases",
    metadata,
    Column("name", String, primary_key=True),
    Column("holder", String, nullable=False),
    Column("until_us", BigInteger, nullable=False),
)

# Of an upstream that failed. A closed breaker counts the faults since `since_us`.
breakers = Table(
    "breakers",
    metadata,
    Column("upstream", String, primary_key=True),
    Column("since_us", BigInteger, nullable=False),
    Column("open_until_us", BigInteger),
    Column("probes", Integer, nullable=False),
    Column("probing_us", BigInteger),  # since when
)

# What was refused, with the columns by which spend is reported.
refusals = Table(
    "refusals",
    metadata,
    Column("decision_id", String, primary_key=True),
    Column("created_us", BigInteger, nullable=False),
    *_dimensions(),
    Column("model", String),
    Column("size", String),
    Column("quality", String),
    Column("n", Integer, nullable=False),
    Column("ceiling_micros", BigInteger, nullable=False),  # 0 where it had no price yet
    Column("delete_after_us", BigInteger),
    Index("ix_refusals_created", "created_us"),
    _partial("ix_refusals_delete_after", "delete_after_us", where="delete_after_us IS NOT NULL"),
)

# Callers' keys of the proxy: the digest of each secret, and what it opens. Who it speaks for is in `private`.
proxy_keys = Table(
    "proxy_keys",
    metadata,
    Column("id", String, primary_key=True),
    Column("digest", String, nullable=False),
    Column("surfaces", Text, nullable=False),
    Column("names_user", Boolean, nullable=False),
    Column("private_id", String, nullable=False),
    Column("created_us", BigInteger, nullable=False),
    Column("revoked_us", BigInteger),
    UniqueConstraint("digest"),
)
