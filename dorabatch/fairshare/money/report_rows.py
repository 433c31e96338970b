"""Rows that reports are made of, as the database adds them up.

Times are microseconds since 1970, amounts whole micro-credits. They decide nothing.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerMove:
    """What moved in a period on one side, by kind of entry and by who paid.

    `payer` is the account an entry is about, `zone` its zone.
    """

    ledger_account: str
    kind: str
    zone: str
    payer: str
    ucr: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRevenue:
    """What one run brought in of one model, less refunds."""

    run: str
    zone: str
    payer: str
    model: str
    ucr: int


@dataclass(frozen=True, slots=True, kw_only=True)
class HandEntry:
    """What an account got (or lost, below zero) other than by charges."""

    at: int
    kind: str
    actor: str
    zone: str
    account: str
    run: str
    ucr: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PriceRow:
    """A price as somebody wrote it; micro-credits an hour."""

    valid_from: int
    actor: str
    zone: str
    model: str
    per_hour: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """The last entry of the chain before a moment."""

    entry: int
    hash: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Foretold:
    """The range in which a workload was to start, and when it did."""

    workload_id: int
    made_at: int
    low: int
    high: int
    started_at: int | None = None
