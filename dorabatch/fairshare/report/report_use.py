"""Reports on use: GPU-hours, fairness, waits, and how good the forecasts were.

Pure: takes attempts and forecasts and gives sheets. Never reads a database or a clock;
days are cut in the time zone it is given.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, time, timedelta, tzinfo

from dorabatch.fairshare.money.report_rows import Foretold
from dorabatch.fairshare.report.sheet import Column, Kind, Sheet
from dorabatch.units import microseconds, moment_of

P95 = 0.95


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """One attempt in a period: who, which GPUs, from when to when.

    `waited` is the time from submission to the first attempt's start, None for later
    attempts and for starts outside the period.
    """

    user: str
    models: tuple[str, ...]
    start: datetime
    end: datetime
    waited: timedelta | None = None


def jain_index(used: Sequence[float], shares: Sequence[float]) -> float:
    """1 when use follows shares exactly, 1/n when one has it all."""
    parts = [use / share for use, share in zip(used, shares, strict=True) if share > 0]
    squares = sum(part * part for part in parts)
    return sum(parts) ** 2 / (len(parts) * squares) if squares else 1.0


def usage_sheets(
    spans: Sequence[Span],
    capacity: Mapping[str, int],
    *,
    start: datetime,
    end: datetime,
    zone: tzinfo,
) -> list[Sheet]:
    """GPU time by user, model and day, and how much of each model was in use.

    `capacity[model]` is how many GPUs there are; use is cut to [start, end).
    """
    by_day: dict[tuple[str, str, str], int] = defaultdict(int)
    by_model: dict[str, int] = defaultdict(int)
    for span in spans:
        for day, amount in _days(span, start, end, zone):
            for model in span.models:
                by_day[span.user, model, day] += amount
                by_model[model] += amount
    length = microseconds(end - start)
    models = sorted({*by_model, *capacity})
    return [
        Sheet(
            name="usage",
            title="GPU time by user, model and day",
            columns=(
                Column("user", "USER"),
                Column("model", "MODEL"),
                Column("day", "DAY"),
                Column("gpu", "GPU HOURS", Kind.GPU_US),
            ),
            rows=tuple((*key, amount) for key, amount in sorted(by_day.items())),
        ),
        Sheet(
            name="utilisation",
            title="Use of today's GPUs",
            columns=(
                Column("model", "MODEL"),
                Column("gpus", "GPUS", Kind.COUNT),
                Column("gpu", "GPU HOURS", Kind.GPU_US),
                Column("share", "IN USE", Kind.RATIO),
            ),
            rows=tuple(
                (
                    model,
                    capacity.get(model, 0),
                    by_model[model],
                    by_model[model] / (capacity[model] * length)
                    if capacity.get(model)
                    else None,
                )
                for model in models
            ),
        ),
    ]


def _days(
    span: Span, start: datetime, end: datetime, zone: tzinfo
) -> Iterator[tuple[str, int]]:
    """(local day, microseconds) of the part of a span inside the period."""
    begin, last = max(span.start, start), min(span.end, end)
    while begin < last:
        day = begin.astimezone(zone).date()
        midnight = datetime.combine(day + timedelta(days=1), time(), zone)
        until = min(last, midnight.astimezone(begin.tzinfo))
        yield day.isoformat(), microseconds(until - begin)
        begin = until


def gpu_time(spans: Iterable[Span], start: datetime, end: datetime) -> dict[str, int]:
    """GPU-microseconds of each user inside the period."""
    found: dict[str, int] = defaultdict(int)
    for span in spans:
        inside = microseconds(min(span.end, end) - max(span.start, start))
        found[span.user] += max(0, inside) * len(span.models)
    return dict(found)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fairness:
    """Who got what of what they were entitled to."""

    sheet: Sheet
    jain: float
    worst: str


def fairness(
    spans: Sequence[Span],
    fractions: Mapping[str, float],
    *,
    start: datetime,
    end: datetime,
) -> Fairness:
    """Delivered GPU time against the entitled part of all that was delivered.

    `fractions[user]` is the part of the whole that the share tree promises; who has
    none there shares equally in what the others do not use up. Entitlements are of
    those who wanted anything in the period. Jain's index (Jain, Chiu and Hawe 1984) is
    taken over delivered / fraction.
    """
    used = gpu_time(spans, start, end)
    waits: dict[str, list[float]] = defaultdict(list)
    for span in spans:
        if span.waited is not None:
            waits[span.user].append(span.waited.total_seconds())
    users = sorted({span.user for span in spans})
    known = {user: fractions.get(user, 0.0) for user in users}
    if not sum(known.values()):
        known = dict.fromkeys(users, 1.0)
    whole, total = sum(known.values()), sum(used.values())
    rows = []
    for user in users:
        entitled = round(total * known[user] / whole) if whole else 0
        ratio = used.get(user, 0) / entitled if entitled else None
        rows.append(
            (
                user,
                known[user] / whole if whole else 0.0,
                used.get(user, 0),
                entitled,
                ratio,
                len(waits[user]),
                _mean(waits[user]),
                _quantile(waits[user], P95),
            )
        )
    rated = [(row[4], row[0]) for row in rows if row[4] is not None]
    return Fairness(
        sheet=Sheet(
            name="fairness",
            title="Delivered and entitled",
            columns=_FAIR,
            rows=tuple(rows),
        ),
        jain=jain_index([used.get(u, 0) for u in users], [known[u] for u in users]),
        worst=min(rated)[1] if rated else "",
    )


_FAIR = (
    Column("user", "USER"),
    Column("fraction", "PROMISED", Kind.RATIO),
    Column("delivered", "GPU HOURS", Kind.GPU_US),
    Column("entitled", "ENTITLED", Kind.GPU_US),
    Column("ratio", "GOT / ENTITLED", Kind.RATIO),
    Column("starts", "STARTS", Kind.COUNT),
    Column("wait_mean", "WAIT, MEAN", Kind.SECONDS),
    Column("wait_p95", "WAIT, 95 %", Kind.SECONDS),
)


def accuracy_sheets(forecasts: Iterable[Foretold], zone: tzinfo) -> list[Sheet]:
    """How many starts fell into their forecast's range, by day of the forecast."""
    days: dict[str, list[Foretold]] = defaultdict(list)
    for one in forecasts:
        days[moment_of(one.made_at).astimezone(zone).date().isoformat()].append(one)
    every = [one for found in days.values() for one in found]
    columns = (
        Column("day", "DAY"),
        Column("made", "MADE", Kind.COUNT),
        Column("started", "STARTED", Kind.COUNT),
        Column("hits", "IN RANGE", Kind.COUNT),
        Column("early", "EARLIER", Kind.COUNT),
        Column("late", "LATER", Kind.COUNT),
        Column("hit_rate", "HIT RATE", Kind.RATIO),
        Column("width", "RANGE, MEDIAN", Kind.SECONDS),
    )
    rows = [_accuracy_row(day, days[day]) for day in sorted(days)]
    return [
        Sheet(
            name="accuracy",
            title="Forecast starts",
            columns=columns,
            rows=(*rows, _accuracy_row("all", every)) if every else (),
        )
    ]


def _accuracy_row(
    day: str, forecasts: Sequence[Foretold]
) -> tuple[str | int | float | None, ...]:
    early = late = hits = 0
    for one in forecasts:
        if one.started_at is None:
            continue
        if one.started_at < one.low:
            early += 1
        elif one.started_at > one.high:
            late += 1
        else:
            hits += 1
    started = early + late + hits
    widths = [(one.high - one.low) / 1_000_000 for one in forecasts]
    return (
        day,
        len(forecasts),
        started,
        hits,
        early,
        late,
        hits / started if started else None,
        _quantile(widths, 0.5),
    )


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _quantile(values: Sequence[float], part: float) -> float | None:
    """The smallest value that at least this part of them does not exceed."""
    if not values:
        return None
    ordered = sorted(values)
    return ordered[max(0, -int(-part * len(ordered) // 1) - 1)]
