"""The scheduling cycle: look, decide, carry out.

One pass over the whole queue. What is decided is `decision.decide`'s; this writes it
down, starts and stops. Touches no node itself.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial

from dorabatch import log
from dorabatch.daemon.cycle.commit import Committed, PlanCommitter, parts
from dorabatch.daemon.cycle.decision import Decision, decide
from dorabatch.daemon.cycle.lane.moves import move_trials
from dorabatch.daemon.cycle.look import look, placement_policy, snapshot_of
from dorabatch.daemon.cycle.plan_words import reserved_words, worded
from dorabatch.daemon.cycle.preemption import give_way
from dorabatch.daemon.cycle.returns import notice_returns
from dorabatch.daemon.cycle.scene import Scene
from dorabatch.daemon.runs.node_keeper import Keepers
from dorabatch.daemon.state.books import LastPlan
from dorabatch.daemon.state.services import Services
from dorabatch.daemon.steps import Step
from dorabatch.placer.explain.why_here import choices


@dataclass(frozen=True, slots=True, kw_only=True)
class CycleResult:
    """What a cycle did."""

    pending: int
    placed: int
    stale: int
    seconds: float


def run_cycle(services: Services, keepers: Keepers) -> CycleResult:
    """Plan the whole queue once and start what found a place."""
    began = services.clock.monotonic()
    notice_silence(services)
    now = services.clock.now()
    snapshot = snapshot_of(services)
    notice_returns(services, now)
    scene = look(services, snapshot, now)
    decision = decide(scene, placement_policy(services), services.plan_memory)
    committed = _carry_out(services, keepers, scene, decision)
    seconds = services.clock.monotonic() - began
    _remember(services, scene, decision, committed, seconds, now)
    if committed.refused:
        # What credit refused took places that others may have.
        services.cycle_wanted.set()
    return CycleResult(
        pending=len(scene.snapshot.pending),
        placed=len(committed.placed),
        stale=committed.stale,
        seconds=seconds,
    )


def notice_silence(services: Services) -> None:
    """Nodes not heard of for too long get nothing new."""
    patience = timedelta(seconds=services.settings.node.unreachable_after_seconds)
    for name in services.fleet.silent(services.clock.now(), patience):
        log.warning("node-silent", node=name)


def _carry_out(
    services: Services, keepers: Keepers, scene: Scene, decision: Decision
) -> Committed:
    move_trials(services, keepers, decision.stops, decision.going_on)
    committed = _commit(services, keepers, scene, decision)
    give_way(services, keepers, decision.victims)
    return committed


def _commit(
    services: Services, keepers: Keepers, scene: Scene, decision: Decision
) -> Committed:
    """Write the placements down, part by part; each part starts at once."""
    plan, snapshot = decision.plan, scene.snapshot
    committed = Committed()
    if not plan.placements:
        return committed
    told = choices(scene.requests, snapshot.cluster, plan.placements)
    committer = PlanCommitter(
        services.board,
        snapshot,
        services.fleet,
        services.billing,
        told,
        decision.trial_seconds,
    )
    now = services.clock.now()
    for part in parts(plan.placements, scene.requests):
        write = partial(committer.commit, placements=part, now=now)
        done = services.writer.do(write)
        services.steps.reach(Step.PLACE_COMMITTED)
        for container in done.placed:
            keepers.launch(container)
        committed = committed.and_then(done)
    return committed


def _remember(
    services: Services,
    scene: Scene,
    decision: Decision,
    committed: Committed,
    seconds: float,
    now: datetime,
) -> None:
    """Keep the plan, in words, for those who ask why and for the next cycle."""
    plan, snapshot = decision.plan, scene.snapshot
    reserved = reserved_words(plan, snapshot.cluster.names, now)
    services.last_plan = LastPlan(
        plan=worded(plan, reserved),
        snapshot=snapshot,
        reserved=reserved,
        seconds=seconds,
        cycles=services.last_plan.cycles + 1,
        held={**scene.gate.held, **committed.refused},
    )
