"""What the ledger in the database says of accounts: balances, weeks, what was used.

Reads only; what is posted is in `ledger`.
"""

from collections import defaultdict
from collections.abc import Iterable

from sqlalchemy import ColumnElement, Connection, func, or_, select

from dorabatch.fairshare import ledger
from dorabatch.fairshare.book import Allocation, Book
from dorabatch.fairshare.report import Statement
from dorabatch.fairshare.tables import ALLOCATIONS, BALANCES, LEGS, TXNS

CREDITING = ("deposit", "transfer")
"""Kinds of postings that give credit to an allocation or move it away."""
_CHUNK = 400
_DAY_US = 86_400_000_000


def load_zone(connection: Connection, zone: str, *, at: int) -> Book:
    """All balances of a zone with the allocations that still matter."""
    book = Book()
    asked = select(ALLOCATIONS.c.account).where(ALLOCATIONS.c.zone == zone).distinct()
    accounts = connection.execute(asked).scalars().all()
    for row in ledger.live_allocations(connection, [zone], accounts, at=at):
        book.open(row)
    for side in ("avail", "lien"):
        name = BALANCES.c.ledger_account
        mine = select(BALANCES).where(
            name.startswith(f"{side}:{zone}:", autoescape=True)
        )
        for found in connection.execute(mine):
            book.balances[found.ledger_account, found.allocation_id] = found.ucr
    return book


def latest_weeks(
    connection: Connection, zone: str, accounts: Iterable[str]
) -> dict[str, Allocation]:
    """The weekly allocation that each account had last."""
    wanted, table = sorted(set(accounts)), ALLOCATIONS.c
    found: dict[str, Allocation] = {}
    for first in range(0, len(wanted), _CHUNK):
        asked = (
            select(ALLOCATIONS)
            .where(table.zone == zone, table.kind == "week")
            .where(table.account.in_(wanted[first : first + _CHUNK]))
            .order_by(table.valid_to)
        )
        for row in connection.execute(asked):
            found[row.account] = Allocation(**row._mapping)
    return found


def credited(connection: Connection, allocations: Iterable[str]) -> dict[str, int]:
    """What was deposited into allocations or transferred, less what was taken out."""
    wanted = sorted(set(allocations))
    found: dict[str, int] = {}
    for first in range(0, len(wanted), _CHUNK):
        chunk = LEGS.c.allocation_id.in_(wanted[first : first + _CHUNK])
        asked = (
            select(LEGS.c.allocation_id, func.sum(LEGS.c.ucr))
            .join(TXNS)
            .where(TXNS.c.kind.in_(CREDITING), chunk)
            .group_by(LEGS.c.allocation_id)
        )
        found |= {name: int(ucr) for name, ucr in connection.execute(asked)}
    return found


def used_since(connection: Connection, zone: str, *, start: int) -> dict[str, int]:
    """What each account was charged less refunds, from a moment on."""
    asked = (
        select(LEGS.c.ledger_account, func.sum(LEGS.c.ucr))
        .join(TXNS)
        .where(TXNS.c.kind.in_(("charge", "refund")), TXNS.c.at >= start)
        .where(_own_side(LEGS.c.ledger_account, zone))
        .group_by(LEGS.c.ledger_account)
    )
    return _by_account((row[0], -int(row[1])) for row in connection.execute(asked))


def used_in_all(connection: Connection, zone: str) -> dict[str, int]:
    """The same since the beginning: what was given and is not there any more.

    An account appears with its first credit or charge.
    """
    asked = (
        select(LEGS.c.ledger_account, func.sum(LEGS.c.ucr))
        .join(TXNS)
        .where(TXNS.c.kind.in_((*CREDITING, "expire")))
        .where(_own_side(LEGS.c.ledger_account, zone))
        .group_by(LEGS.c.ledger_account)
    )
    rows = [(row[0], int(row[1])) for row in connection.execute(asked)]
    name = BALANCES.c.ledger_account
    left = (
        select(name, func.sum(BALANCES.c.ucr))
        .where(_own_side(name, zone))
        .group_by(name)
    )
    rows += [(row[0], -int(row[1])) for row in connection.execute(left)]
    return _by_account(rows)


def _own_side(column: ColumnElement[str], zone: str) -> ColumnElement[bool]:
    sides = (f"{side}:{zone}:" for side in ("avail", "lien"))
    return or_(*(column.startswith(side, autoescape=True) for side in sides))


def _by_account(rows: Iterable[tuple[str, int]]) -> dict[str, int]:
    found: dict[str, int] = defaultdict(int)
    for side, ucr in rows:
        found[side.split(":", 2)[2]] += ucr
    return dict(found)


def account_statement(
    connection: Connection, zone: str, account: str, *, start: int, end: int
) -> Statement:
    """One account's period [start, end), summed from its legs in the ledger."""
    sides = [f"{side}:{zone}:{account}" for side in ("avail", "lien")]
    is_before = (TXNS.c.at < start).label("before")
    asked = (
        select(TXNS.c.kind, LEGS.c.ledger_account, is_before, func.sum(LEGS.c.ucr))
        .select_from(LEGS)
        .join(TXNS)
        .where(LEGS.c.ledger_account.in_(sides), TXNS.c.at < end)
        .group_by(TXNS.c.kind, LEGS.c.ledger_account, is_before)
    )
    moved: dict[str, int] = defaultdict(int)
    opening = liens = 0
    for kind, side, before, ucr in connection.execute(asked):
        liens += int(ucr) if side.startswith("lien:") else 0
        if before:
            opening += int(ucr)
        else:
            moved[kind] += int(ucr)
    return Statement(
        zone=zone,
        account=account,
        opening=opening,
        deposits=moved["deposit"],
        charges=-moved["charge"],
        refunds=moved["refund"],
        expired=-moved["expire"],
        transferred=moved["transfer"],
        liens=liens,
        closing=opening + sum(moved.values()),
    )


def used_by_model(
    connection: Connection, zone: str, account: str, *, start: int, end: int
) -> dict[str, int]:
    """What an account itself was charged for each model in [start, end), net."""
    prefix = f"revenue:{zone}:"
    asked = (
        select(LEGS.c.ledger_account, func.sum(LEGS.c.ucr))
        .join(TXNS)
        .where(TXNS.c.kind.in_(("charge", "refund")), TXNS.c.account == account)
        .where(TXNS.c.zone == zone, TXNS.c.at >= start, TXNS.c.at < end)
        .where(LEGS.c.ledger_account.startswith(prefix, autoescape=True))
        .group_by(LEGS.c.ledger_account)
        .order_by(LEGS.c.ledger_account)
    )
    return {
        side.removeprefix(prefix): int(ucr) for side, ucr in connection.execute(asked)
    }


def daily_use(
    connection: Connection, zone: str, account: str, *, end: int, days: int
) -> list[int]:
    """What an account used, net, in each of the last whole days, oldest first."""
    sides = [f"{side}:{zone}:{account}" for side in ("avail", "lien")]
    found: dict[int, int] = defaultdict(int)
    asked = (
        select(TXNS.c.at, LEGS.c.ucr)
        .select_from(TXNS)
        .join(LEGS)
        .where(TXNS.c.kind.in_(("charge", "refund")))
        .where(TXNS.c.at >= end - days * _DAY_US, TXNS.c.at < end)
        .where(LEGS.c.ledger_account.in_(sides))
    )
    for at, ucr in connection.execute(asked):
        found[(end - 1 - at) // _DAY_US] -= ucr
    return [found.get(number, 0) for number in reversed(range(days))]
