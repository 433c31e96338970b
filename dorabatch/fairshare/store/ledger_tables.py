"""SQLAlchemy Core tables of prices, allocations, meters and the append-only ledger.

Only the shape of what is stored; no statement is here. The migration adds triggers
that refuse to change or delete what was posted. Times are microseconds since 1970.
"""

from sqlalchemy import (
    BigInteger,
    Column,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
)

METADATA = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

PRICES = Table(
    "credit_prices",
    METADATA,
    Column("zone", String(63), primary_key=True),
    Column("model", String(128), primary_key=True),
    Column("valid_from", BigInteger, primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("per_hour_ucr", BigInteger, nullable=False),
    Column("actor", String(64), nullable=False),
)
"""Of rows with the same moment the highest version counts."""

ALLOCATIONS = Table(
    "credit_allocations",
    METADATA,
    Column("id", String(200), primary_key=True),
    Column("zone", String(63), nullable=False),
    Column("account", String(128), nullable=False),
    Column("kind", String(10), nullable=False),
    Column("valid_from", BigInteger, nullable=False),
    Column("valid_to", BigInteger, nullable=False),
    Column("on_exhaust", String(10), nullable=False),
    Column("rollover_ppm", Integer, nullable=False),
    Index("ix_credit_allocations_zone_account", "zone", "account"),
)

METERS = Table(
    "credit_meters",
    METADATA,
    Column("run", String(128), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("at", BigInteger, nullable=False),
    Column("terms", Text, nullable=False),
    Column("reason", Text, nullable=False),
)
"""What a run is billed for from a moment on; the next number replaces it."""

TXNS = Table(
    "ledger_txns",
    METADATA,
    Column("id", BigInteger, primary_key=True, autoincrement=False),
    Column("at", BigInteger, nullable=False),
    Column("kind", String(10), nullable=False),
    Column("idem_key", String(250), nullable=False, unique=True),
    Column("zone", String(63), nullable=False),
    Column("account", String(128), nullable=False),
    Column("run", String(128), nullable=False),
    Column("segment", Integer, nullable=False),
    Column("actor", String(64), nullable=False),
    Column("reason", Text, nullable=False),
    Column("prev_hash", String(64), nullable=False),
    Column("hash", String(64), nullable=False),
    Index("ix_ledger_txns_at", "at"),
    Index("ix_ledger_txns_kind_at", "kind", "at"),
)

LEGS = Table(
    "ledger_legs",
    METADATA,
    Column("txn_id", ForeignKey("ledger_txns.id"), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("ledger_account", String(200), nullable=False),
    Column("allocation_id", String(200), nullable=False),
    Column("ucr", BigInteger, nullable=False),
    Index("ix_ledger_legs_ledger_account", "ledger_account"),
)

BALANCES = Table(
    "credit_balances",
    METADATA,
    Column("ledger_account", String(200), primary_key=True),
    Column("allocation_id", String(200), primary_key=True),
    Column("ucr", BigInteger, nullable=False),
)

RUN_CREDITS = Table(
    "credit_runs",
    METADATA,
    Column("run", String(128), primary_key=True),
    Column("what", String(10), primary_key=True),
    Column("slot", String(400), primary_key=True),
    Column("ucr", BigInteger, nullable=False),
)
