"""Weekly credit in the daemon: opens weeks, tops them up, ends what has expired.

Runs inside the writer's transaction; what a week brings is decided in
`fairshare.week`. Doing it again changes nothing.
"""

from collections.abc import Sequence
from datetime import datetime

from dorabatch.daemon.state.charging import Billing
from dorabatch.daemon.state.credit_book import CreditBook
from dorabatch.db import Tx
from dorabatch.fairshare.money.book import Allocation, Posting
from dorabatch.fairshare.money.week import (
    WeeklyCredit,
    deposit_of,
    open_week,
)
from dorabatch.fairshare.store import accounts, ledger
from dorabatch.units import microseconds_of


def missing_weeks(desk: CreditBook, now: datetime) -> list[WeeklyCredit]:
    """Weekly credits whose present week is not open yet, by memory.

    A clock that went back opens no week before one that is open.
    """
    start = microseconds_of(desk.period(now).start)
    return [
        credit
        for credit in desk.people.weekly(desk.zone)
        if not any(
            row.kind == "week" and row.valid_to > start
            for row in desk.book.budgeted(desk.zone, credit.account)
        )
    ]


def ended_allocations(desk: CreditBook, now: datetime) -> list[Allocation]:
    """Allocations that have ended with something left, by memory."""
    at = microseconds_of(now)
    return [
        row
        for row in list(desk.book.allocations.values())
        if row.valid_to <= at
        and desk.book.balances.get((f"avail:{row.zone}:{row.account}", row.id), 0) > 0
    ]


def boundaries(desk: CreditBook, now: datetime) -> list[int]:
    """The moments up to now at which a week begins or credit has ended, in order."""
    moments = {row.valid_to for row in ended_allocations(desk, now)}
    if missing_weeks(desk, now):
        moments.add(microseconds_of(desk.period(now).start))
    return sorted(moments)


def open_weeks(
    desk: CreditBook,
    billing: Billing,
    tx: Tx,
    credits: Sequence[WeeklyCredit],
    now: datetime,
) -> None:
    """Open the present week of these, or top it up when it was raised meanwhile.

    Less than before never takes back what was given: it holds from the next week on.
    """
    period = desk.period(now)
    names = [credit.account for credit in credits]
    weeks = accounts.latest_weeks(tx.connection, desk.zone, names)
    given = accounts.credited(tx.connection, [row.id for row in weeks.values()])
    left = _left(tx, weeks)
    allocations: list[Allocation] = []
    postings: list[Posting] = []
    for credit in credits:
        last = weeks.get(credit.account)
        if last is not None and last.valid_to > microseconds_of(period.start):
            at, had = microseconds_of(now), given.get(last.id, 0)
            deposit = deposit_of(credit, last, period, at=at, had=had)
            postings += [deposit] if deposit.amount else []
            continue
        opening = open_week(
            credit,
            period,
            at=microseconds_of(now),
            previous=last,
            left=left.get(last.id, 0) if last else 0,
        )
        allocations += opening.allocations
        postings += opening.postings
    billing.open_allocations(tx, allocations)
    billing.post(tx, postings)


def _left(tx: Tx, weeks: dict[str, Allocation]) -> dict[str, int]:
    """What each of these weeks has available."""
    asked = [
        Posting(kind="read", key="", at=row.valid_from, zone=row.zone, chain=(account,))
        for account, row in weeks.items()
    ]
    book = ledger.load_book(tx.connection, asked)
    return {
        row.id: book.balances.get((f"avail:{row.zone}:{account}", row.id), 0)
        for account, row in weeks.items()
    }
