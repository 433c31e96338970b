"""The steps of a cycle up to its decision: a snapshot, a look at the books, a decision.

Gathers what each step needs: who runs free, the lane counted, the order, what the gates
let pass, when what runs is expected to end. The daemon's cycle and the what-if plan
with it alike. Starts and stops nothing; all that it writes is the cap on the use of
those who came back (`Returns`).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

import numpy as np

from dorabatch.config import CycleSettings
from dorabatch.daemon.cycle.decision import Decision, decide
from dorabatch.daemon.cycle.gates.chain import Asking, GateChain, GateScene
from dorabatch.daemon.cycle.lane_state import (
    NOT_USED,
    Lane,
    OnTrial,
    is_live_trial,
    seconds_of,
)
from dorabatch.daemon.cycle.queue_order import QueueOrder
from dorabatch.daemon.cycle.scene import Scene, scene_of
from dorabatch.daemon.cycle.take_snapshot import take_snapshot
from dorabatch.daemon.state.avoided_nodes import AvoidedNodes
from dorabatch.daemon.state.claim_book import ClaimBook
from dorabatch.daemon.state.credit_book import CreditBook
from dorabatch.daemon.state.fleet import Fleet
from dorabatch.daemon.state.last_plan import LatestPlan
from dorabatch.daemon.state.site_policy import SitePolicy
from dorabatch.daemon.state.snapshot import NodeArrays, Snapshot, model_counts
from dorabatch.daemon.state.usage_book import UsageBook
from dorabatch.db import Writer
from dorabatch.placer.arrays.free_room import Ends
from dorabatch.placer.arrays.types import UNKNOWN_US, BoolArray, IntArray, Reservation
from dorabatch.placer.plan.no_room import NoRoomMemory
from dorabatch.placer.plan.placement_policy import PlacementPolicy
from dorabatch.placer.time.reserved import Times
from dorabatch.queue.board import Board
from dorabatch.queue.demand import Claim
from dorabatch.queue.records import ContainerId
from dorabatch.units import microseconds_of


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneCount:
    """Counts the lane by the site's rule for it."""

    board: Board
    policy: SitePolicy
    held_claims: ClaimBook

    def take(self, snapshot: Snapshot, is_free: BoolArray) -> Lane:
        """Count what holds GPUs; `is_free[held]` runs free."""
        cluster, held = snapshot.cluster, snapshot.held
        usable = cluster.ready & cluster.enabled & cluster.allows_gpu
        is_used = snapshot.held_node >= 0
        is_used[is_used] = usable[snapshot.held_node[is_used]]
        lengths = np.array([len(names) for names in held.model_sets], dtype=np.int64)
        gpus = np.where(is_used & (held.device == 0), lengths[held.models], 0)
        total = int(cluster.gpus_total[usable].sum())
        on_trial = held.trial_us > 0
        trial_gpus = int(gpus[on_trial].sum())
        return Lane(
            rule=self.policy.settings.lane,
            capacity=total,
            used=total - int(cluster.gpus_free[usable].sum()) - trial_gpus,
            free_used=int(gpus[is_free & ~on_trial].sum()),
            on_trial=trial_gpus,
            trials=self._trials(snapshot, gpus, is_used),
            gpus=gpus,
        )

    def _trials(
        self, snapshot: Snapshot, gpus: IntArray, is_used: BoolArray
    ) -> tuple[OnTrial, ...]:
        held, known = snapshot.held, self.board.containers
        rows = np.flatnonzero((held.trial_us > 0) & (held.stopping == 0))
        if len(rows) == 0:
            return ()
        claims = self.held_claims.columns(held.claims)
        planned = seconds_of(claims.planned_us[held.claim])
        found = []
        for row in rows.tolist():
            container = known.get(ContainerId(int(held.key[row])))
            # It may have changed since the snapshot was taken.
            if container is not None and is_live_trial(container):
                node = int(snapshot.held_node[row]) if is_used[row] else NOT_USED
                one = OnTrial(
                    container=container,
                    user=held.claims[held.claim[row]].user,
                    node=node,
                    gpus=int(gpus[row]),
                    planned=float(planned[row]),
                )
                found.append(one)
        return tuple(found)


_MICROSECONDS = 1_000_000


def take_times(
    snapshot: Snapshot,
    order: IntArray,
    now_us: int,
    *,
    kept: tuple[Reservation, ...] = (),
    waiting_run_us: IntArray | None = None,
    held_run_us: IntArray | None = None,
) -> Times:
    """Planned ends of the snapshot's rows; requests in the order given.

    waiting_run_us[pending], held_run_us[held]: expected lengths of whole runs in
    microseconds, UNKNOWN_US where nobody knows. Without them the time limits count.
    What runs as long as expected already is expected to run as long again, at most to
    its limit. Trials are expected to end with their time.
    """
    pending, held = snapshot.pending, snapshot.held
    limit_us = _limits(held.claims)[held.claim]
    if waiting_run_us is None:
        waiting_run_us = _limits(pending.claims)[pending.claim]
    if held_run_us is None:
        held_run_us = limit_us
    # A trial goes on past its time only when it has its turn.
    on_trial = held.trial_us > 0
    limit_us = np.where(on_trial, held.trial_us, limit_us)
    held_run_us = np.where(on_trial, held.trial_us, held_run_us)
    return Times(
        now_us=now_us,
        ends=_ends(snapshot, now_us, held_run_us, limit_us),
        planned_end_us=_after(np.int64(now_us), waiting_run_us[order]),
        kept=kept,
    )


def _limits(claims: Sequence[Claim]) -> IntArray:
    """The time limit of each claim."""
    limits = [claim.run_seconds_max * _MICROSECONDS for claim in claims]
    return np.array([limit or UNKNOWN_US for limit in limits], dtype=np.int64)


def _after(start: IntArray | np.int64, run_us: IntArray) -> IntArray:
    """start + run, where the run's length is known."""
    known = run_us < UNKNOWN_US
    return np.where(known, start + np.where(known, run_us, 0), UNKNOWN_US)


def _ends(
    snapshot: Snapshot, now_us: int, run_us: IntArray, limit_us: IntArray
) -> Ends:
    held, models = snapshot.held, snapshot.cluster.models
    start = np.where(held.started_us > 0, held.started_us, now_us)
    ran = now_us - start
    run_us = np.where(ran < run_us, run_us, np.minimum(2 * ran, limit_us))
    # What is overdue or stopping goes any moment now.
    end = np.maximum(_after(start, run_us), now_us)
    end[held.stopping == 1] = now_us
    counts = model_counts(held.model_sets, models)[held.models]
    counts[held.device > 0] = 0
    places = [
        snapshot.shared.slot_of.get(device, (-1, -1, -1)) for device in held.devices
    ]
    slot = np.array(places, dtype=np.int64).reshape(-1, 3)[held.device]
    here = np.flatnonzero(snapshot.held_node >= 0)
    ends = Ends(
        node=snapshot.held_node,
        gpus=counts,
        cpu_milli=held.cpu_milli,
        memory_mib=held.memory_mib,
        end_us=end,
        share_model=slot[:, 1],
        share_slot=slot[:, 2],
        share_milli=np.where(held.device > 0, held.gpu_milli, 0),
    )
    return ends.take(here)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpectedEnds:
    """The placer's view of time in a cycle."""

    claims: ClaimBook
    held_claims: ClaimBook
    latest: LatestPlan
    node_arrays: NodeArrays

    def times(self, snapshot: Snapshot, order: IntArray, now: datetime) -> Times:
        """Planned ends of what is held, and of the waiting rows `order` names."""
        pending, held = snapshot.pending, snapshot.held
        waiting = self.claims.columns(pending.claims)
        running = self.held_claims.columns(held.claims)
        return take_times(
            snapshot,
            order,
            microseconds_of(now),
            kept=self._kept(),
            waiting_run_us=waiting.planned_us[pending.claim],
            held_run_us=running.planned_us[held.claim],
        )

    def _kept(self) -> tuple[Reservation, ...]:
        """The last cycle's reservations, on the rows their nodes have now."""
        last, row_of = self.latest.last, self.node_arrays.row_of
        if last.plan is None or last.snapshot is None:
            return ()
        names = last.snapshot.cluster.names
        return tuple(
            replace(one, node=row_of.get(names[one.node], -1))
            for one in last.plan.reservations
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class FreeRuns:
    """The scavengers of a zone."""

    credits: CreditBook
    board: Board

    def among(self, snapshot: Snapshot) -> BoolArray:
        """is_free[held]: runs free because credit is used up, or did and stops now."""
        desk, known = self.credits, self.board.containers
        keys = snapshot.held.key.tolist()
        if not desk.has_scavengers():
            return np.zeros(len(keys), dtype=bool)
        held = (known.get(ContainerId(key)) for key in keys)
        return np.array([one is not None and desk.is_scavenger(one) for one in held])


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """Everything that a cycle looks at beside its snapshot."""

    free_runs: FreeRuns
    lane: LaneCount
    order: QueueOrder
    gates: GateChain
    ends: ExpectedEnds

    def scene(self, snapshot: Snapshot, now: datetime) -> Scene:
        """All that a cycle decides on; who came back has been noticed before."""
        is_free = self.free_runs.among(snapshot)
        lane = self.lane.take(snapshot, is_free)
        order, turn = self.turns(snapshot, lane, now)
        asking = self.asking(snapshot, order, now)
        times = self.ends.times(snapshot, asking.order, now)
        return scene_of(snapshot, lane, asking, times, turn=turn, is_free=is_free)

    def turns(
        self, snapshot: Snapshot, lane: Lane, now: datetime
    ) -> tuple[IntArray, IntArray]:
        """(waiting rows best first, the turn of each waiting row and each trial)."""
        beside = [one.container for one in lane.trials]
        order = self.order.rank(snapshot.pending, now, beside=beside).ranking.order
        turn = np.empty_like(order)
        turn[order] = np.arange(len(order))
        return order[order < len(snapshot.pending)], turn

    def asking(self, snapshot: Snapshot, order: IntArray, now: datetime) -> Asking:
        """What passes the gates, in this order."""
        return self.gates.asking(GateScene(snapshot=snapshot, rows=order, now=now))


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshots:
    """Takes the board and the fleet as arrays; for the cycle's thread only."""

    board: Board
    fleet: Fleet
    node_arrays: NodeArrays
    avoided: AvoidedNodes

    def take(self) -> Snapshot:
        """As they are now; what is known of the nodes from before spares work."""
        views, known = self.fleet.views(), self.node_arrays
        return take_snapshot(self.board, views, known, self.avoided.now)


@dataclass(frozen=True, slots=True, kw_only=True)
class Planner:
    """Plans a whole queue; each of its methods is one step of a cycle."""

    snapshots: Snapshots
    look: Look
    settings: CycleSettings
    latest: LatestPlan
    no_room: NoRoomMemory

    def snapshot(self) -> Snapshot:
        """The board and the fleet as arrays."""
        return self.snapshots.take()

    def scene(self, snapshot: Snapshot, now: datetime) -> Scene:
        """All that is decided on."""
        return self.look.scene(snapshot, now)

    def decide(self, scene: Scene) -> Decision:
        """What is to be done."""
        return decide(scene, self._policy(), self.no_room)

    def _policy(self) -> PlacementPolicy:
        """The placer's policy of this cycle; Random differs from cycle to cycle."""
        return PlacementPolicy(
            name=self.settings.placement_policy,
            seed=self.settings.seed + self.latest.last.cycles,
            reservations=self.settings.reservations,
        )


MILLI = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Returns:
    """Those who had nothing in the queue for a while."""

    usage: UsageBook
    fleet: Fleet
    writer: Writer

    def notice(self, now: datetime) -> None:
        """Cap what those who came back are ahead by; once for each return."""
        if not self.usage.has_news():
            return
        rate = capacity_rate(self.usage, self.fleet, now)
        self.writer.do(lambda tx: self.usage.join(tx, now, rate))


def capacity_rate(usage: UsageBook, fleet: Fleet, now: datetime) -> float:
    """All GPUs of the zone in thousandths, each counted at its weight."""
    return MILLI * sum(
        usage.weight(gpu.model, now)
        for view in fleet.views()
        if view.facts is not None
        for gpu in view.facts.gpus
    )
