"""Carries out in memory what a cycle decides: the what-if's side of `cycle.carry_out`.

Starts, stops and ends containers of a play, at once and without a node. Decides
nothing.
"""

from dataclasses import dataclass
from datetime import datetime

import numpy as np

from dorabatch.daemon.cycle.decision import Decision
from dorabatch.daemon.cycle.lane_state import is_live_trial
from dorabatch.daemon.cycle.planner import LaneCount, Planner, capacity_rate
from dorabatch.daemon.cycle.scene import Scene
from dorabatch.daemon.state.fleet import Fleet
from dorabatch.daemon.state.last_plan import LastPlan, LatestPlan
from dorabatch.daemon.state.snapshot import Snapshot
from dorabatch.daemon.state.usage_book import UsageBook
from dorabatch.daemon.whatif.simulated_credit import SimulatedCredit
from dorabatch.daemon.whatif.simulated_runs import SimulatedRuns
from dorabatch.placer.arrays.classes import classes_of
from dorabatch.placer.arrays.free_room import FreeRoom, ask_of_class
from dorabatch.queue import transitions as to
from dorabatch.queue.demand import IntArray
from dorabatch.queue.records import Container, ContainerId
from dorabatch.queue.states import LIVE, AfterStop, Outcome


@dataclass(frozen=True, slots=True, kw_only=True)
class Moves:
    """What a cycle changed: who started, who became ordinary, who waits again."""

    started: tuple[Container, ...]
    going_on: tuple[Container, ...]
    stopped: tuple[Container, ...]


class SimulatedReturns:
    """Notices who came back, as the daemon's cycle does, in memory only."""

    def __init__(self, usage: UsageBook, fleet: Fleet) -> None:
        self._usage = usage
        self._fleet = fleet

    def notice(self, now: datetime) -> None:
        """Cap what those who came back are ahead by; once for each return."""
        usage = self._usage
        if usage.has_news():
            rate = capacity_rate(usage, self._fleet, now)
            usage.apply(usage.joined(now, rate, usage.in_memory())[1])


class SimulatedCycle:
    """A site as the cycles of a play change it."""

    def __init__(
        self,
        planner: Planner,
        lane: LaneCount,
        returns: SimulatedReturns,
        runs: SimulatedRuns,
        purse: SimulatedCredit,
        latest: LatestPlan,
    ) -> None:
        self._planner = planner
        self._lane = lane
        self._returns = returns
        self.runs = runs
        self.purse = purse
        self._latest = latest
        self._on_trial: set[ContainerId] = set()

    @property
    def has_work(self) -> bool:
        """Whether anything waits or is on trial."""
        return self.runs.has_waiting or bool(self._on_trial)

    def glance(self, now: datetime) -> Snapshot:
        """The site as arrays, whoever came back noticed."""
        self.purse.restore(now)
        self._returns.notice(now)
        return self._planner.snapshot()

    def may_change(self, snapshot: Snapshot, new: set[int] | None) -> bool:
        """Whether a cycle could do anything at all.

        It cannot where nothing that waits fits a node, no trial runs, and nothing runs
        free that could give way. Where only `new` containers came since the last cycle
        (None: other things happened too), whatever else waits stays as it was left.
        """
        if self.purse.has_scavengers:
            return True
        if self._on_trial and (new is None or self._asks_for_lane(snapshot, new)):
            return True
        rows = np.arange(len(snapshot.pending))
        if new is not None:
            rows = rows[np.isin(snapshot.pending.key, list(new))]
        return _has_room(snapshot, rows)

    def cycle(self, snapshot: Snapshot, now: datetime) -> Moves:
        """One pass of the daemon over the queue."""
        scene = self._planner.scene(snapshot, now)
        self.purse.note_short(scene)
        decision = self._planner.decide(scene)
        moves = self._carry_out(scene, decision, now)
        self._latest.publish(
            LastPlan(
                plan=decision.plan,
                snapshot=scene.snapshot,
                cycles=self._latest.last.cycles + 1,
            )
        )
        for one in (*moves.stopped, *moves.going_on):
            self._on_trial.discard(one.container_id)
        for one in moves.started:
            if one.trial_seconds is not None:
                self._on_trial.add(one.container_id)
        return moves

    def finish(self, key: ContainerId, outcome: Outcome, now: datetime) -> float:
        """A run ends by itself; what it cost, in credits."""
        self._on_trial.discard(key)
        return self.runs.finish(key, outcome, now)

    def _asks_for_lane(self, snapshot: Snapshot, new: set[int]) -> bool:
        """Whether something new is larger than all GPUs beside the lane."""
        none = np.zeros(len(snapshot.held), dtype=np.bool_)
        main = self._lane.take(snapshot, none).main
        pending = snapshot.pending
        asked = pending.gpu_count[np.isin(pending.key, list(new))]
        return bool((asked > main).any())

    def _carry_out(self, scene: Scene, decision: Decision, now: datetime) -> Moves:
        runs, stopped = self.runs, []
        for stop in decision.stops:
            one = runs.get(stop.key)
            if is_live_trial(one):
                after = to.trial_stopped(
                    one, stop.reason, has_outlived=stop.has_outlived
                )
                stopped.append(runs.requeue(after, now))
        going_on = [to.promoted(one.container) for one in decision.going_on]
        runs.apply(going_on)
        started = runs.start(
            scene, decision.plan.placements, dict(decision.trial_seconds), now
        )
        for victim in decision.victims:
            one = runs.get(ContainerId(victim.key))
            if one.state in LIVE and self.purse.is_scavenger(one):
                after = to.stopping(one, AfterStop.REQUEUE, None, "preempted")
                stopped.append(runs.requeue(after, now))
        return Moves(started=started, going_on=tuple(going_on), stopped=tuple(stopped))


def _has_room(snapshot: Snapshot, rows: IntArray) -> bool:
    """Whether any of these waiting rows fits some node now, each for itself."""
    if len(rows) == 0:
        return False
    cluster = snapshot.cluster
    classes, room = classes_of(snapshot.requests(rows)), FreeRoom(cluster)
    return any(
        bool(room.fits(ask_of_class(classes, index, cluster)).any())
        for index in range(len(classes))
    )
