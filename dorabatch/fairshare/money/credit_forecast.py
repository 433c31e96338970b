"""When credit runs out if use goes on as in the last days, with a range.

The one source of `dcredit forecast` and `dreport forecast`. The pace is the mean a day
over the last 3, 7 and 14 days: the quickest of the three gives the early end, the
slowest the late one, that of 14 days the one in between. Never reads a clock or a
database.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

DAYS = 14
DAY_US = 86_400_000_000
_WINDOWS = (3, 7, DAYS)
_DAYS_MAX = 3650


@dataclass(frozen=True, slots=True, kw_only=True)
class CreditForecast:
    """Spent in DAYS days and burn a day, in micro-credits.

    `ends_*` None: not within ten years. The soonest end goes with the high burn.
    """

    spent: int
    burn: int
    burn_low: int
    burn_high: int
    ends_at: datetime | None
    ends_soonest: datetime | None
    ends_latest: datetime | None


def forecast(daily: Sequence[int], balance: int, now: datetime) -> CreditForecast:
    """What the use of the last DAYS days, oldest first, makes of a balance.

    The balance counts what is held for runs too: their charges are what spends it.
    """
    paces = [sum(daily[-window:]) // window for window in _WINDOWS]
    low, high = min(paces), max(paces)
    return CreditForecast(
        spent=sum(daily),
        burn=paces[-1],
        burn_low=low,
        burn_high=high,
        ends_at=_end(balance, paces[-1], now),
        ends_soonest=_end(balance, high, now),
        ends_latest=_end(balance, low, now),
    )


def _end(balance: int, burn: int, now: datetime) -> datetime | None:
    if balance <= 0:
        return now
    if burn <= 0 or balance > _DAYS_MAX * burn:
        return None
    return now + timedelta(microseconds=balance * DAY_US // burn)
