"""When what waits will start: makes forecasts, shows them, and checks them afterwards.

Works beside the cycle, on its own thread: the cycle never waits for it. The first
forecast of a workload is kept and compared with its start, and what follows are
widened by what came of those; `fairshare.starts` simulates. Starts and stops nothing.
"""

import threading
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta

import numpy as np
from sqlalchemy.exc import SQLAlchemyError

from dorabatch import log
from dorabatch.daemon.node_view import NodeState, NodeView
from dorabatch.daemon.order.ranking import rank_pending
from dorabatch.daemon.outlook import Outlook, Start
from dorabatch.daemon.services import Services
from dorabatch.db import Tx
from dorabatch.errors import DorabatchError
from dorabatch.fairshare import share_store
from dorabatch.fairshare.share_store import Forecast
from dorabatch.fairshare.starts import (
    SAMPLES,
    Held,
    Line,
    Machine,
    StartRange,
    Widening,
    forecast,
    machine_of,
    sample_parts,
)
from dorabatch.queue.board import Board
from dorabatch.queue.demand import IntArray, PendingArrays
from dorabatch.queue.past import first_starts
from dorabatch.queue.records import Container, Workload, WorkloadId
from dorabatch.units import microseconds_of

EVERY_SECONDS = 30.0
ROWS_MAX = 1500
"""Waiting containers that are looked at, the first ones; who is behind has none."""
KEPT_MAX = 5000
_MINUTE = timedelta(minutes=1)


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
        services.outlook = Outlook(
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
            Forecast(
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


def expected_starts(
    services: Services, pending: PendingArrays, order: IntArray, now: datetime
) -> dict[int, Start]:
    """Start ranges of the first workloads of an order, by workload."""
    views = [view for view in services.fleet.views() if _is_usable(view)]
    places = [
        (view, model)
        for view in views
        for model in sorted({gpu.model for gpu in view.facts.gpus})  # type: ignore[union-attr]  # usable nodes have facts
    ]
    # What waits for credit has no start yet, and delays nobody.
    has_credit = ~np.isin(pending.key[order], list(services.last_plan.held))
    rows = order[(pending.gpu_count[order] > 0) & has_credit][:ROWS_MAX]
    if not places or len(rows) == 0:
        return {}
    machine = _machine(services, places, now)
    line = _line(services, places, pending, rows)
    found = forecast(machine, line, seed=int(pending.key[rows[0]]))
    applied = services.outlook.widening.applied
    return {key: moments_of(applied(one), now) for key, one in found.items()}


def start_lines(services: Services, workload: Workload) -> list[str]:
    """What dstat --why says of a waiting workload's start."""
    outlook = services.outlook
    start = outlook.starts.get(workload.workload_id)
    replicas = services.board.replicas[workload.workload_id].values()
    if not services.last_plan.held.keys().isdisjoint(replicas):
        return ["  start: no forecast while it waits for credit"]
    if start is None:
        return ["  start: no forecast (it is made every 30 s for what asks for GPUs)"]
    return [f"  start: {start.text()}, P10 to P90; {outlook.record}"]


def _machine(
    services: Services, places: Sequence[tuple[NodeView, str]], now: datetime
) -> Machine:
    slots: dict[tuple[str, str], tuple[int, int]] = {}
    counts = []
    for number, (view, model) in enumerate(places):
        assert view.facts is not None
        uuids = [gpu.uuid for gpu in view.facts.gpus if gpu.model == model]
        slots |= {(view.name, uuid): (number, at) for at, uuid in enumerate(uuids)}
        counts.append(len(uuids))
    holds = []
    for name in services.board.nodes_in_use():
        for container in services.board.on_node(name):
            held = container.hold.gpus if container.hold else ()
            here = [slots[name, uuid] for uuid in held if (name, uuid) in slots]
            if here:
                left = _left(services, container, now)
                holds.append(Held(slots=tuple(here), left=left))
    return machine_of(counts, holds)


def _left(services: Services, container: Container, now: datetime) -> np.ndarray:
    """Seconds, one a sample, until a container that holds something lets go."""
    if container.ended_at is not None:
        return np.zeros(SAMPLES)
    board = services.board
    claim = board.claim_of(board.workloads[container.workload_id])
    started = container.started_at
    ran = 0.0 if started is None else max(0.0, (now - started).total_seconds())
    runs = services.history.quantiles(claim, sample_parts(), ran=ran)
    return np.maximum(np.array(runs) - ran, 0.0)


def _line(
    services: Services,
    places: Sequence[tuple[NodeView, str]],
    pending: PendingArrays,
    rows: IntArray,
) -> Line:
    pairs = np.stack([pending.selector[rows], pending.restriction[rows]])
    kinds, kind = np.unique(pairs, axis=1, return_inverse=True)
    accepts = [
        [_accepts(pending, selector, restriction, *place) for place in places]
        for selector, restriction in kinds.T.tolist()
    ]
    claims, guess = np.unique(pending.claim[rows], return_inverse=True)
    runs = [
        services.history.quantiles(pending.claims[claim], sample_parts())
        for claim in claims.tolist()
    ]
    return Line(
        gpus=pending.gpu_count[rows],
        kind=kind.reshape(-1),
        accepts=np.array(accepts, dtype=np.bool_),
        guess=guess,
        runs=np.array(runs, dtype=np.float64),
        group=pending.group[rows],
    )


def _accepts(
    pending: PendingArrays, selector: int, restriction: int, view: NodeView, model: str
) -> bool:
    models, where = pending.selectors[selector], pending.restrictions[restriction]
    assert view.facts is not None
    return (
        (models is None or model in models)
        and (not where.nodes or view.name in where.nodes)
        and (not where.cpu_models or view.facts.cpu_model in where.cpu_models)
    )


def moments_of(found: StartRange, now: datetime) -> Start:
    """The range as moments, rounded outward to the minute."""
    low = now + timedelta(seconds=found.low)
    high = now + timedelta(seconds=found.high) + _MINUTE
    whole = {"second": 0, "microsecond": 0}
    return Start(low=low.replace(**whole), high=high.replace(**whole))  # type: ignore[arg-type]  # fields by name


def _learned(widening: Widening, one: Forecast, at: int) -> Widening:
    return widening.learned(is_early=at < one.low, is_late=at > one.high)


def _is_usable(view: NodeView) -> bool:
    return (
        view.state is NodeState.READY
        and view.facts is not None
        and not view.settings.scheduling_disabled
        and view.settings.allows_gpu
    )


def _has_run(board: Board, key: int) -> bool:
    """Whether any container of a workload was ever placed, removed ones too."""
    replicas = board.replicas.get(WorkloadId(key), {})
    return any(board.containers[one].attempt for one in list(replicas.values()))


def _still_waits(workloads: dict[WorkloadId, Workload], key: int) -> bool:
    workload = workloads.get(WorkloadId(key))
    return workload is not None and workload.ended_at is None
