"""Which period a report is about: since, from and to, or a week of credits.

Pure: takes the words, the present moment and the site's rule for weeks. Refuses a
period that ends before it begins or lies in the future; never reads a clock.
"""

import re
from dataclasses import dataclass
from datetime import datetime, timedelta

from dorabatch.errors import UserError
from dorabatch.fairshare.money.week_start import Period, ResetRule, period_at

_SPAN = re.compile(r"([0-9]{1,5})([mhdw])")
_UNITS = {
    "m": timedelta(minutes=1),
    "h": timedelta(hours=1),
    "d": timedelta(days=1),
    "w": timedelta(weeks=1),
}
USUAL_SINCE = "7d"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What was said of the period; empty where nothing was."""

    since: str = ""
    start: str = ""
    end: str = ""
    week: str = ""


def read_period(wanted: Wanted, now: datetime, rule: ResetRule) -> Period:
    """[start, end) in UTC; a date means its beginning in the site's time zone."""
    said = [bool(wanted.since), bool(wanted.start or wanted.end), bool(wanted.week)]
    if sum(said) > 1:
        raise UserError("the period is said twice: give --since, --from/--to or --week")
    if wanted.week:
        return _week(wanted.week, now, rule)
    if wanted.start or wanted.end:
        return _between(wanted, now, rule)
    return Period(start=now - _span(wanted.since or USUAL_SINCE), end=now)


def _span(text: str) -> timedelta:
    match = _SPAN.fullmatch(text)
    if match is None or int(match[1]) == 0:
        raise UserError(
            f"--since {text!r} (allowed: 1 to 99999 of m, h, d or w, such as 90m, 12h, "
            "7d or 4w)"
        )
    return int(match[1]) * _UNITS[match[2]]


def _week(text: str, now: datetime, rule: ResetRule) -> Period:
    present = period_at(now, rule)
    if text == "this":
        return Period(start=present.start, end=now)
    if text == "last":
        return period_at(present.start - timedelta(hours=12), rule)
    raise UserError(f"--week {text!r} (allowed: last or this)")


def _between(wanted: Wanted, now: datetime, rule: ResetRule) -> Period:
    if not wanted.start:
        raise UserError(f"--to {wanted.end} needs --from: when does the period begin?")
    start = _moment("--from", wanted.start, rule)
    end = _moment("--to", wanted.end, rule) if wanted.end else now
    if start > now:
        raise UserError(
            f"--from {wanted.start} is in the future; a report is about what was"
        )
    if end <= start:
        raise UserError(
            f"the period ends before it begins: --from {wanted.start}, --to "
            f"{wanted.end or 'now'}"
        )
    if end > now:
        raise UserError(
            f"--to {wanted.end} is in the future; a report is about what was: end it "
            "now by leaving out --to"
        )
    return Period(start=start, end=end)


def _moment(option: str, text: str, rule: ResetRule) -> datetime:
    try:
        found = datetime.fromisoformat(text)
        if found.tzinfo is None:
            found = found.replace(tzinfo=rule.zone)
        return found.astimezone(rule.zone)
    except (ValueError, OverflowError) as error:
        raise UserError(
            f"{option} {text!r} (allowed: a date such as 2026-01-05, or with a time "
            "such as 2026-01-05T08:00)"
        ) from error
