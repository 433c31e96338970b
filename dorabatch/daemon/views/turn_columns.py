"""Columns that a list has only where somebody looks: turn, expected start, credit.

Ranks the queue once for a whole list; changes nothing.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from dorabatch.daemon.state.start_forecasts import StartForecasts
from dorabatch.daemon.views.credit_columns import CreditColumns
from dorabatch.daemon.views.kept_rows import Listed
from dorabatch.daemon.views.table_layout import Row
from dorabatch.daemon.views.turns import Turns, places_by_workload

TURN_FIELDS = frozenset({"rank", "prio", "start", "until", "cost"})
"""The columns that need it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnColumns:
    """Fills in what the usual row of a workload leaves empty."""

    turns: Turns
    credit: CreditColumns
    forecasts: StartForecasts

    def filled(self, found: Iterable[Listed], now: datetime) -> list[Row]:
        """The rows, with place, priority and start of what waits, cost of what runs."""
        taken, starts = self.turns.take(now), self.forecasts.last.starts
        order = {key: n for n, (key, _) in enumerate(places_by_workload(taken))}
        credit = self.credit.at(now)
        filled = []
        for one in found:
            row, key = one.row, one.workload.workload_id
            place = order.get(key)
            if place is not None:
                at = taken.row_at(taken.first[key])
                priority = int(taken.ranked.ranking.priority[at])
                row = {**row, "rank": place + 1, "priority": priority}
                if key in starts:
                    row = {**row, "start": starts[key].text()}
            if one.started_at is not None:
                row = {**row, **credit.of(one.containers)}
            filled.append(row)
        return filled
