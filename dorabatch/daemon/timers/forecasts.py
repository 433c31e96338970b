"""When what waits will start: makes forecasts, shows them, and checks them afterwards.

Works beside the cycle, on its own thread: the cycle never waits for it. The first
forecast of a workload is kept and compared with its start, and what follows are
widened by what came of those; `fairshare.starts` simulates. Starts and stops nothing.
"""

import threading
from dataclasses import replace
from datetime import datetime

from sqlalchemy.exc import SQLAlchemyError

from dorabatch import log
from dorabatch.daemon.cycle.queue_order import rank_pending
from dorabatch.daemon.state.services import Services
from dorabatch.daemon.state.start_forecasts import Start, StartForecasts
from dorabatch.daemon.views.expected_starts import expected_starts
from dorabatch.db import Tx
from dorabatch.errors import DorabatchError
from dorabatch.fairshare.store import share_store
from dorabatch.fairshare.store.share_store import StartForecast
from dorabatch.fairshare.turn.start_forecast import (
    Widening,
)
from dorabatch.queue.board import Board
from dorabatch.queue.past import first_starts
from dorabatch.queue.records import Workload, WorkloadId
from dorabatch.units import microseconds_of

EVERY_SECONDS = 30.0
KEPT_MAX = 5000


class Forecaster:
    """One zone's forecasts."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="forecast", daemon=True)
        with services.engine.connect() as connection:
            zone = services.settings.zone
            self._open = share_store.load_forecasts(connection, zone)
            checked = share_store.checked_forecasts(connection, zone)
        widening = Widening()
        for one in checked:
            widening = _learned(widening, one, one.started_at or 0)
        services.outlook = replace(services.outlook, widening=widening)

    def start(self) -> None:
        """Begin to make forecasts."""
        self._thread.start()

    def stop(self) -> None:
        """Make no more."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(10.0)

    def turn(self) -> None:
        """Check what has started since, and forecast what waits."""
        services = self._services
        now = services.clock.now()
        self._check()
        starts = {}
        pending = services.board.pending.arrays()
        if len(pending):
            order = rank_pending(services, pending, now).ranking.order
            starts = expected_starts(services, pending, order, now)
        self._record(starts, now)
        with services.engine.connect() as connection:
            hits, count = share_store.count_hits(connection, services.settings.zone)
        services.outlook = StartForecasts(
            starts=starts,
            hits=hits,
            checked=count,
            widening=services.outlook.widening,
        )

    def _run(self) -> None:
        while not self._stopping.wait(EVERY_SECONDS):
            try:
                self.turn()
            except (DorabatchError, SQLAlchemyError) as error:
                log.failure("forecast-failed", error)

    def _check(self) -> None:
        """Compare the forecasts of what has started, drop those of what never will."""
        board = self._services.board
        done = [key for key in self._open if not _still_waits(board.workloads, key)]
        moved = [key for key in self._open if _has_run(board, key)]
        asked = sorted({*done, *moved})
        if not asked:
            return
        with self._services.engine.connect() as connection:
            started = first_starts(connection, asked)
        gone = [key for key in done if key not in started]

        def write(tx: Tx) -> None:
            for key, moment in started.items():
                at = microseconds_of(moment)
                share_store.score_forecast(tx.connection, key, at)
            share_store.drop_forecasts(tx.connection, gone)

        if started or gone:
            self._services.writer.do(write)
            self._learn({key: microseconds_of(at) for key, at in started.items()})
            for key in (*started, *gone):
                del self._open[key]

    def _learn(self, started: dict[int, int]) -> None:
        outlook = self._services.outlook
        widening = outlook.widening
        for key, at in sorted(started.items(), key=lambda pair: (pair[1], pair[0])):
            widening = _learned(widening, self._open[key], at)
        self._services.outlook = replace(outlook, widening=widening)

    def _record(self, starts: dict[int, Start], now: datetime) -> None:
        board = self._services.board
        new = [
            StartForecast(
                workload_id=key,
                made_at=microseconds_of(now),
                low=microseconds_of(start.low),
                high=microseconds_of(start.high),
            )
            for key, start in starts.items()
            if key not in self._open and not _has_run(board, key)
        ]
        if not new:
            return
        zone = self._services.settings.zone
        self._services.writer.do(
            lambda tx: share_store.add_forecasts(
                tx.connection, zone, new, kept_max=KEPT_MAX
            )
        )
        self._open.update({one.workload_id: one for one in new})
        while len(self._open) > KEPT_MAX:
            del self._open[next(iter(self._open))]


def _learned(widening: Widening, one: StartForecast, at: int) -> Widening:
    return widening.learned(is_early=at < one.low, is_late=at > one.high)


def _has_run(board: Board, key: int) -> bool:
    """Whether any container of a workload was ever placed, removed ones too."""
    replicas = board.replicas.get(WorkloadId(key), {})
    return any(board.containers[one].attempt for one in list(replicas.values()))


def _still_waits(workloads: dict[WorkloadId, Workload], key: int) -> bool:
    workload = workloads.get(WorkloadId(key))
    return workload is not None and workload.ended_at is None
