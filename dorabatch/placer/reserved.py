"""place() with a place kept for the waiting requests of highest rank.

Whoever ranks lower gets a kept node only if it ends before the reservation begins or
fits beside it (backfill). Decides on planned ends alone; reads no clock, starts and
moves nothing.
"""

from dataclasses import dataclass, replace

import numpy as np

from dorabatch.placer.arrays import (
    UNKNOWN_US,
    BoolArray,
    ClusterArrays,
    IntArray,
    Mask,
    Placement,
    Plan,
    RequestArrays,
    Reservation,
)
from dorabatch.placer.classes import Classes, classes_of
from dorabatch.placer.memory import Memory
from dorabatch.placer.pack import place
from dorabatch.placer.policy import PlacementPolicy
from dorabatch.placer.timeline import (
    Ask,
    Ends,
    Room,
    Timeline,
    ask_of,
    ask_of_class,
    joined_ends,
    placement_ends,
    some_nodes,
)
from dorabatch.placer.waiting import Waiting, rows_of

STEADY_US = 60_000_000
"""A reservation moves to another node only for a start that much earlier."""

BESIDE_PASSES = 2


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


@dataclass(frozen=True, slots=True, kw_only=True)
class _Promise:
    """A reservation, its request's row, what it takes and what is over beside it.

    Amounts are GPUs by model, milli-CPUs, MiB of the node at the start.
    """

    row: int
    reservation: Reservation
    taken: IntArray
    beside: IntArray


def place_reserved(
    requests: RequestArrays,
    cluster: ClusterArrays,
    times: Times,
    policy: PlacementPolicy | None = None,
    recent: RequestArrays | None = None,
    memory: Memory | None = None,
) -> Plan:
    """Return place()'s plan, with `policy.reservations` requests' places kept.

    No request of lower rank takes a kept place unless the planned ends show that the
    reservation begins no later for it. With no reservation this is place(). `memory`
    spares looking for room that the cycle before did not find; see Memory.
    """
    policy, memory = policy or PlacementPolicy(), memory or Memory()
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

    def plan(self, memory: Memory) -> Plan:
        """The first plan that breaks no reservation."""
        promises = self._kept()
        plan = self._first(promises, memory)
        if any(self._is_over(plan, promise) for promise in promises):
            promises = []
            plan = self._first([], memory)
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

    def _is_over(self, plan: Plan, promise: _Promise) -> bool:
        """The request of a reservation taken over from before waits no more."""
        keys = Waiting.of(plan.waiting).key
        return not bool((keys == self.requests.key[promise.row]).any())

    # What is kept for whom -------------------------------------------------

    def _kept(self) -> list[_Promise]:
        """Last cycle's reservations whose requests still wait, on the same node."""
        found = []
        line = self._timeline(None, 0)
        for old in self.times.kept[: self.policy.reservations]:
            rows = np.flatnonzero(self.requests.key == old.key)
            if len(rows) == 0 or old.node < 0:
                continue
            row = int(rows[0])
            ask = ask_of(self.requests, row, self.cluster)
            start, _ = line.earliest(ask)
            if start[old.node] >= 0:
                found.append(self._promise(line, row, ask, old.node, start))
        return found

    def _promises(self, plan: Plan) -> tuple[list[_Promise], int | None]:
        """The reservations this plan asks for, and the first row that breaks one."""
        rows = self._placed_rows(plan)
        order = np.argsort(rows, kind="stable")
        rows = rows[order]
        placements = tuple(plan.placements[at] for at in order.tolist())
        promises: list[_Promise] = []
        waiting = Waiting.of(plan.waiting)
        waits = rows_of(self.requests.key, waiting.key)
        left = np.flatnonzero(~self.requests.gang[waits])
        while len(left) and len(promises) < self.policy.reservations:
            row, why = int(waits[left[0]]), int(waiting.why[left[0]])
            ahead = int(np.searchsorted(rows, row))
            promise = None
            if not plan.explanations[why].never:
                held = self._ends(placements[:ahead], rows[:ahead])
                promise = self._best(row, held, promises)
            if promise is None:
                # Nobody who waits for the same reason has a place.
                left = left[waiting.why[left] != why]
            else:
                promises.append(promise)
                left = left[1:]
        return promises, self._offender(promises, placements, rows)

    def _best(
        self, row: int, ahead: Ends | None, promises: list[_Promise]
    ) -> _Promise | None:
        """The earliest place for a row behind `ahead` and `promises`."""
        line = self._timeline(ahead, len(promises))
        for one in promises:
            line.reserve(one.reservation.node, one.taken)
        ask = ask_of(self.requests, row, self.cluster)
        start, waits = line.earliest(ask)
        candidates = np.flatnonzero(start >= 0)
        if len(candidates) == 0:
            return None
        order = np.lexsort((candidates, waits[candidates], start[candidates]))
        node = int(candidates[order[0]])
        key = int(self.requests.key[row])
        for old in self.times.kept:
            if old.key == key and self._stays(old.node, node, start, waits):
                node = old.node
        return self._promise(line, row, ask, node, start)

    def _stays(self, old: int, best: int, start: IntArray, waits: IntArray) -> bool:
        """Whether the node of before is as good as the best, or nearly."""
        if old < 0 or start[old] < 0:
            return False
        if start[old] >= UNKNOWN_US and start[best] >= UNKNOWN_US:
            return bool(waits[old] <= waits[best])
        return bool(start[old] <= max(start[best], self.times.now_us) + STEADY_US)

    def _promise(
        self, line: Timeline, row: int, ask: Ask, node: int, start: IntArray
    ) -> _Promise:
        when = max(int(start[node]), self.times.now_us)
        room = line.room_at(node, when)
        taken = _amounts(ask, node, room)
        return _Promise(
            row=row,
            reservation=Reservation(
                key=int(self.requests.key[row]),
                group=int(self.requests.group[row]),
                node=node,
                start_us=when,
            ),
            taken=taken,
            beside=room - taken,
        )

    def _timeline(self, ahead: Ends | None, reserved: int) -> Timeline:
        """Ends in order; the plain one is made once."""
        if ahead is not None and len(ahead):
            room = Room(self.cluster, int(ahead.share_slot.max(initial=-1)) + 1)
            room.take(ahead)
            ends = joined_ends(self.times.ends, ahead)
            return Timeline(room.as_cluster(self.cluster), ends)
        if reserved:
            return Timeline(self.cluster, self.times.ends)
        if self.timeline is None:
            self.timeline = Timeline(self.cluster, self.times.ends)
        return self.timeline

    def _ends(self, placements: tuple[Placement, ...], rows: IntArray) -> Ends | None:
        if not placements:
            return None
        planned = self.times.planned_end_us
        return placement_ends(self.requests, rows, placements, planned, self.cluster)

    # Who may not have it ---------------------------------------------------

    def _offender(
        self,
        promises: list[_Promise],
        placements: tuple[Placement, ...],
        rows: IntArray,
    ) -> int | None:
        """The first placed row that would make a reservation begin later."""
        beside = {one.row: one.beside.copy() for one in promises}
        nodes = {one.reservation.node for one in promises}
        first = min(beside, default=0)
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
            for one in promises:
                is_ahead = one.row < row and one.reservation.node == held.node[i]
                if not is_ahead or _ends_before(int(held.end_us[i]), one):
                    continue
                if not _fits_beside(taken, beside[one.row]):
                    return int(row)
                beside[one.row] -= taken
        return None

    def _first(self, promises: list[_Promise], memory: Memory) -> Plan:
        """Plan everything, off the kept nodes where it would delay."""
        masked, cluster = self._withheld(
            self.requests, self.cluster, promises, 0, beside=True
        )
        return memory.place(masked, cluster, self.policy, self.recent)

    def _planned(
        self, promises: list[_Promise], begin: int, plan: Plan, *, beside: bool
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
            room = Room(cluster, int(held.share_slot.max(initial=-1)) + 1)
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
        promises: list[_Promise],
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
                late &= ~_class_fits(classes, one, cluster)[classes.of]
            bits |= late.astype(np.int64) << bit
        return _with_masks(requests, cluster, promises, bits)

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


def _amounts(ask: Ask, node: int, room: IntArray) -> IntArray:
    """What an ask takes of `room` (GPUs by model, milli-CPUs, MiB) on a node.

    One accepted model with enough, else several; where there is not enough at all,
    every accepted model counts, so that nothing is promised twice.
    """
    taken = np.zeros_like(room)
    taken[-2:] = ask.cpu[node], ask.memory[node]
    if ask.count == 0:
        return taken
    free = np.where(ask.accepts, room[:-2], 0)
    if free.sum() < ask.count:
        taken[:-2] = np.where(ask.accepts, ask.count, 0)
        return taken
    missing = ask.count
    for model in np.argsort(-free, kind="stable").tolist():
        some = min(missing, max(int(free[model]), 0))
        taken[model] = some
        missing -= some
    return taken


def _ends_before(end_us: int, promise: _Promise) -> bool:
    start = promise.reservation.start_us
    return end_us <= start < UNKNOWN_US


def _fits_beside(taken: IntArray, beside: IntArray) -> bool:
    """Whether all that is taken at all is over."""
    return bool(np.all((taken <= beside) | (taken <= 0)))


def _class_fits(
    classes: Classes, promise: _Promise, cluster: ClusterArrays
) -> BoolArray:
    """fits[class] beside a promise on its node."""
    beside = promise.beside
    alone = some_nodes(cluster, np.array([promise.reservation.node]))
    fits = np.zeros(len(classes), dtype=bool)
    for index in range(len(classes)):
        ask = ask_of_class(classes, index, alone)
        taken = _amounts(ask, 0, np.maximum(beside, 0))
        fits[index] = _fits_beside(taken, beside)
    return fits


def _with_masks(
    requests: RequestArrays,
    cluster: ClusterArrays,
    promises: list[_Promise],
    bits: IntArray,
) -> tuple[RequestArrays, ClusterArrays]:
    """One more mask for each pair of a request's own mask and nodes kept from it."""
    width = len(promises)
    pairs, of = np.unique((requests.mask << width) + bits, return_inverse=True)
    masks = list(cluster.masks)
    numbers = np.zeros(len(pairs), dtype=np.int64)
    for at, pair in enumerate(pairs.tolist()):
        own, kept = pair >> width, pair & ((1 << width) - 1)
        if kept == 0:
            numbers[at] = own
            continue
        chosen = [one for bit, one in enumerate(promises) if kept >> bit & 1]
        base = masks[own - 1] if own else None
        base = base or Mask(reason="", allowed=np.ones(len(cluster), bool))
        allowed = base.allowed.copy()
        allowed[[one.reservation.node for one in chosen]] = False
        masks.append(
            Mask(
                reason=base.reason,
                allowed=allowed,
                unreserved=base.allowed if base.unreserved is None else base.unreserved,
                delays=base.delays + tuple(one.reservation.key for one in chosen),
            )
        )
        numbers[at] = len(masks)
    changed = replace(requests, mask=numbers[of.ravel()])
    return changed, replace(cluster, masks=tuple(masks))


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
