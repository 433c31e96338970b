"""When what waits will start, as a range, by what users ran before.

Reads the latest plan and the history; records and checks no forecast.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np

from dorabatch.daemon.cycle.gates.credit_gate import OUT_OF_CREDIT
from dorabatch.daemon.cycle.gates.dependency_gate import (
    DEPENDENCY,
    DEPENDENCY_NEVER,
)
from dorabatch.daemon.cycle.gates.held_gate import HELD
from dorabatch.daemon.cycle.gates.limit_gate import LIMIT
from dorabatch.daemon.cycle.gates.ready_gate import REGISTRY
from dorabatch.daemon.state.claim_book import RunHistory
from dorabatch.daemon.state.fleet import Fleet
from dorabatch.daemon.state.last_plan import LatestPlan
from dorabatch.daemon.state.node_view import NodeView
from dorabatch.daemon.state.start_forecasts import Start, StartForecasts
from dorabatch.fairshare.turn.start_forecast import (
    SAMPLES,
    Held,
    Line,
    Machine,
    StartRange,
    forecast,
    machine_of,
    sample_parts,
)
from dorabatch.queue.board import Board
from dorabatch.queue.demand import IntArray, PendingArrays
from dorabatch.queue.records import Container, Workload

ROWS_MAX = 1500
"""Waiting containers that are looked at, the first ones; who is behind has none."""
_MINUTE = timedelta(minutes=1)
_NO_START = {
    OUT_OF_CREDIT: "waits for credit",
    HELD: "is held",
    LIMIT: "waits for a limit of use",
    DEPENDENCY: "waits for other workloads",
    DEPENDENCY_NEVER: "waits for what will never be",
    REGISTRY: "waits for a registry",
}
"""Reasons to wait whose end nobody can tell."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpectedStarts:
    """When what waits in one zone will start."""

    board: Board
    fleet: Fleet
    history: RunHistory
    latest: LatestPlan
    forecasts: StartForecasts

    def of(
        self, pending: PendingArrays, order: IntArray, now: datetime
    ) -> dict[int, Start]:
        """Start ranges of the first workloads of an order, by workload."""
        places = [
            (view, model)
            for view in self.fleet.views()
            if _is_usable(view)
            for model in sorted({gpu.model for gpu in view.facts.gpus})  # type: ignore[union-attr]  # usable nodes have facts
        ]
        # What somebody has to let start has no start yet, and delays nobody.
        waits = self.latest.last.waits
        kept = [key for key, why in waits.items() if why.code in _NO_START]
        may_start = ~np.isin(pending.key[order], kept)
        rows = order[(pending.gpu_count[order] > 0) & may_start][:ROWS_MAX]
        if not places or len(rows) == 0:
            return {}
        machine = self._machine(places, now)
        line = self._line(places, pending, rows)
        found = forecast(machine, line, seed=int(pending.key[rows[0]]))
        applied = self.forecasts.last.widening.applied
        return {key: moments_of(applied(one), now) for key, one in found.items()}

    def lines(self, workload: Workload) -> list[str]:
        """What dstat --why says of a waiting workload's start."""
        told = self.forecasts.last
        start = told.starts.get(workload.workload_id)
        replicas = self.board.replicas[workload.workload_id].values()
        waits = self.latest.last.waits
        codes = {waits[one].code for one in list(replicas) if one in waits}
        for code, words in _NO_START.items():
            if code in codes:
                return [f"  start: no forecast while it {words}"]
        if start is None:
            return [
                "  start: no forecast (it is made every 30 s for what asks for GPUs)"
            ]
        return [f"  start: {start.text()}, P10 to P90; {told.record}"]

    def _machine(
        self, places: Sequence[tuple[NodeView, str]], now: datetime
    ) -> Machine:
        slots: dict[tuple[str, str], tuple[int, int]] = {}
        counts = []
        for number, (view, model) in enumerate(places):
            assert view.facts is not None
            uuids = [gpu.uuid for gpu in view.facts.gpus if gpu.model == model]
            slots |= {(view.name, uuid): (number, at) for at, uuid in enumerate(uuids)}
            counts.append(len(uuids))
        holds = []
        for name in self.board.nodes_in_use():
            for container in self.board.on_node(name):
                held = container.hold.gpus if container.hold else ()
                here = [slots[name, uuid] for uuid in held if (name, uuid) in slots]
                if here:
                    left = self._left(container, now)
                    holds.append(Held(slots=tuple(here), left=left))
        return machine_of(counts, holds)

    def _left(self, container: Container, now: datetime) -> np.ndarray:
        """Seconds, one a sample, until a container that holds something lets go."""
        if container.ended_at is not None:
            return np.zeros(SAMPLES)
        claim = self.board.claim_of(self.board.workloads[container.workload_id])
        started = container.started_at
        ran = 0.0 if started is None else max(0.0, (now - started).total_seconds())
        runs = self.history.quantiles(claim, sample_parts(), ran=ran)
        return np.maximum(np.array(runs) - ran, 0.0)

    def _line(
        self,
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
            self.history.quantiles(pending.claims[claim], sample_parts())
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


def _is_usable(view: NodeView) -> bool:
    return (
        view.is_ready
        and view.facts is not None
        and not view.settings.scheduling_disabled
        and view.settings.allows_gpu
    )
