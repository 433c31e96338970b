"""The books as a cycle finds them: queue in order, credit, planned ends, the lane.

Reads only. What follows from it is decided in `decision`.
"""

from dataclasses import replace
from datetime import datetime

import numpy as np

from dorabatch.daemon.cycle.gates.credit import credit_gate
from dorabatch.daemon.cycle.gates.gate import Gate
from dorabatch.daemon.cycle.lane.count import take_lane
from dorabatch.daemon.cycle.lane_state import Lane
from dorabatch.daemon.cycle.planned_ends import take_times
from dorabatch.daemon.cycle.queue_order import rank_pending
from dorabatch.daemon.cycle.scene import Scene, scene_of
from dorabatch.daemon.cycle.take_snapshot import take_snapshot
from dorabatch.daemon.state.books import Books
from dorabatch.daemon.state.snapshot import Snapshot
from dorabatch.placer.arrays.types import BoolArray, Reservation
from dorabatch.placer.plan.placement_policy import PlacementPolicy
from dorabatch.placer.time.reserved import Times
from dorabatch.queue.demand import IntArray
from dorabatch.queue.records import ContainerId
from dorabatch.units import microseconds_of


def snapshot_of(books: Books) -> Snapshot:
    """The board and the fleet as arrays."""
    return take_snapshot(books.board, books.fleet.views(), books.known_nodes)


def look(books: Books, snapshot: Snapshot, now: datetime) -> Scene:
    """All that a cycle decides on; who came back has been noticed before."""
    is_free = scavengers_of(books, snapshot)
    lane = take_lane(books, snapshot, is_free)
    gate, turn = _gate(books, snapshot, lane, now)
    times = _times(books, snapshot, gate.order, now)
    return scene_of(snapshot, lane, gate, times, turn=turn, is_free=is_free)


def placement_policy(books: Books) -> PlacementPolicy:
    """The placer's policy of this cycle; Random differs from cycle to cycle."""
    cycle = books.settings.cycle
    return PlacementPolicy(
        name=cycle.placement_policy,
        seed=cycle.seed + books.last_plan.cycles,
        reservations=cycle.reservations,
    )


def scavengers_of(books: Books, snapshot: Snapshot) -> BoolArray:
    """is_free[held]: runs free because credit is used up, or did and stops now."""
    desk, known = books.credits, books.board.containers
    keys = snapshot.held.key.tolist()
    if not desk.has_scavengers():
        return np.zeros(len(keys), dtype=bool)
    held = (known.get(ContainerId(key)) for key in keys)
    return np.array([one is not None and desk.is_scavenger(one) for one in held])


def _gate(
    books: Books, snapshot: Snapshot, lane: Lane, now: datetime
) -> tuple[Gate, IntArray]:
    """What credit lets start, and the turn of each waiting row and then each trial."""
    beside = [one.container for one in lane.trials]
    ranked = rank_pending(books, snapshot.pending, now, beside=beside)
    order = ranked.ranking.order
    turn = np.empty_like(order)
    turn[order] = np.arange(len(order))
    order = order[order < len(snapshot.pending)]
    is_ready = snapshot.pending.ready_us[order] <= microseconds_of(now)
    gate = credit_gate(
        books.credits,
        books.billing,
        books.board,
        snapshot.pending,
        order[is_ready],
        now,
    )
    return gate, turn


def _times(books: Books, snapshot: Snapshot, order: IntArray, now: datetime) -> Times:
    """Planned ends by what the users ran before, at most their time limits."""
    pending, held = snapshot.pending, snapshot.held
    waiting = books.claims.columns(pending.claims)
    running = books.held_claims.columns(held.claims)
    return take_times(
        snapshot,
        order,
        microseconds_of(now),
        kept=_kept(books),
        waiting_run_us=waiting.planned_us[pending.claim],
        held_run_us=running.planned_us[held.claim],
    )


def _kept(books: Books) -> tuple[Reservation, ...]:
    """The last cycle's reservations, on the rows their nodes have now."""
    last, row_of = books.last_plan, books.known_nodes.row_of
    if last.plan is None or last.snapshot is None:
        return ()
    names = last.snapshot.cluster.names
    return tuple(
        replace(one, node=row_of.get(names[one.node], -1))
        for one in last.plan.reservations
    )
