"""What the ledger in the database says of accounts: balances, weeks, what was used.

Reads only; what is posted is in `ledger`.
"""

from collections import defaultdict
from collections.abc import Iterable

from sqlalchemy import ColumnElement, Connection, func, or_, select

from dorabatch.fairshare.money.book import Allocation, Book
from dorabatch.fairshare.money.credit_forecast import DAY_US, DAYS
from dorabatch.fairshare.money.statement import SIDES
from dorabatch.fairshare.store import ledger
from dorabatch.fairshare.store.ledger_tables import ALLOCATIONS, BALANCES, LEGS, TXNS

CREDITING = ("deposit", "transfer")
"""Kinds of postings that give credit to an allocation or move it away."""
_CHUNK = 400


def load_zone(connection: Connection, zone: str, *, at: int) -> Book:
    """All balances of a zone with the allocations that still matter."""
    book = Book()
    asked = select(ALLOCATIONS.c.account).where(ALLOCATIONS.c.zone == zone).distinct()
    accounts = connection.execute(asked).scalars().all()
    for row in ledger.live_allocations(connection, [zone], accounts, at=at):
        book.open(row)
    for side in SIDES:
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
    sides = (f"{side}:{zone}:" for side in SIDES)
    return or_(*(column.startswith(side, autoescape=True) for side in sides))


def _by_account(rows: Iterable[tuple[str, int]]) -> dict[str, int]:
    found: dict[str, int] = defaultdict(int)
    for side, ucr in rows:
        found[side.split(":", 2)[2]] += ucr
    return dict(found)


def daily_use(
    connection: Connection, zone: str, *, end: int, account: str | None = None
) -> dict[str, list[int]]:
    """Account -> what it used, net, in each of the last DAYS days, oldest first.

    Days are counted back from `end`, microseconds since 1970. An account that others
    belong to has used what its own credit paid for. Who used nothing is left out.
    """
    start = end - DAYS * DAY_US
    day = ((TXNS.c.at - start) // DAY_US).label("day")
    side = LEGS.c.ledger_account
    asked = (
        select(side, day, func.sum(LEGS.c.ucr))
        .join(TXNS)
        .where(TXNS.c.kind.in_(("charge", "refund")))
        .where(TXNS.c.at >= start, TXNS.c.at < end)
        .group_by(side, "day")
    )
    if account is None:
        asked = asked.where(_own_side(side, zone))
    else:
        asked = asked.where(side.in_([f"{what}:{zone}:{account}" for what in SIDES]))
    found: dict[str, list[int]] = defaultdict(lambda: [0] * DAYS)
    for name, number, ucr in connection.execute(asked):
        found[name.split(":", 2)[2]][int(number)] -= int(ucr)
    return dict(found)
