"""What a run is billed for, and when: meters, their charges and the last paid moment.

A run has one meter from its placement on, and a new one each time what it is billed
for changes (a lost GPU, credit that ran out or came back). A later meter counts from
its moment on, also where that lies before an earlier one's. Decides amounts only; never
posts anything and never reads a clock. Times are microseconds since 1970.
"""

import json
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from dorabatch.fairshare.money.price import PriceBook, PriceSegment
from dorabatch.units import (
    MICROSECONDS_PER_HOUR,
    WHOLE_GPU_MILLI,
    MicroCredits,
    amount_for,
    microseconds,
    moment_of,
)

SEGMENTS_PER_METER = 1000
_GPU_HOUR = MICROSECONDS_PER_HOUR * WHOLE_GPU_MILLI


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """Thousandths of GPUs or cores of one model."""

    model: str
    milli: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Meter:
    """What a run is billed for from `at` on, until its next meter.

    `chain` is who pays, the account itself first. `limit_us` is how long it may run;
    None is open-ended. What is not billed is free: credit ran out or nothing is left
    to pay for.
    """

    run: str
    number: int
    at: int
    zone: str
    chain: tuple[str, ...]
    items: tuple[Item, ...]
    limit_us: int | None
    is_billed: bool
    reason: str = ""

    def next(self, at: int, reason: str, **changes: object) -> "Meter":
        """The meter that replaces this one."""
        number = self.number + 1
        return replace(self, number=number, at=at, reason=reason, **changes)  # type: ignore[arg-type]  # fields by name


@dataclass(frozen=True, slots=True, kw_only=True)
class Draw:
    """What an item costs from now on: `rate` is price an hour x thousandths.

    `rest` is what it has cost so far beyond whole micro-credits: rate x microseconds.
    """

    rate: int
    rest: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RunCharge:
    """What one model of a run has cost in one segment since that began."""

    segment: int
    model: str
    total: MicroCredits


def terms_json(meter: Meter) -> str:
    """What is stored of a meter beside its run, number, moment and reason."""
    return json.dumps(
        {
            "zone": meter.zone,
            "chain": list(meter.chain),
            "items": [[item.model, item.milli] for item in meter.items],
            "limit_us": meter.limit_us,
            "billed": meter.is_billed,
        }
    )


def read_meter(row: Mapping[Any, Any]) -> Meter:
    """The meter of a stored row."""
    terms = json.loads(str(row["terms"]))
    return Meter(
        run=row["run"],
        number=row["number"],
        at=row["at"],
        zone=terms["zone"],
        chain=tuple(terms["chain"]),
        items=tuple(Item(model=model, milli=milli) for model, milli in terms["items"]),
        limit_us=terms["limit_us"],
        is_billed=terms["billed"],
        reason=row["reason"],
    )


def run_charges(
    meters: Sequence[Meter],
    prices: PriceBook,
    *,
    started: int,
    until: int,
    locked: bool,
) -> list[RunCharge]:
    """What a run has cost from its start to `until`, by segment and model.

    Totals grow with `until` and depend on nothing else, so any tick length posts the
    same. Time past the run's limit is not billed: a run never costs more than its
    quote. Locked: at the prices of the run's start.
    """
    charges: list[RunCharge] = []
    for place, meter in enumerate(meters):
        begin, end = _span(meters, place, started=started, until=until)
        if not meter.is_billed or end <= begin:
            continue
        for item in meter.items:
            found = _segments(
                prices, meter, item, span=(begin, end), locked_at=started * locked
            )
            charges += [
                RunCharge(
                    segment=meter.number * SEGMENTS_PER_METER + number,
                    model=item.model,
                    total=_cost(segment, item),
                )
                for number, segment in enumerate(found)
            ]
    return charges


def present_draws(
    meters: Sequence[Meter],
    prices: PriceBook,
    *,
    started: int,
    now: int,
    locked: bool,
) -> list[Draw]:
    """What a run draws now, an entry for each of its items."""
    meter = meters[-1]
    begin, end = _span(meters, len(meters) - 1, started=started, until=now)
    if not meter.is_billed or end < now or begin > now:
        return []
    moment = moment_of(started if locked else now)
    found = []
    for item in meter.items:
        rate = prices.price_at(meter.zone, item.model, moment) * item.milli
        *_, last = _segments(
            prices, meter, item, span=(begin, now), locked_at=started * locked
        )
        # A price that begins at this moment has cost nothing yet.
        is_present = last.per_hour * item.milli == rate
        lasted = microseconds(last.end - last.start) if is_present else 0
        found.append(Draw(rate=rate, rest=rate * lasted % _GPU_HOUR))
    return found


def span_cost(
    items: Iterable[Item], prices: PriceBook, *, zone: str, at: int, span_us: int
) -> MicroCredits:
    """What the items cost for a span at the prices of a moment."""
    moment = moment_of(at)
    return MicroCredits(
        sum(
            amount_for(
                prices.price_at(zone, one.model, moment),
                gpu_milli=one.milli,
                elapsed_microseconds=span_us,
            )
            for one in items
        )
    )


def runs_out_at(now: int, *, draws: Sequence[Draw], funds: int) -> int | None:
    """The last moment that is paid when these draw on `funds` left now; None: never.

    Each is charged whole micro-credits, so it is the moment from which they have cost
    all that the funds cover, as charged: what may be left is less than the next
    micro-credits that fall due together. `funds` are what is available and what
    open-ended runs hold, less what they have cost and was not posted yet; below zero
    they ran out before now.
    """
    rate = sum(one.rate for one in draws)
    if not rate:
        return None
    rests = sum(one.rest for one in draws)

    def cost(span: int) -> int:
        return sum((one.rest + one.rate * span) // _GPU_HOUR for one in draws)

    def first(amount: int) -> int:
        """The first span that costs so much: whole parts are less than the sum."""
        early = (amount * _GPU_HOUR - rests - 1) // rate
        late = ((amount + len(draws)) * _GPU_HOUR - rests) // rate + 1
        reached = bisect_left(range(early, late + 1), amount, key=cost)
        return early + reached

    return now + first(cost(first(funds + 1) - 1))


def _span(
    meters: Sequence[Meter], place: int, *, started: int, until: int
) -> tuple[int, int]:
    meter = meters[place]
    end = min((later.at for later in meters[place + 1 :]), default=until)
    if meter.limit_us is not None:
        end = min(end, started + meter.limit_us)
    return max(meter.at, started), min(end, until)


def _segments(
    prices: PriceBook,
    meter: Meter,
    item: Item,
    *,
    span: tuple[int, int],
    locked_at: int,
) -> tuple[PriceSegment, ...]:
    start, end = (moment_of(at) for at in span)
    if locked_at:
        price = prices.price_at(meter.zone, item.model, moment_of(locked_at))
        return (PriceSegment(start=start, end=end, per_hour=price),)
    return prices.segments(meter.zone, item.model, start=start, end=end, locked=False)


def _cost(segment: PriceSegment, item: Item) -> MicroCredits:
    return amount_for(
        segment.per_hour,
        gpu_milli=item.milli,
        elapsed_microseconds=microseconds(segment.end - segment.start),
    )
