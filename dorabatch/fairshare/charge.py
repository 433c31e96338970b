"""What a run costs, may cost and gets back: exact, whole micro-credits.

An amount is rounded down once per run and price segment, so no tick length changes
it. Never posts anything: the ledger does, under the run's name.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from dorabatch.errors import UserError, invariant
from dorabatch.fairshare.price import PriceBook, PriceSegment
from dorabatch.units import (
    MicroCredits,
    amount_for,
    microseconds,
    paid_microseconds,
)

OPEN_ENDED_LIEN = timedelta(hours=1)
MILLION = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentCharge:
    """What one price segment of a run has cost since it began."""

    segment: int
    total: MicroCredits


@dataclass(frozen=True, slots=True, kw_only=True)
class Quote:
    """What a workload may cost at most, before it starts."""

    per_hour: MicroCredits
    horizon: timedelta
    amount: MicroCredits


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollover:
    """What happens to the credit left at the end of a period."""

    rolled: MicroCredits
    expired: MicroCredits


def charges_for(
    segments: Iterable[PriceSegment], *, gpu_milli: int, until: datetime
) -> tuple[SegmentCharge, ...]:
    """The cost of each segment from its start to `until`; asks are cumulative.

    The amount to post is the total less what was posted for that segment before.
    """
    charges: list[SegmentCharge] = []
    for number, segment in enumerate(segments):
        end = min(segment.end, until)
        invariant(
            segment.end >= segment.start,
            f"price segment {number} ends before it starts",
        )
        elapsed = max(timedelta(), end - segment.start)
        total = amount_for(
            segment.per_hour,
            gpu_milli=gpu_milli,
            elapsed_microseconds=microseconds(elapsed),
        )
        charges.append(SegmentCharge(segment=number, total=total))
    return tuple(charges)


def quote(
    book: PriceBook,
    *,
    zone: str,
    models: Iterable[str],
    gpu_milli: int,
    limit: timedelta | None,
    at: datetime,
) -> Quote:
    """The lien to hold: the limit at the dearest accepted model.

    An open-ended workload is quoted a rolling hour.
    """
    horizon = OPEN_ENDED_LIEN if limit is None else limit
    per_hour = book.dearest(zone, models, at)
    amount = amount_for(
        per_hour, gpu_milli=gpu_milli, elapsed_microseconds=microseconds(horizon)
    )
    return Quote(per_hour=per_hour, horizon=horizon, amount=amount)


def last_paid_second(
    available: int, *, per_hour: int, gpu_milli: int, start: datetime
) -> datetime | None:
    """The last whole second that the credit pays for; None: it never runs out."""
    paid = paid_microseconds(available, price_per_hour=per_hour, gpu_milli=gpu_milli)
    if paid is None:
        return None
    seconds = paid // MILLION
    # Beyond the calendar is as good as never.
    if seconds > (datetime.max.replace(tzinfo=start.tzinfo) - start).total_seconds():
        return None
    return start + timedelta(seconds=seconds)


def refund_for_lost(
    *, per_hour: int, gpu_milli: int, lost: timedelta, charged: int
) -> MicroCredits:
    """What a node's failure gives back: the lost time, never more than was charged."""
    amount = amount_for(
        per_hour, gpu_milli=gpu_milli, elapsed_microseconds=microseconds(lost)
    )
    return MicroCredits(min(amount, max(0, charged)))


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
