"""What a GPU-hour costs: prices by zone and model, each valid from its date.

Decides which price counts at a moment and cuts a span into price segments. Never
charges anybody and never stores anything.
"""

from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from dorabatch.errors import UserError
from dorabatch.units import FREE, MicroCredits

ANY_ZONE = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """One row of the price list; an empty zone stands for every zone."""

    zone: str
    model: str
    per_hour: MicroCredits
    valid_from: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class PriceSegment:
    """A span with one price."""

    start: datetime
    end: datetime
    per_hour: MicroCredits


class PriceBook:
    """The price list, ready to be asked; later rows never change earlier charges."""

    def __init__(self, prices: Iterable[Price]) -> None:
        self._rows: dict[tuple[str, str], list[Price]] = {}
        for price in sorted(prices, key=lambda row: row.valid_from):
            _check(price)
            rows = self._rows.setdefault((price.zone, price.model), [])
            if rows and rows[-1].valid_from == price.valid_from:
                raise UserError(
                    f"price of {price.model!r} in zone {price.zone!r} is set twice for "
                    f"{price.valid_from.isoformat()}; keep one of them"
                )
            rows.append(price)

    def price_at(self, zone: str, model: str, at: datetime) -> MicroCredits:
        """The price of the zone, else the one of every zone, else free."""
        for key in ((zone, model), (ANY_ZONE, model)):
            rows = self._rows.get(key, [])
            found = bisect_right(rows, at, key=lambda row: row.valid_from)
            if found:
                return rows[found - 1].per_hour
        return FREE

    def is_priced(self, zone: str, model: str) -> bool:
        """Whether a price was ever written for the model here."""
        return (zone, model) in self._rows or (ANY_ZONE, model) in self._rows

    def segments(
        self, zone: str, model: str, *, start: datetime, end: datetime, locked: bool
    ) -> tuple[PriceSegment, ...]:
        """The span cut where the price changes; locked: the price at its start."""
        cuts = [start]
        if not locked:
            cuts += self._changes(zone, model, start, end)
        ends = [*cuts[1:], end]
        return tuple(
            PriceSegment(
                start=first, end=last, per_hour=self.price_at(zone, model, first)
            )
            for first, last in zip(cuts, ends, strict=True)
        )

    def _changes(
        self, zone: str, model: str, start: datetime, end: datetime
    ) -> list[datetime]:
        moments = {
            row.valid_from
            for key in ((zone, model), (ANY_ZONE, model))
            for row in self._rows.get(key, [])
            if start < row.valid_from < end
        }
        changes: list[datetime] = []
        before = self.price_at(zone, model, start)
        for moment in sorted(moments):
            price = self.price_at(zone, model, moment)
            # A row that repeats the price opens no segment: nothing is rounded twice.
            if price != before:
                changes.append(moment)
            before = price
        return changes


def _check(price: Price) -> None:
    if price.per_hour < 0:
        raise UserError(
            f"price of {price.model!r} is {price.per_hour}; 0 or more is allowed"
        )
    if price.valid_from.tzinfo is None:
        raise UserError(
            f"price of {price.model!r}: valid_from {price.valid_from} has no time "
            "zone; write it with one, such as 2026-01-01T00:00:00Z"
        )
