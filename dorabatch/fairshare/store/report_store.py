"""What the database says of a period: sums of the ledger, changes, forecasts, prices.

Adds up in the database, so that a long ledger is not read into memory. Reads only.
"""

from typing import Any

from sqlalchemy import Connection, Select, and_, func, or_, select

from dorabatch.fairshare.money.report_rows import (
    Foretold,
    HandEntry,
    Head,
    LedgerMove,
    PriceRow,
    RunRevenue,
)
from dorabatch.fairshare.money.statement import SIDES
from dorabatch.fairshare.store.ledger_tables import ALLOCATIONS, LEGS, PRICES, TXNS
from dorabatch.fairshare.store.share_tables import CHANGES, FORECASTS
from dorabatch.fairshare.turn.changes import Change

BY_HAND = ("deposit", "refund", "expire", "transfer")


def balances_before(
    connection: Connection, at: int, of: tuple[str, str] | None = None
) -> dict[str, int]:
    """What each side of the ledger had just before `at`.

    `of` leaves only the sides of one (zone, account).
    """
    asked = (
        select(LEGS.c.ledger_account, func.sum(LEGS.c.ucr))
        .join(TXNS)
        .where(TXNS.c.at < at)
        .group_by(LEGS.c.ledger_account)
    )
    if of is not None:
        asked = asked.where(LEGS.c.ledger_account.in_(_sides_of(*of)))
    return {side: int(ucr) for side, ucr in connection.execute(asked)}


def credit_later(
    connection: Connection, at: int, of: tuple[str, str] | None = None
) -> dict[tuple[str, str], int]:
    """(zone, account) -> credit that was given before `at` and begins at it or later.

    `of` leaves only one of them.
    """
    owner = ALLOCATIONS.c.zone, ALLOCATIONS.c.account
    side = "avail:" + ALLOCATIONS.c.zone + ":" + ALLOCATIONS.c.account
    asked = (
        select(*owner, func.sum(LEGS.c.ucr))
        .join(LEGS, LEGS.c.allocation_id == ALLOCATIONS.c.id)
        .join(TXNS, TXNS.c.id == LEGS.c.txn_id)
        .where(ALLOCATIONS.c.valid_from >= at, TXNS.c.at < at)
        .where(LEGS.c.ledger_account == side)
        .group_by(*owner)
    )
    if of is not None:
        asked = asked.where(owner[0] == of[0], owner[1] == of[1])
    return {(zone, name): int(ucr) for zone, name, ucr in connection.execute(asked)}


def moves(
    connection: Connection, start: int, end: int, of: tuple[str, str] | None = None
) -> list[LedgerMove]:
    """What moved in [start, end).

    `of` leaves only the sides of one (zone, account) and what it was charged itself.
    """
    by = (LEGS.c.ledger_account, TXNS.c.kind, TXNS.c.zone, TXNS.c.account)
    asked = _inside(select(*by, func.sum(LEGS.c.ucr)).join(TXNS), start, end).group_by(
        *by
    )
    if of is not None:
        zone, account = of
        revenue = LEGS.c.ledger_account.startswith(f"revenue:{zone}:", autoescape=True)
        asked = asked.where(
            or_(
                LEGS.c.ledger_account.in_(_sides_of(zone, account)),
                and_(revenue, TXNS.c.zone == zone, TXNS.c.account == account),
            )
        )
    return [
        LedgerMove(ledger_account=side, kind=kind, zone=zone, payer=payer, ucr=int(ucr))
        for side, kind, zone, payer, ucr in connection.execute(asked)
    ]


def run_revenue(connection: Connection, start: int, end: int) -> list[RunRevenue]:
    """Revenue of [start, end) by run and model."""
    by = (TXNS.c.run, TXNS.c.zone, TXNS.c.account, LEGS.c.ledger_account)
    asked = _inside(select(*by, func.sum(LEGS.c.ucr)).join(TXNS), start, end).where(
        LEGS.c.ledger_account.like("revenue:%")
    )
    return [
        RunRevenue(
            run=run,
            zone=zone,
            payer=payer,
            model=side.split(":", 2)[2],
            ucr=int(ucr),
        )
        for run, zone, payer, side, ucr in connection.execute(asked.group_by(*by))
    ]


def hand_entries(connection: Connection, start: int, end: int) -> list[HandEntry]:
    """Deposits, refunds, expiries and transfers of [start, end), oldest first."""
    by = (
        TXNS.c.id, TXNS.c.at, TXNS.c.kind, TXNS.c.actor, TXNS.c.run, TXNS.c.reason,
        LEGS.c.ledger_account,
    )  # fmt: skip
    asked = (
        _inside(select(*by, func.sum(LEGS.c.ucr).label("ucr")).join(TXNS), start, end)
        .where(TXNS.c.kind.in_(BY_HAND), LEGS.c.ledger_account.like("avail:%"))
        .group_by(*by)
        .order_by(TXNS.c.id, LEGS.c.ledger_account)
    )
    return [
        HandEntry(
            at=row.at,
            kind=row.kind,
            actor=row.actor,
            zone=row.ledger_account.split(":", 2)[1],
            account=row.ledger_account.split(":", 2)[2],
            run=row.run,
            ucr=int(row.ucr),
            reason=row.reason,
        )
        for row in connection.execute(asked)
    ]


def head_before(connection: Connection, at: int) -> Head | None:
    """The chain's head as it was just before `at`."""
    asked = (
        select(TXNS.c.id, TXNS.c.hash)
        .where(TXNS.c.at < at)
        .order_by(TXNS.c.id.desc())
        .limit(1)
    )
    row = connection.execute(asked).first()
    return Head(entry=row.id, hash=row.hash) if row else None


def changes_between(
    connection: Connection, zone: str, start: int, end: int
) -> list[Change]:
    """Changes of shares, policy and documents in [start, end), oldest first.

    Documents that belong to no zone, such as users, count for every zone.
    """
    asked = (
        select(CHANGES)
        .where(
            CHANGES.c.zone.in_(("", zone)), CHANGES.c.at >= start, CHANGES.c.at < end
        )
        .order_by(CHANGES.c.id)
    )
    return [
        Change(**{name: getattr(row, name) for name in Change.__slots__})
        for row in connection.execute(asked)
    ]


def forecasts_between(
    connection: Connection, zone: str, start: int, end: int
) -> list[Foretold]:
    """Forecasts that were made in [start, end), oldest first."""
    asked = (
        select(FORECASTS)
        .where(
            FORECASTS.c.zone == zone,
            FORECASTS.c.made_at >= start,
            FORECASTS.c.made_at < end,
        )
        .order_by(FORECASTS.c.made_at, FORECASTS.c.workload_id)
    )
    return [
        Foretold(**{name: getattr(row, name) for name in Foretold.__slots__})
        for row in connection.execute(asked)
    ]


def prices_between(connection: Connection, start: int, end: int) -> list[PriceRow]:
    """Prices that came into force in [start, end)."""
    asked = (
        select(PRICES)
        .where(PRICES.c.valid_from >= start, PRICES.c.valid_from < end)
        .order_by(PRICES.c.valid_from, PRICES.c.zone, PRICES.c.model, PRICES.c.version)
    )
    return [
        PriceRow(
            valid_from=row.valid_from,
            actor=row.actor,
            zone=row.zone,
            model=row.model,
            per_hour=row.per_hour_ucr,
        )
        for row in connection.execute(asked)
    ]


def _inside(asked: Select[Any], start: int, end: int) -> Select[Any]:
    return asked.where(TXNS.c.at >= start, TXNS.c.at < end)


def _sides_of(zone: str, account: str) -> list[str]:
    return [f"{side}:{zone}:{account}" for side in SIDES]
