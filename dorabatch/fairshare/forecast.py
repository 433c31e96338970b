"""When credit runs out if use goes on as in the last days, with a range.

The burn is the mean of whole days; the range is what the mean of as many days may be
in four of five cases (1.28 standard errors). Never reads a clock or a database.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from math import sqrt

DAYS = 14
_EIGHTY_PERCENT = 1.28


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """Burn in micro-credits a day; `ends_*` None: not within ten years.

    The soonest end goes with the high burn.
    """

    burn: int
    burn_low: int
    burn_high: int
    ends_at: datetime | None
    ends_soonest: datetime | None
    ends_latest: datetime | None


def forecast(daily: Sequence[int], available: int, now: datetime) -> Forecast:
    """What the use of the last days, oldest first, makes of what is available."""
    count = max(1, len(daily))
    mean = sum(daily) / count
    spread = sum((one - mean) ** 2 for one in daily) / max(1, count - 1)
    margin = _EIGHTY_PERCENT * sqrt(spread / count)
    low, high = max(0.0, mean - margin), mean + margin
    return Forecast(
        burn=round(mean),
        burn_low=round(low),
        burn_high=round(high),
        ends_at=_end(available, mean, now),
        ends_soonest=_end(available, high, now),
        ends_latest=_end(available, low, now),
    )


def _end(available: int, burn: float, now: datetime) -> datetime | None:
    if burn <= 0:
        return None
    days = max(0, available) / burn
    return now + timedelta(days=days) if days < 3650 else None
