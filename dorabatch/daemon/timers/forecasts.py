"""When what waits will start: makes forecasts, and has them checked afterwards.

Works beside the cycle, on its own thread: the cycle never waits for it. What follows
is widened by what came of earlier ones; `fairshare` simulates. Starts and stops
nothing.
"""

import threading
from dataclasses import replace

from dorabatch.clock import Clock
from dorabatch.daemon.cycle.queue_order import QueueOrder
from dorabatch.daemon.state.start_forecasts import LastForecasts, StartForecasts
from dorabatch.daemon.state.threads import WatchedThreads
from dorabatch.daemon.timers.kept_forecasts import KeptForecasts
from dorabatch.daemon.views.expected_starts import ExpectedStarts
from dorabatch.queue.board import Board

EVERY_SECONDS = 30.0


class Forecaster:
    """The thread that forecasts what waits in one zone."""

    def __init__(
        self,
        *,
        board: Board,
        clock: Clock,
        order: QueueOrder,
        starts: ExpectedStarts,
        forecasts: StartForecasts,
        kept: KeptForecasts,
    ) -> None:
        self._board = board
        self._clock = clock
        self._order = order
        self._starts = starts
        self._forecasts = forecasts
        self._kept = kept
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        forecasts.publish(replace(forecasts.last, widening=kept.learned()))

    def start(self, threads: WatchedThreads) -> None:
        """Begin to make forecasts."""
        self._thread = threads.start("forecast", self._round, self._stopping)

    def stop(self) -> None:
        """Make no more."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(10.0)

    def turn(self) -> None:
        """Check what has started since, and forecast what waits."""
        now, last = self._clock.now(), self._forecasts.last
        widening = self._kept.check(last.widening)
        self._forecasts.publish(replace(last, widening=widening))
        starts = {}
        pending = self._board.pending.arrays()
        if len(pending):
            order = self._order.rank(pending, now).ranking.order
            starts = self._starts.of(pending, order, now)
        self._kept.keep(starts, now)
        hits, checked = self._kept.hits()
        self._forecasts.publish(
            LastForecasts(starts=starts, hits=hits, checked=checked, widening=widening)
        )

    def _round(self) -> None:
        if not self._stopping.wait(EVERY_SECONDS):
            self.turn()
