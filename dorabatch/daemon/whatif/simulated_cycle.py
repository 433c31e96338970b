"""Carries out in memory what a cycle decides: the what-if's side of `daemon.cycle`.

Submits, starts, stops and ends containers in the books, at once and without a node.
Decides nothing.
"""

from dataclasses import dataclass, replace
from datetime import datetime

import numpy as np

from dorabatch.daemon.cycle.decision import Decision, decide
from dorabatch.daemon.cycle.lane.count import take_lane
from dorabatch.daemon.cycle.lane_state import is_live_trial
from dorabatch.daemon.cycle.look import look, placement_policy, snapshot_of
from dorabatch.daemon.cycle.places import Places
from dorabatch.daemon.cycle.returns import capacity_rate
from dorabatch.daemon.cycle.scene import Scene
from dorabatch.daemon.state.books import Books, LastPlan
from dorabatch.daemon.state.snapshot import Snapshot
from dorabatch.daemon.whatif.simulated_credit import SimulatedCredit
from dorabatch.placer.arrays.classes import classes_of
from dorabatch.placer.arrays.free_room import FreeRoom, ask_of_class
from dorabatch.queue import transitions as to
from dorabatch.queue.demand import IntArray
from dorabatch.queue.records import Container, ContainerId, Workload, WorkloadId
from dorabatch.queue.states import LIVE, AfterStop, Outcome


@dataclass(frozen=True, slots=True, kw_only=True)
class Moves:
    """What a cycle changed: who started, who became ordinary, who waits again."""

    started: tuple[Container, ...]
    going_on: tuple[Container, ...]
    stopped: tuple[Container, ...]


class SimulatedCycle:
    """A site's books as a play changes them."""

    def __init__(self, books: Books, purse: SimulatedCredit) -> None:
        self.books = books
        self.purse = purse
        self._open: dict[WorkloadId, int] = {}
        self._on_trial: set[ContainerId] = set()

    @property
    def has_work(self) -> bool:
        """Whether anything waits or is on trial."""
        return len(self.books.board.pending) > 0 or bool(self._on_trial)

    @property
    def is_busy(self) -> bool:
        """Whether anything runs."""
        return len(self.books.board.held) > 0

    def submit(self, workload: Workload, containers: list[Container]) -> None:
        """Something new waits."""
        self._open[workload.workload_id] = len(containers)
        self._apply([workload, *containers])

    def glance(self, now: datetime) -> Snapshot:
        """The books as arrays, whoever came back noticed."""
        self.purse.restore(now)
        usage = self.books.usage
        if usage.has_news():
            rate = capacity_rate(self.books, now)
            usage.apply(usage.joined(now, rate, usage.in_memory())[1])
        return snapshot_of(self.books)

    def may_change(self, snapshot: Snapshot, new: set[int] | None) -> bool:
        """Whether a cycle could do anything at all.

        It cannot where nothing that waits fits a node, no trial runs, and nothing runs
        free that could give way. Where only `new` containers came since the last cycle
        (None: other things happened too), whatever else waits stays as it was left.
        """
        if self.books.credits.has_scavengers():
            return True
        if self._on_trial and (new is None or self._asks_for_lane(snapshot, new)):
            return True
        rows = np.arange(len(snapshot.pending))
        if new is not None:
            rows = rows[np.isin(snapshot.pending.key, list(new))]
        return _has_room(snapshot, rows)

    def cycle(self, snapshot: Snapshot, now: datetime) -> Moves:
        """One pass of the daemon over the queue."""
        books = self.books
        scene = look(books, snapshot, now)
        self.purse.note_short(scene)
        decision = decide(scene, placement_policy(books), books.plan_memory)
        moves = self._carry_out(scene, decision, now)
        books.last_plan = LastPlan(
            plan=decision.plan,
            snapshot=scene.snapshot,
            cycles=books.last_plan.cycles + 1,
        )
        for one in (*moves.stopped, *moves.going_on):
            self._on_trial.discard(one.container_id)
        for one in moves.started:
            if one.trial_seconds is not None:
                self._on_trial.add(one.container_id)
        return moves

    def finish(self, key: ContainerId, outcome: Outcome, now: datetime) -> float:
        """A run ends by itself; what it cost, in credits."""
        books = self.books
        one = books.board.containers[key]
        stopping = to.stopping(one, AfterStop.FINISH, outcome, "")
        ended = replace(stopping, ended_at=now)
        run = books.usage.past_run(ended, now)
        assert run is not None
        meters = books.credits.meters_of(ended)
        row = books.usage.with_run(run, meters, now, books.usage.in_memory())
        cost = self.purse.settle(ended)
        self._on_trial.discard(key)
        changes: list[object] = [run, to.finished(ended, now)]
        changes += [row] if row is not None else []
        self._open[one.workload_id] -= 1
        if not self._open[one.workload_id]:
            del self._open[one.workload_id]
            workload = books.board.workloads[one.workload_id]
            changes.append(replace(workload, ended_at=now))
        self._apply(changes)
        return cost

    def running(self) -> list[Container]:
        """Every container that holds something."""
        board = self.books.board
        return [one for node in board.nodes_in_use() for one in board.on_node(node)]

    def _asks_for_lane(self, snapshot: Snapshot, new: set[int]) -> bool:
        """Whether something new is larger than all GPUs beside the lane."""
        none = np.zeros(len(snapshot.held), dtype=np.bool_)
        main = take_lane(self.books, snapshot, none).main
        pending = snapshot.pending
        asked = pending.gpu_count[np.isin(pending.key, list(new))]
        return bool((asked > main).any())

    def _carry_out(self, scene: Scene, decision: Decision, now: datetime) -> Moves:
        known = self.books.board.containers
        stopped = []
        for stop in decision.stops:
            if is_live_trial(one := known.get(stop.key)) and one is not None:
                after = to.trial_stopped(
                    one, stop.reason, has_outlived=stop.has_outlived
                )
                stopped.append(self._requeue(after, now))
        going_on = [to.promoted(one.container) for one in decision.going_on]
        self._apply(going_on)
        started = self._start(scene, decision, now)
        for victim in decision.victims:
            one = known[ContainerId(victim.key)]
            if one.state in LIVE and self.books.credits.is_scavenger(one):
                after = to.stopping(one, AfterStop.REQUEUE, None, "preempted")
                stopped.append(self._requeue(after, now))
        return Moves(started=started, going_on=tuple(going_on), stopped=tuple(stopped))

    def _start(
        self, scene: Scene, decision: Decision, now: datetime
    ) -> tuple[Container, ...]:
        places = Places(self.books.board, scene.snapshot, decision.trial_seconds)
        placed = [after for _, after in places.taken(decision.plan.placements)]
        refused = self.purse.admit(placed, now).refused
        started = [
            to.running(to.starting(one), "", now)
            for one in placed
            if one.container_id not in refused
        ]
        self._apply(started)
        return tuple(started)

    def _requeue(self, stopping: Container, now: datetime) -> Container:
        self.purse.forgive(stopping, now)
        waiting = to.requeued(stopping, now)
        self._apply([waiting])
        return waiting

    def _apply(self, changes: list[object] | list[Container]) -> None:
        books = self.books
        for book in (books.board, books.usage, books.history):
            book.apply(changes)


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
