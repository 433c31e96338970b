"""place() with a place kept for the waiting requests of highest rank.

Whoever ranks lower gets a kept node only if it ends before the reservation begins or
fits beside it (backfill). Decides on planned ends alone; reads no clock, starts and
moves nothing.
"""

from dataclasses import dataclass, replace

import numpy as np

from dorabatch.placer.arrays.classes import classes_of
from dorabatch.placer.arrays.free_room import (
    Ends,
    FreeRoom,
    ask_of,
    joined_ends,
    placement_ends,
)
from dorabatch.placer.arrays.types import (
    UNKNOWN_US,
    ClusterArrays,
    IntArray,
    Placement,
    Plan,
    RequestArrays,
    Reservation,
    Waiting,
    rows_of,
)
from dorabatch.placer.plan.no_room import NoRoomMemory
from dorabatch.placer.plan.place import place
from dorabatch.placer.plan.placement_policy import PlacementPolicy
from dorabatch.placer.time.promise import (
    Promise,
    amounts_of,
    class_fits,
    ends_before,
    fits_beside,
    with_masks,
)
from dorabatch.placer.time.timeline import Timeline

STEADY_US = 60_000_000
"""A reservation moves to another node only for a start that much earlier."""

BESIDE_PASSES = 2

PROMISES_MAX = 40
"""Nodes kept at once, one bit each; a gang that needs more has no reservation."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Times:
    """What is known of time, in microseconds since 1970.

    ends                     what runs and when it is expected to end
    planned_end_us[request]  end of each request if it started now; UNKNOWN_US
    kept                     the reservations of the cycle before
    """

    now_us: int
    ends: Ends
    planned_end_us: IntArray
    kept: tuple[Reservation, ...] = ()


def place_reserved(
    requests: RequestArrays,
    cluster: ClusterArrays,
    times: Times,
    policy: PlacementPolicy | None = None,
    recent: RequestArrays | None = None,
    memory: NoRoomMemory | None = None,
) -> Plan:
    """Return place()'s plan, with `policy.reservations` requests' places kept.

    No request of lower rank takes a kept place unless the planned ends show that the
    reservation begins no later for it. With no reservation this is place(). `memory`
    spares looking for room that the cycle before did not find; see Memory.
    """
    policy, memory = policy or PlacementPolicy(), memory or NoRoomMemory()
    if policy.reservations == 0:
        return memory.place(requests, cluster, policy, recent)
    return _Repair(requests, cluster, times, policy, recent).plan(memory)


class _Repair:
    """Plans, looks for placements that take a kept place, and plans those anew."""

    def __init__(
        self,
        requests: RequestArrays,
        cluster: ClusterArrays,
        times: Times,
        policy: PlacementPolicy,
        recent: RequestArrays | None,
    ) -> None:
        self.requests = requests
        self.cluster = cluster
        self.times = times
        self.policy = policy
        self.recent = recent
        self.timeline: Timeline | None = None

    def plan(self, memory: NoRoomMemory) -> Plan:
        """The first plan that breaks no reservation."""
        promises = self._kept()
        may_start = self._may_start(promises)
        # Where one of them has room now nothing has to be kept for it, most likely.
        plan = self._first([] if may_start else promises, memory)
        is_over = any(self._is_over(plan, promise) for promise in promises)
        if is_over != may_start:
            plan = self._first([] if is_over else promises, memory)
        for attempt in range(2 * (self.policy.reservations + BESIDE_PASSES)):
            promises, offender = self._promises(plan)
            if offender is None:
                break
            # What is planned again leaves other room than was remembered.
            memory.forget()
            ahead = [one for one in promises if one.row < offender]
            beside = attempt < BESIDE_PASSES
            plan = self._planned(ahead, offender, plan, beside=beside)
        else:
            promises, offender = self._promises(plan)
            if offender is not None:
                plan = self._cut(plan, offender)
        found = tuple(promise.reservation for promise in promises)
        return replace(plan, reservations=found)

    def _placed_rows(self, plan: Plan) -> IntArray:
        """The rows of the placed requests."""
        keys = np.array([p.key for p in plan.placements], dtype=np.int64)
        return rows_of(self.requests.key, keys)

    def _is_over(self, plan: Plan, promise: Promise) -> bool:
        """The request of a reservation taken over from before waits no more."""
        keys = Waiting.of(plan.waiting).key
        return not bool((keys == self.requests.key[promise.row]).any())

    # What is kept for whom -------------------------------------------------

    def _kept(self) -> list[Promise]:
        """Last cycle's reservations whose requests still wait, on the same nodes."""
        found: list[Promise] = []
        old = {one.key: one.node for one in self.times.kept if one.node >= 0}
        rows = np.flatnonzero(np.isin(self.requests.key, list(old))).tolist()
        seen: set[int] = set()
        reserved = 0
        while rows and reserved < self.policy.reservations:
            members = self._members(rows.pop(0))
            keys = self.requests.key[members].tolist()
            if members[0] in seen or not old.keys() >= set(keys):
                continue
            seen.update(members)
            nodes = [old[key] for key in keys]
            made = self._pledged(members, nodes, self._timeline(None, []))
            found += made
            reserved += bool(made)
        return found

    def _may_start(self, promises: list[Promise]) -> bool:
        """Whether all that starts together has room by now, each for itself."""
        found: dict[int, bool] = {}
        for one in promises:
            (row,) = rows_of(self.requests.key, np.array([one.reservation.key]))
            ask = ask_of(self.requests, int(row), self.cluster)
            start, _ = self._timeline(None, []).earliest(ask)
            found[one.row] = found.get(one.row, True) and bool((start == 0).any())
        return any(found.values())

    def _members(self, row: int) -> list[int]:
        """The rows that start together with `row`, in order: a gang's, or its own."""
        if not self.requests.gang[row]:
            return [row]
        together = self.requests.gang & (
            self.requests.group == self.requests.group[row]
        )
        return [int(r) for r in np.flatnonzero(together)]

    def _promises(self, plan: Plan) -> tuple[list[Promise], int | None]:
        """The reservations this plan asks for, and the first row that breaks one."""
        rows = self._placed_rows(plan)
        order = np.argsort(rows, kind="stable")
        rows = rows[order]
        placements = tuple(plan.placements[at] for at in order.tolist())
        promises: list[Promise] = []
        waiting = Waiting.of(plan.waiting)
        left = rows_of(self.requests.key, waiting.key)
        why, reserved = waiting.why, 0
        while len(left) and reserved < self.policy.reservations:
            members, reason = self._members(int(left[0])), int(why[0])
            ahead = int(np.searchsorted(rows, members[0]))
            made: list[Promise] = []
            can_be_kept = len(promises) + len(members) <= PROMISES_MAX
            if can_be_kept and not plan.explanations[reason].never:
                held = self._ends(placements[:ahead], rows[:ahead])
                made = self._best(members, held, promises)
            promises += made
            reserved += bool(made)
            # Nobody who waits for the same reason has a place either.
            stays = ~np.isin(left, members)
            stays &= (why != reason) | bool(made) | (not can_be_kept)
            left, why = left[stays], why[stays]
        offender = self._offender(promises, placements, rows)
        if offender is not None:
            # A gang is planned anew from its first member on.
            offender = self._members(offender)[0]
        return promises, offender

    def _best(
        self, members: list[int], ahead: Ends | None, promises: list[Promise]
    ) -> list[Promise]:
        """The earliest place for rows behind `ahead` and `promises`; none: no place."""
        line = self._timeline(ahead, promises)
        trial = line.fork()
        nodes: list[int] = []
        for row in members:
            ask = ask_of(self.requests, row, self.cluster)
            start, waits = trial.earliest(ask)
            candidates = np.flatnonzero(start >= 0)
            if len(candidates) == 0:
                return []
            order = np.lexsort((candidates, waits[candidates], start[candidates]))
            node = int(candidates[order[0]])
            key = int(self.requests.key[row])
            for old in self.times.kept:
                if old.key == key and self._stays(old.node, node, start, waits):
                    node = old.node
            nodes.append(node)
            when = max(int(start[node]), self.times.now_us)
            trial.reserve(node, amounts_of(ask, node, trial.room_at(node, when)))
        return self._pledged(members, nodes, line)

    def _stays(self, old: int, best: int, start: IntArray, waits: IntArray) -> bool:
        """Whether the node of before is as good as the best, or nearly."""
        if old < 0 or start[old] < 0:
            return False
        if start[old] >= UNKNOWN_US and start[best] >= UNKNOWN_US:
            return bool(waits[old] <= waits[best])
        return bool(start[old] <= max(start[best], self.times.now_us) + STEADY_US)

    def _pledged(
        self, members: list[int], nodes: list[int], line: Timeline
    ) -> list[Promise]:
        """Promises for rows on these nodes, from the moment the last has room."""
        asks = [ask_of(self.requests, row, self.cluster) for row in members]
        trial, when = line.fork(), self.times.now_us
        for ask, node in zip(asks, nodes, strict=True):
            start = int(trial.earliest(ask)[0][node])
            if start < 0:
                return []
            when = max(when, start)
            trial.reserve(node, amounts_of(ask, node, trial.room_at(node, when)))
        line, made = line.fork(), []
        for row, ask, node in zip(members, asks, nodes, strict=True):
            room = line.room_at(node, when)
            taken = amounts_of(ask, node, room)
            line.reserve(node, taken)
            kept = Reservation(
                key=int(self.requests.key[row]),
                group=int(self.requests.group[row]),
                node=node,
                start_us=when,
            )
            # The rank of a gang is that of its first member.
            promise = Promise(
                row=members[0], reservation=kept, taken=taken, beside=room - taken
            )
            made.append(promise)
        return made

    def _timeline(self, ahead: Ends | None, promises: list[Promise]) -> Timeline:
        """Ends in order, behind `ahead` and what is promised; the plain one is kept."""
        if self.timeline is None:
            self.timeline = Timeline(self.cluster, self.times.ends)
        line = self.timeline
        if ahead is not None and len(ahead):
            room = FreeRoom(self.cluster, int(ahead.share_slot.max(initial=-1)) + 1)
            room.take(ahead)
            ends = joined_ends(self.times.ends, ahead)
            line = Timeline(room.as_cluster(self.cluster), ends)
        if promises:
            line = line.fork()
        for one in promises:
            line.reserve(one.reservation.node, one.taken)
        return line

    def _ends(self, placements: tuple[Placement, ...], rows: IntArray) -> Ends | None:
        if not placements:
            return None
        planned = self.times.planned_end_us
        return placement_ends(self.requests, rows, placements, planned, self.cluster)

    # Who may not have it ---------------------------------------------------

    def _offender(
        self,
        promises: list[Promise],
        placements: tuple[Placement, ...],
        rows: IntArray,
    ) -> int | None:
        """The first placed row that would make a reservation begin later."""
        left = [one.beside.copy() for one in promises]
        nodes = {one.reservation.node for one in promises}
        first = min((one.row for one in promises), default=0)
        at = [
            i
            for i, placement in enumerate(placements)
            if placement.node in nodes and rows[i] > first
        ]
        chosen = tuple(placements[i] for i in at)
        held = self._ends(chosen, rows[at])
        for i, row in enumerate(rows[at].tolist() if held is not None else ()):
            assert held is not None
            taken = np.array([*chosen[i].gpus, held.cpu_milli[i], held.memory_mib[i]])
            for one, beside in zip(promises, left, strict=True):
                is_ahead = one.row < row and one.reservation.node == held.node[i]
                if not is_ahead or ends_before(int(held.end_us[i]), one):
                    continue
                if not fits_beside(taken, beside):
                    return int(row)
                beside -= taken
        return None

    def _first(self, promises: list[Promise], memory: NoRoomMemory) -> Plan:
        """Plan everything, off the kept nodes where it would delay."""
        masked, cluster = self._withheld(
            self.requests, self.cluster, promises, 0, beside=True
        )
        return memory.place(masked, cluster, self.policy, self.recent)

    def _planned(
        self, promises: list[Promise], begin: int, plan: Plan, *, beside: bool
    ) -> Plan:
        """Plan rows from `begin` on anew, off the kept nodes where they would delay."""
        rows = self._placed_rows(plan)
        settled = tuple(
            placement
            for placement, row in zip(plan.placements, rows.tolist(), strict=True)
            if row < begin
        )
        cluster = self.cluster
        held = self._ends(settled, rows[rows < begin])
        if held is not None:
            room = FreeRoom(cluster, int(held.share_slot.max(initial=-1)) + 1)
            room.take(held)
            cluster = room.as_cluster(cluster)
        requests = self.requests.take(np.arange(begin, len(self.requests)))
        masked, cluster = self._withheld(
            requests, cluster, promises, begin, beside=beside
        )
        again = place(masked, cluster, self.policy, self.recent)
        return _behind(plan, settled, again, self.requests.key[:begin])

    def _withheld(
        self,
        requests: RequestArrays,
        cluster: ClusterArrays,
        promises: list[Promise],
        begin: int,
        *,
        beside: bool,
    ) -> tuple[RequestArrays, ClusterArrays]:
        """The requests with masks that keep them off nodes they would delay."""
        if not promises:
            return requests, cluster
        rows = np.arange(begin, begin + len(requests))
        ends = self.times.planned_end_us[begin:]
        classes = classes_of(requests) if beside else None
        bits = np.zeros(len(requests), dtype=np.int64)
        for bit, one in enumerate(promises):
            start = one.reservation.start_us
            late = (rows > one.row) & ((ends > start) | (start >= UNKNOWN_US))
            if classes is not None:
                late &= ~class_fits(classes, one, cluster)[classes.of]
            bits |= late.astype(np.int64) << bit
        return with_masks(requests, cluster, promises, bits)

    def _cut(self, plan: Plan, offender: int) -> Plan:
        """Leave everything from a row on for the next cycle."""
        rows = self._placed_rows(plan)
        waiting = Waiting.of(plan.waiting)
        stays = rows_of(self.requests.key, waiting.key) < offender
        return replace(
            plan,
            placements=tuple(
                placement
                for placement, row in zip(plan.placements, rows.tolist(), strict=True)
                if row < offender
            ),
            waiting=waiting.take(stays),
            left=tuple(self.requests.key[offender:].tolist()) if len(rows) else (),
        )


def _behind(
    plan: Plan, settled: tuple[Placement, ...], again: Plan, ahead: IntArray
) -> Plan:
    """`again` behind what was settled and explained before it."""
    offset = len(plan.explanations)
    before, after = Waiting.of(plan.waiting), Waiting.of(again.waiting)
    before = before.take(rows_of(ahead, before.key) >= 0)
    return Plan(
        placements=settled + again.placements,
        waiting=Waiting(
            np.concatenate([before.key, after.key]),
            np.concatenate([before.why, offset + after.why]),
        ),
        explanations=plan.explanations + again.explanations,
        left=again.left,
    )
