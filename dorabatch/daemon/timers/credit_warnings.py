"""Tells of credit that is about to run out, once for each run and stretch of time.

Says when it is time to warn; never stops anything.
"""

from collections.abc import Callable
from datetime import datetime, timedelta

from dorabatch.daemon.state.billed_runs import RunOut
from dorabatch.daemon.state.credit_book import CreditBook
from dorabatch.queue.records import Container
from dorabatch.units import moment_of

Warn = Callable[[Container, str, str], None]
"""Called with a container, a key that is the same for the same warning, and a text."""


class CreditWarnings:
    """The warnings that were given since the start."""

    def __init__(self, credits: CreditBook, grace: timedelta) -> None:
        self._credits = credits
        self._grace = grace
        self._given: set[tuple[str, int]] = set()

    def give(self, outs: list[RunOut], now: datetime, warn: Warn) -> None:
        """Warn of what ends within the grace and will be stopped then."""
        for out in outs:
            standing = self._credits.standing_of(out.account, now)
            ends = moment_of(out.at)
            if standing.on_exhaust != "stop" or not now < ends <= now + self._grace:
                continue
            for one in out.runs:
                # Credit that comes and goes again is worth another warning.
                key = (one.last.run, out.at // (600 * 1_000_000))
                if key not in self._given:
                    self._given.add(key)
                    warn(
                        one.container,
                        f"credit:{key[0]}:{key[1]}",
                        f"credit of {out.account} pays until {ends:%H:%M:%S} UTC; "
                        "then it is stopped and waits for credit",
                    )
