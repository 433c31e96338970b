"""The scheduling cycle: snapshot, order, place, commit, launch, make way.

One pass over the whole queue. Decides through pure functions only and touches no node
itself.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import numpy as np

from dorabatch import log
from dorabatch.daemon.billing.gate import Gate, credit_gate
from dorabatch.daemon.commit import Committed, PlanCommitter
from dorabatch.daemon.ends import take_times
from dorabatch.daemon.keeper import Keepers
from dorabatch.daemon.lane.ground import Lane, Scene, take_lane
from dorabatch.daemon.lane.moves import move_trials
from dorabatch.daemon.lane.picks import pick
from dorabatch.daemon.lane.trials import begin_trials
from dorabatch.daemon.order.ranking import notice_returns, rank_pending
from dorabatch.daemon.plan_words import reserved_words, worded
from dorabatch.daemon.preemption import (
    give_way,
    keep_for_claimants,
    running_now,
    scavengers_of,
)
from dorabatch.daemon.services import LastPlan, Services
from dorabatch.daemon.snapshot import Snapshot, take_snapshot
from dorabatch.daemon.steps import Step
from dorabatch.placer.arrays import Plan, Reservation
from dorabatch.placer.choice import Choice, choices
from dorabatch.placer.policy import PlacementPolicy
from dorabatch.placer.preempt import choose_victims
from dorabatch.placer.reserved import Times, place_reserved
from dorabatch.queue.demand import IntArray
from dorabatch.units import microseconds_of


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
    snapshot = take_snapshot(
        services.board, services.fleet.views(), services.known_nodes
    )
    scavengers = scavengers_of(services, snapshot)
    lane = take_lane(services, snapshot, scavengers)
    gate, turn = _gate(services, snapshot, lane, now)
    times = _times(services, snapshot, gate.order, now)
    policy = placement_policy(services)
    snapshot, requests = keep_for_claimants(snapshot, gate, scavengers)
    plan = place_reserved(
        requests, snapshot.cluster, times, policy, memory=services.plan_memory
    )
    scene = Scene(
        lane=lane,
        snapshot=snapshot,
        requests=requests,
        gate=gate,
        times=times,
        turn=turn,
    )
    picks = pick(scene, plan)
    move_trials(services, keepers, scene, picks)
    trials = begin_trials(scene, picks, policy)
    plan = trials.behind(picks.plan)
    told = choices(requests, snapshot.cluster, plan.placements)
    committed = _commit(services, snapshot, plan, told, trials.seconds)
    for container in committed.placed:
        keepers.launch(container)
    running = running_now(snapshot, times.ends, scavengers)
    chosen = choose_victims(requests, gate.paid, snapshot.cluster, plan, running)
    give_way(services, keepers, chosen)
    seconds = services.clock.monotonic() - began
    reserved = reserved_words(plan, snapshot.cluster.names, now)
    services.last_plan = LastPlan(
        plan=worded(plan, reserved),
        snapshot=snapshot,
        reserved=reserved,
        seconds=seconds,
        cycles=services.last_plan.cycles + 1,
        held={**gate.held, **committed.refused},
    )
    if committed.refused:
        # What credit refused took places that others may have.
        services.cycle_wanted.set()
    return CycleResult(
        pending=len(snapshot.pending),
        placed=len(committed.placed),
        stale=committed.stale,
        seconds=seconds,
    )


def placement_policy(services: Services) -> PlacementPolicy:
    """The placer's policy of this cycle; Random differs from cycle to cycle."""
    cycle = services.settings.cycle
    return PlacementPolicy(
        name=cycle.placement_policy,
        seed=cycle.seed + services.last_plan.cycles,
        reservations=cycle.reservations,
    )


def _times(
    services: Services, snapshot: Snapshot, order: IntArray, now: datetime
) -> Times:
    """Planned ends by what the users ran before, at most their time limits."""
    pending, held = snapshot.pending, snapshot.held
    waiting = services.claims.columns(pending.claims)
    running = services.held_claims.columns(held.claims)
    return take_times(
        snapshot,
        order,
        microseconds_of(now),
        kept=_kept(services),
        waiting_run_us=waiting.planned_us[pending.claim],
        held_run_us=running.planned_us[held.claim],
    )


def _kept(services: Services) -> tuple[Reservation, ...]:
    """The last cycle's reservations, on the rows their nodes have now."""
    last, row_of = services.last_plan, services.known_nodes.row_of
    if last.plan is None or last.snapshot is None:
        return ()
    names = last.snapshot.cluster.names
    return tuple(
        replace(one, node=row_of.get(names[one.node], -1))
        for one in last.plan.reservations
    )


def notice_silence(services: Services) -> None:
    """Nodes not heard of for too long get nothing new."""
    patience = timedelta(seconds=services.settings.node.unreachable_after_seconds)
    for name in services.fleet.silent(services.clock.now(), patience):
        log.warning("node-silent", node=name)


def _gate(
    services: Services, snapshot: Snapshot, lane: Lane, now: datetime
) -> tuple[Gate, IntArray]:
    """What credit lets start, and the turn of each waiting row and then each trial."""
    notice_returns(services, now)
    beside = [one.container for one in lane.trials]
    ranked = rank_pending(services, snapshot.pending, now, beside=beside)
    order = ranked.ranking.order
    turn = np.empty_like(order)
    turn[order] = np.arange(len(order))
    order = order[order < len(snapshot.pending)]
    is_ready = snapshot.pending.ready_us[order] <= microseconds_of(now)
    gate = credit_gate(
        services.credits,
        services.billing,
        services.board,
        snapshot.pending,
        order[is_ready],
        now,
    )
    return gate, turn


def _commit(
    services: Services,
    snapshot: Snapshot,
    plan: Plan,
    told: tuple[Choice, ...],
    trials: Mapping[int, int],
) -> Committed:
    if not plan.placements:
        return Committed(placed=(), stale=0, refused={})
    committer = PlanCommitter(services.board, snapshot, services.billing, told, trials)
    now = services.clock.now()
    committed = services.writer.do(lambda tx: committer.commit(tx, plan, now))
    services.steps.reach(Step.PLACE_COMMITTED)
    return committed
