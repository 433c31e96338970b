"""The only reader of the clock: real time, or a time that tests set.

What lasts is measured by what has passed, so a clock never follows a step of the
machine's wall clock: it goes on from where that was when the clock was made. Never
sleeps on behalf of deciding code: those take `now` as a parameter.
"""

import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Protocol


class Clock(Protocol):
    """What daemon parts need from time."""

    def now(self) -> datetime:
        """The present moment, aware, in UTC."""

    def monotonic(self) -> float:
        """Seconds that never go back."""

    def wall_lead(self) -> float:
        """Seconds by which the machine's wall clock is ahead of `now`: its steps."""

    def wait(self, event: threading.Event, seconds: float) -> bool:
        """Wait until the event is set or the time is over; True when set."""


def wall_time() -> datetime:
    """What the machine's clock on the wall shows, in UTC."""
    return datetime.now(UTC)


def time_since_boot() -> float:
    """Seconds since the machine began, those it slept through too."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class SystemClock:
    """The machine's clock as it was when this was made, and what has passed since."""

    def __init__(
        self,
        wall: Callable[[], datetime] = wall_time,
        passed: Callable[[], float] = time_since_boot,
    ) -> None:
        self._wall, self._passed = wall, passed
        self._began, self._began_at = wall(), passed()

    def now(self) -> datetime:
        """The present moment, aware, in UTC."""
        return self._began + timedelta(seconds=self._passed() - self._began_at)

    def wall_lead(self) -> float:
        """Seconds by which the machine's wall clock is ahead of `now`: its steps."""
        return (self._wall() - self.now()).total_seconds()

    def monotonic(self) -> float:
        """Seconds that never go back."""
        return time.monotonic()

    def wait(self, event: threading.Event, seconds: float) -> bool:
        """Wait until the event is set or the time is over; True when set."""
        return event.wait(seconds)


class FakeClock:
    """A clock that moves only when it is told to."""

    def __init__(self, start: datetime) -> None:
        self._start = start
        self._passed = timedelta()
        self.lead = 0.0

    def wall_lead(self) -> float:
        """What the test says that the wall clock was stepped by."""
        return self.lead

    def now(self) -> datetime:
        """The set moment."""
        return self._start + self._passed

    def monotonic(self) -> float:
        """Seconds since the start."""
        return self._passed.total_seconds()

    def advance(self, seconds: float) -> None:
        """Move on by so many seconds."""
        self._passed += timedelta(seconds=seconds)

    def wait(self, event: threading.Event, seconds: float) -> bool:
        """Let the time pass at once."""
        self.advance(seconds)
        return event.is_set()
