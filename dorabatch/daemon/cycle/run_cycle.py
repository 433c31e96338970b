"""The scheduling cycle: look, decide, carry out, tell.

One pass over the whole queue: `planner` looks and decides, `carry_out` acts, and what
came of it is published for those who ask why. Decides nothing and touches no node.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from dorabatch import log
from dorabatch.clock import Clock
from dorabatch.config import NodeSettings
from dorabatch.daemon.cycle.carry_out import CarryOut
from dorabatch.daemon.cycle.commit import Committed
from dorabatch.daemon.cycle.decision import Decision
from dorabatch.daemon.cycle.gates.credit_gate import OUT_OF_CREDIT
from dorabatch.daemon.cycle.plan_words import reserved_words, worded
from dorabatch.daemon.cycle.planner import Planner, Returns
from dorabatch.daemon.cycle.scene import Scene
from dorabatch.daemon.state.avoided_nodes import AvoidedNodes
from dorabatch.daemon.state.fleet import Fleet
from dorabatch.daemon.state.last_plan import LastPlan, LatestPlan
from dorabatch.daemon.state.wait_reason import WaitReason
from dorabatch.queue.board import Board
from dorabatch.queue.states import State

_NOT_STARTED = (State.PLACED, State.STARTING)


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeWatch:
    """What passing time makes of the nodes, before a cycle plans with them."""

    fleet: Fleet
    avoided: AvoidedNodes
    board: Board
    clock: Clock
    settings: NodeSettings

    def notice(self) -> None:
        """Mark those that do not answer; offer those that may be tried again."""
        now = self.clock.now()
        patience = timedelta(seconds=self.settings.unreachable_after_seconds)
        for name in self.fleet.silent(now, patience):
            log.warning("node-silent", node=name)
        if self.avoided.known:
            self.avoided.look(now)
        for view in self.fleet.views():
            if view.refusal is not None:
                is_due = view.refusal.try_at <= now
                self.fleet.offer(view.name, is_due and not self._is_tried(view.name))

    def _is_tried(self, node: str) -> bool:
        """Whether something is being started there already."""
        return any(one.state in _NOT_STARTED for one in self.board.on_node(node))


@dataclass(frozen=True, slots=True, kw_only=True)
class CycleResult:
    """What a cycle did."""

    pending: int
    placed: int
    stale: int
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Cycle:
    """Runs one cycle after the other, in one thread."""

    clock: Clock
    node_watch: NodeWatch
    returns: Returns
    planner: Planner
    hands: CarryOut
    latest: LatestPlan

    def run(self) -> CycleResult:
        """Plan the whole queue once and start what found a place."""
        began = self.clock.monotonic()
        self.node_watch.notice()
        now = self.clock.now()
        snapshot = self.planner.snapshot()
        self.returns.notice(now)
        scene = self.planner.scene(snapshot, now)
        decision = self.planner.decide(scene)
        committed = self.hands.carry_out(scene, decision)
        seconds = self.clock.monotonic() - began
        cycles = self.latest.last.cycles + 1
        told = told_plan(scene, decision, committed, now)
        self.latest.publish(replace(told, seconds=seconds, cycles=cycles))
        return CycleResult(
            pending=len(scene.snapshot.pending),
            placed=len(committed.placed),
            stale=committed.stale,
            seconds=seconds,
        )


def told_plan(
    scene: Scene, decision: Decision, committed: Committed, now: datetime
) -> LastPlan:
    """The plan in words, for those who ask why and for the next cycle."""
    plan, snapshot = decision.plan, scene.snapshot
    reserved = reserved_words(plan, snapshot.cluster.names, now)
    refused = {
        key: WaitReason(OUT_OF_CREDIT, sentence)
        for key, sentence in committed.refused.items()
    }
    return LastPlan(
        plan=worded(plan, reserved),
        snapshot=snapshot,
        reserved=reserved,
        waits={**scene.asking.waits, **refused},
        silent={
            view.name: view.silent_since
            for view in snapshot.nodes
            if view.silent_since is not None
        },
    )
