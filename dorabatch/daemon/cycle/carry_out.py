"""Does what a cycle decided: trials end or go on, placements start, free runs yield.

Each part is written under guard of the records as they are then, and what changed is
handed to the nodes' keepers. Decides nothing, and touches no node itself.
"""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial

from dorabatch import log
from dorabatch.clock import Clock
from dorabatch.daemon.cycle.commit import Committed, Committers, parts
from dorabatch.daemon.cycle.decision import Decision
from dorabatch.daemon.cycle.lane_state import OnTrial, is_live_trial
from dorabatch.daemon.cycle.lane_trials import TrialStop
from dorabatch.daemon.cycle.scene import Scene
from dorabatch.daemon.runs.node_keeper import Keepers
from dorabatch.daemon.runs.settle import change_told, stop_to_requeue, stop_trial
from dorabatch.daemon.state.credit_book import CreditBook
from dorabatch.daemon.steps import Step, Steps
from dorabatch.db import Tx, Writer
from dorabatch.placer.explain.why_here import choices
from dorabatch.placer.plan.preempt import Victim
from dorabatch.queue import store
from dorabatch.queue.records import Container, ContainerId
from dorabatch.queue.states import LIVE, State
from dorabatch.queue.transitions import promoted

GOES_ON = "has its turn: goes on as an ordinary run, charged from its start"

_Move = Callable[[Tx, Container], Container]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialMoves:
    """Writes down what becomes of trials, and has the stopped ones ended."""

    writer: Writer
    clock: Clock
    keepers: Keepers

    def move(self, stops: Sequence[TrialStop], going_on: Sequence[OnTrial]) -> None:
        """Let trials go on as ordinary runs, and stop others."""
        now = self.clock.now()
        moves = {one.key: _stopping(one, now) for one in stops}
        moves |= {one.container.container_id: _going_on(now) for one in going_on}
        if not moves:
            return
        for container in self.writer.do(lambda tx: _write(tx, moves)):
            number = f"{container.workload_id}.{container.replica}"
            if container.state is State.STOPPING:
                log.event("trial-stopped", container=number, why=container.reason)
                self.keepers.conclude(container)
            else:
                log.event("trial-goes-on", container=number)


def _write(tx: Tx, moves: dict[ContainerId, _Move]) -> list[Container]:
    changed = []
    for key, move in moves.items():
        container = store.get_container(tx, key)
        if is_live_trial(container):
            changed.append(move(tx, container))
    return changed


def _stopping(one: TrialStop, now: datetime) -> _Move:
    return lambda tx, container: stop_trial(
        tx, container, reason=one.reason, has_outlived=one.has_outlived, now=now
    )


def _going_on(now: datetime) -> _Move:
    return lambda tx, container: change_told(
        tx, container, promoted(container), kind="trial", text=GOES_ON, now=now
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Preemption:
    """Stops runs that are free."""

    credits: CreditBook
    writer: Writer
    clock: Clock
    keepers: Keepers

    def give_way(self, victims: Sequence[Victim]) -> list[Container]:
        """Stop the victims; they are queued again once they are gone."""
        if not victims:
            return []
        now = self.clock.now()
        stopped = self.writer.do(lambda tx: self._stop(tx, victims, now))
        for container in stopped:
            self.keepers.conclude(container)
        log.event("preempted", stopped=len(stopped))
        return stopped

    def _stop(
        self, tx: Tx, victims: Sequence[Victim], now: datetime
    ) -> list[Container]:
        stopped = []
        for one in victims:
            container = store.get_container(tx, ContainerId(one.key))
            # It may have ended since, or be charged again.
            if container.state in LIVE and self.credits.is_scavenger(container):
                reason = (
                    f"preempted for workload {one.claimant} (owner has credit); "
                    "requeued"
                )
                stopped.append(
                    stop_to_requeue(
                        tx, container, kind="preempt", reason=reason, now=now
                    )
                )
        return stopped


@dataclass(frozen=True, slots=True, kw_only=True)
class Starts:
    """Writes placements down, part by part, and has each part started at once."""

    committers: Committers
    writer: Writer
    clock: Clock
    steps: Steps
    keepers: Keepers
    cycle_wanted: threading.Event

    def commit(self, scene: Scene, decision: Decision) -> Committed:
        """Start what found a place; what changed meanwhile is left for later."""
        placements, snapshot = decision.plan.placements, scene.snapshot
        committed = Committed()
        if not placements:
            return committed
        told = choices(scene.requests, snapshot.cluster, placements)
        committer = self.committers.of(snapshot, told, decision.trial_seconds)
        now = self.clock.now()
        for part in parts(placements, scene.requests):
            write = partial(committer.commit, placements=part, now=now)
            done = self.writer.do(write)
            self.steps.reach(Step.PLACE_COMMITTED)
            for container in done.placed:
                self.keepers.launch(container)
            committed = committed.and_then(done)
        if committed.refused:
            # What credit refused took places that others may have.
            self.cycle_wanted.set()
        return committed


@dataclass(frozen=True, slots=True, kw_only=True)
class CarryOut:
    """The hands of the cycle."""

    trials: TrialMoves
    starts: Starts
    preemption: Preemption

    def carry_out(self, scene: Scene, decision: Decision) -> Committed:
        """Do all of a decision, in the order in which it says it."""
        self.trials.move(decision.stops, decision.going_on)
        committed = self.starts.commit(scene, decision)
        self.preemption.give_way(decision.victims)
        return committed
