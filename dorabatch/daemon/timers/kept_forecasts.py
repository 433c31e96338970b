"""The first forecast of each workload, kept until it starts and compared with that.

Keeps, compares and counts; makes no forecast and starts nothing.
"""

from collections.abc import Mapping
from datetime import datetime

from sqlalchemy import Engine

from dorabatch.daemon.state.start_forecasts import Start
from dorabatch.db import Tx, Writer
from dorabatch.fairshare.store import share_store
from dorabatch.fairshare.store.share_store import StartForecast
from dorabatch.fairshare.turn.start_forecast import Widening
from dorabatch.queue.board import Board
from dorabatch.queue.past import first_starts
from dorabatch.queue.records import WorkloadId
from dorabatch.units import microseconds_of

KEPT_MAX = 5000


class KeptForecasts:
    """One zone's forecasts that were not checked yet.

    Written and read by the forecaster's thread only.
    """

    def __init__(self, engine: Engine, writer: Writer, board: Board, zone: str) -> None:
        self._engine = engine
        self._writer = writer
        self._board = board
        self._zone = zone
        with engine.connect() as connection:
            self._open = share_store.load_forecasts(connection, zone)

    def learned(self) -> Widening:
        """What all that were ever checked teach."""
        with self._engine.connect() as connection:
            checked = share_store.checked_forecasts(connection, self._zone)
        widening = Widening()
        for one in checked:
            widening = _learned(widening, one, one.started_at or 0)
        return widening

    def hits(self) -> tuple[int, int]:
        """(forecasts that held the start, forecasts that were checked)."""
        with self._engine.connect() as connection:
            return share_store.count_hits(connection, self._zone)

    def check(self, widening: Widening) -> Widening:
        """Compare those of what has started, drop those of what never will.

        What was learned before comes back with what these teach.
        """
        done = [key for key in self._open if not _still_waits(self._board, key)]
        moved = [key for key in self._open if _has_run(self._board, key)]
        asked = sorted({*done, *moved})
        if not asked:
            return widening
        with self._engine.connect() as connection:
            started = first_starts(connection, asked)
        gone = [key for key in done if key not in started]

        def write(tx: Tx) -> None:
            for key, moment in started.items():
                at = microseconds_of(moment)
                share_store.score_forecast(tx.connection, key, at)
            share_store.drop_forecasts(tx.connection, gone)

        if started or gone:
            self._writer.do(write)
            for key, moment in sorted(
                started.items(), key=lambda one: (one[1], one[0])
            ):
                at = microseconds_of(moment)
                widening = _learned(widening, self._open[key], at)
            for key in (*started, *gone):
                del self._open[key]
        return widening

    def keep(self, starts: Mapping[int, Start], now: datetime) -> None:
        """Keep the forecasts of what had none before and has never run."""
        new = [
            StartForecast(
                workload_id=key,
                made_at=microseconds_of(now),
                low=microseconds_of(start.low),
                high=microseconds_of(start.high),
            )
            for key, start in starts.items()
            if key not in self._open and not _has_run(self._board, key)
        ]
        if not new:
            return
        self._writer.do(
            lambda tx: share_store.add_forecasts(
                tx.connection, self._zone, new, kept_max=KEPT_MAX
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


def _still_waits(board: Board, key: int) -> bool:
    workload = board.workloads.get(WorkloadId(key))
    return workload is not None and workload.ended_at is None
