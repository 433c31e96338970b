"""When a week of credits begins: one local moment a week, in one set time zone.

A pure function of (now, time zone, weekday and hour, last reset): once a week across
clock changes and downtime. Never reads a clock and never deposits anything.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo

from dorabatch.errors import UserError

DAYS_A_WEEK = 7


@dataclass(frozen=True, slots=True, kw_only=True)
class ResetRule:
    """The documented moment; `weekday` 0 is Monday, as in `datetime.weekday`.

    A local time that the spring change skips counts as the moment after the gap; one
    that the autumn change repeats counts the first time.
    """

    zone: tzinfo
    weekday: int = 0
    hour: int = 0
    minute: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.weekday < DAYS_A_WEEK:
            raise UserError(
                f"reset weekday {self.weekday} is not allowed; "
                "write 0 (Monday) to 6 (Sunday)"
            )
        if not (0 <= self.hour < 24 and 0 <= self.minute < 60):
            raise UserError(
                f"reset time {self.hour}:{self.minute} is not allowed; "
                "write 0:00 to 23:59"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Period:
    """From one reset to the next, in UTC; the end is not part of it."""

    start: datetime
    end: datetime

    @property
    def length(self) -> timedelta:
        """A week, or an hour more or less where the clocks changed."""
        return self.end - self.start


def period_at(now: datetime, rule: ResetRule) -> Period:
    """The week that holds `now`."""
    local = now.astimezone(rule.zone)
    days_back = (local.weekday() - rule.weekday) % DAYS_A_WEEK
    day = local.date() - timedelta(days=days_back)
    start = _moment(datetime(day.year, day.month, day.day), rule)  # noqa: DTZ001
    if start > now:
        day -= timedelta(days=DAYS_A_WEEK)
        start = _moment(datetime(day.year, day.month, day.day), rule)  # noqa: DTZ001
    following = day + timedelta(days=DAYS_A_WEEK)
    end = _moment(
        datetime(following.year, following.month, following.day),  # noqa: DTZ001
        rule,
    )
    return Period(start=start, end=end)


def _moment(midnight: datetime, rule: ResetRule) -> datetime:
    local = midnight.replace(
        hour=rule.hour, minute=rule.minute, tzinfo=rule.zone, fold=0
    )
    # With fold 0 a skipped time keeps the offset from before the gap, so it lands as
    # far behind the gap as it was inside; a repeated time is the first of the two.
    return local.astimezone(UTC)
