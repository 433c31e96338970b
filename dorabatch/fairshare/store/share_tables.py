"""SQLAlchemy Core tables of shares, policy settings, their history, use and forecasts.

Only the shape of what is stored; no statement is here. Times are microseconds since
1970.
"""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    Index,
    Integer,
    String,
    Table,
    Text,
)

from dorabatch.fairshare.store.ledger_tables import METADATA

SHARES = Table(
    "share_accounts",
    METADATA,
    Column("zone", String(63), primary_key=True),
    Column("name", String(128), primary_key=True),
    Column("parent", String(128), nullable=False),
    Column("shares", BigInteger, nullable=False),
    Column("is_user", Boolean, nullable=False),
)

SETTINGS = Table(
    "policy_settings",
    METADATA,
    Column("zone", String(63), primary_key=True),
    Column("key", String(128), primary_key=True),
    Column("value", Text, nullable=False),
    Column("is_set", Boolean, nullable=False),
)
"""What is in force; `is_set` when it was said with dshare set, not in the file."""

CHANGES = Table(
    "policy_changes",
    METADATA,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("zone", String(63), nullable=False),
    Column("at", BigInteger, nullable=False),
    Column("actor", String(64), nullable=False),
    Column("key", String(200), nullable=False),
    Column("old", Text, nullable=False),
    Column("new", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Index("ix_policy_changes_zone_at", "zone", "at"),
)

USAGE = Table(
    "share_usage",
    METADATA,
    Column("zone", String(63), primary_key=True),
    Column("name", String(128), primary_key=True),
    Column("used", Float(53), nullable=False),
    Column("at", BigInteger, nullable=False),
    Column("is_active", Boolean, nullable=False),
)
"""A cache: what ended runs and raises have come to, faded to `at`."""

RAISES = Table(
    "share_raises",
    METADATA,
    Column("zone", String(63), primary_key=True),
    Column("name", String(128), primary_key=True),
    Column("at", BigInteger, primary_key=True),
    Column("amount", Float(53), nullable=False),
)
"""What the catch-up cap added to the use of somebody who returned."""

FORECASTS = Table(
    "start_forecasts",
    METADATA,
    Column("workload_id", BigInteger, primary_key=True, autoincrement=False),
    Column("zone", String(63), nullable=False),
    Column("made_at", BigInteger, nullable=False),
    Column("low", BigInteger, nullable=False),
    Column("high", BigInteger, nullable=False),
    Column("started_at", BigInteger),
    Index("ix_start_forecasts_zone_made_at", "zone", "made_at"),
)
"""The first forecast of each workload's start, and when it did start."""
