"""What a new week brings: the deposit, what is rolled over and what expires.

Decides allocations and postings; never posts them and never reads a clock. All are
named after the week and the account, so doing it twice changes nothing.
"""

from dataclasses import dataclass
from datetime import timedelta

from dorabatch.errors import UserError
from dorabatch.fairshare.money.book import Allocation, Posting
from dorabatch.fairshare.money.week_start import Period
from dorabatch.units import (
    MicroCredits,
    microseconds,
    microseconds_of,
    moment_of,
)

MILLION = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class WeeklyCredit:
    """What an account gets each week in a zone, in micro-credits."""

    zone: str
    account: str
    amount: int
    on_exhaust: str
    rollover_ppm: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollover:
    """What happens to the credit left at the end of a week."""

    rolled: MicroCredits
    expired: MicroCredits


@dataclass(frozen=True, slots=True, kw_only=True)
class Opening:
    """What to open and to post, in this order."""

    allocations: tuple[Allocation, ...]
    postings: tuple[Posting, ...]


def week_id(zone: str, account: str, period: Period) -> str:
    """The name of an account's allocation of a week."""
    return f"week:{zone}:{account}:{period.start:%Y-%m-%dT%H:%MZ}"


def open_week(
    credit: WeeklyCredit,
    period: Period,
    *,
    at: int,
    previous: Allocation | None,
    left: int,
) -> Opening:
    """The week's allocation with its deposit, and what the last week leaves.

    Who had a week before gets the whole deposit from the week's start on, who joins
    in the middle the share of the time that is left. `left` is what `previous` has
    available; it is rolled over only from the week just before.
    """
    start, end = microseconds_of(period.start), microseconds_of(period.end)
    begin = start if previous is not None else at
    week = Allocation(
        id=week_id(credit.zone, credit.account, period),
        zone=credit.zone,
        account=credit.account,
        kind="week",
        valid_from=begin,
        valid_to=end,
        on_exhaust=credit.on_exhaust,
        rollover_ppm=credit.rollover_ppm,
    )
    allocations = [week]
    postings = [deposit_of(credit, week, period, at=begin)]
    if previous is not None and previous.valid_to == start:
        parts = rollover(
            left, period_amount=credit.amount, rollover_ppm=previous.rollover_ppm
        )
        if parts.rolled:
            rolled = Allocation(
                id=f"rolled:{week.id}",
                zone=credit.zone,
                account=credit.account,
                kind="rolled",
                valid_from=start,
                valid_to=end,
                on_exhaust=credit.on_exhaust,
            )
            allocations.append(rolled)
            postings.append(
                Posting(
                    kind="transfer",
                    key=f"roll:{previous.id}",
                    at=start,
                    zone=credit.zone,
                    chain=(credit.account,),
                    amount=parts.rolled,
                    allocation_id=previous.id,
                    target_id=rolled.id,
                    reason="rolled over",
                )
            )
    return Opening(allocations=tuple(allocations), postings=tuple(postings))


def deposit_of(
    credit: WeeklyCredit, week: Allocation, period: Period, *, at: int, had: int = 0
) -> Posting:
    """The deposit that brings a week to its amount, less what it had already.

    A week that was joined in the middle gets the share it had left then.
    """
    due = pro_rated(
        credit.amount,
        left=moment_of(week.valid_to) - moment_of(week.valid_from),
        period=period.length,
    )
    return Posting(
        kind="deposit",
        key=f"deposit:{week.id}:{due}",
        at=at,
        zone=credit.zone,
        chain=(credit.account,),
        amount=max(0, due - had),
        allocation_id=week.id,
    )


def expiry_of(row: Allocation, at: int, now: int) -> Posting:
    """The posting that ends what an ended allocation has left.

    Credit that a run gives back later ends too: `now` tells one time from another.
    """
    return Posting(
        kind="expire",
        key=f"expire:{row.id}:{now}",
        at=at,
        zone=row.zone,
        chain=(row.account,),
        allocation_id=row.id,
    )


def pro_rated(
    period_amount: int, *, left: timedelta, period: timedelta
) -> MicroCredits:
    """The share of a period's credit for one who joins with part of it left."""
    if period <= timedelta():
        raise UserError(f"period {period} is not allowed; it must be above 0")
    part = max(timedelta(), min(left, period))
    return MicroCredits(period_amount * microseconds(part) // microseconds(period))


def rollover(left: int, *, period_amount: int, rollover_ppm: int) -> Rollover:
    """Split what is left: up to the cap it lives one more period, the rest expires."""
    if not 0 <= rollover_ppm <= MILLION:
        raise UserError(
            f"rollover_ppm {rollover_ppm} is not allowed; write 0 to {MILLION}"
        )
    kept = max(0, left)
    rolled = min(kept, period_amount * rollover_ppm // MILLION)
    return Rollover(rolled=MicroCredits(rolled), expired=MicroCredits(kept - rolled))
