"""The latest forecasts of starts, and how many of the checked ones were right.

Written by the forecaster's thread, read by every other: forecasts are built whole and
then published by one assignment, and whoever reads takes `last` once and goes on with
that. Nothing here guesses.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from dorabatch.fairshare.turn.start_forecast import Widening, hit_text


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """When a workload is expected to start, rounded outward to the minute."""

    low: datetime
    high: datetime

    def text(self) -> str:
        """Both ends, UTC, as dstat shows them."""
        is_one_day = self.low.date() == self.high.date()
        high = f"{self.high:%H:%M}" if is_one_day else f"{self.high:%Y-%m-%d %H:%M}"
        return f"{self.low:%Y-%m-%d %H:%M} to {high} UTC"


@dataclass(frozen=True, slots=True, kw_only=True)
class LastForecasts:
    """Starts by workload; `hits` of `checked` first forecasts held the start.

    `widening` is what was learned from those that were checked.
    """

    starts: Mapping[int, Start] = field(default_factory=dict)
    hits: int = 0
    checked: int = 0
    widening: Widening = field(default_factory=Widening)

    @property
    def record(self) -> str:
        """The measured hit rate in words."""
        return hit_text(self.hits, self.checked)


class StartForecasts:
    """Holds what the forecaster published last."""

    def __init__(self) -> None:
        self.last = LastForecasts()

    def publish(self, forecasts: LastForecasts) -> None:
        """From now on this is what is told."""
        self.last = forecasts
