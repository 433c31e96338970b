"""SQLAlchemy Core tables of prices, allocations and the append-only ledger.

Only the shape of what is stored, and the triggers that refuse to change or delete
what was posted; every statement is in `ledger.py`. Times are microseconds since 1970.
"""

from sqlalchemy import (
    DDL,
    BigInteger,
    Column,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    event,
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
    Column("per_hour_ucr", BigInteger, nullable=False),
)

ALLOCATIONS = Table(
    "credit_allocations",
    METADATA,
    Column("id", String(200), primary_key=True),
    Column("zone", String(63), nullable=False),
    Column("account", String(128), nullable=False),
    Column("kind", String(10), nullable=False),
    Column("valid_from", BigInteger, nullable=False),
    Column("valid_to", BigInteger, nullable=False),
    Index("ix_credit_allocations_zone_account", "zone", "account"),
)

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
)

LEGS = Table(
    "ledger_legs",
    METADATA,
    Column("txn_id", ForeignKey("ledger_txns.id"), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("ledger_account", String(200), nullable=False),
    Column("allocation_id", String(200), nullable=False),
    Column("ucr", BigInteger, nullable=False),
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

APPEND_ONLY = (PRICES, ALLOCATIONS, TXNS, LEGS)


def append_only_statements(table: str, dialect: str) -> list[str]:
    """The statements that make a table refuse UPDATE and DELETE."""
    refusal = f"{table} is append-only"
    if dialect == "sqlite":
        return [
            f"CREATE TRIGGER {table}_no_{verb} BEFORE {verb} ON {table} "
            f"BEGIN SELECT RAISE(ABORT, '{refusal}'); END"
            for verb in ("update", "delete")
        ]
    return [
        f"CREATE OR REPLACE FUNCTION {table}_refuse() RETURNS trigger AS $$ "
        f"BEGIN RAISE EXCEPTION '{refusal}'; END $$ LANGUAGE plpgsql",
        f"CREATE TRIGGER {table}_append_only BEFORE UPDATE OR DELETE OR TRUNCATE "
        f"ON {table} FOR EACH STATEMENT EXECUTE FUNCTION {table}_refuse()",
    ]


for _table in APPEND_ONLY:
    for _dialect in ("sqlite", "postgresql"):
        for _statement in append_only_statements(_table.name, _dialect):
            # SQLAlchemy does not annotate DDL.
            _ddl = DDL(_statement)  # type: ignore[no-untyped-call]
            event.listen(_table, "after_create", _ddl.execute_if(dialect=_dialect))
