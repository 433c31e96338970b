"""Who gives way: work that runs free is stopped so that paid work can start.

Chooses on one node for each claimant; stops nothing, books nothing that stays and
reads no clock.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from dorabatch.placer.arrays.free_room import (
    Ask,
    Ends,
    FreeRoom,
    ask_of,
    placement_ends,
)
from dorabatch.placer.arrays.types import (
    UNKNOWN_US,
    WHOLE_GPU_MILLI,
    BoolArray,
    ClusterArrays,
    IntArray,
    Mask,
    Plan,
    RequestArrays,
    rows_of,
)

CLAIMANTS_MAX = 16
"""Waiting requests that are looked at in one cycle."""
VICTIMS_MAX = 32
"""Stopped in one cycle; the first claimant alone may need more, all of one node."""
NODES_MAX = 64
"""Nodes that are measured exactly for one claimant, the most promising ones."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """What holds something, one row an attempt.

    key[row]; started_us[row], 0 before the start
    is_free[row]        runs free and may be stopped
    is_leaving[row]     stops already: what it holds is free soon
    ends                what each holds, row by row
    """

    key: IntArray
    started_us: IntArray
    is_free: BoolArray
    is_leaving: BoolArray
    ends: Ends


class Victim(NamedTuple):
    """An attempt that is to be stopped, and the request's group that needs the room."""

    key: int
    claimant: int


class _Loss(NamedTuple):
    """What stopping `rows` on a node loses, least first."""

    gpu_milli: int
    attempts: int
    age: int
    node: int
    rows: tuple[int, ...]


def choose_victims(
    requests: RequestArrays,
    paid: int,
    cluster: ClusterArrays,
    plan: Plan,
    running: Running,
) -> tuple[Victim, ...]:
    """Whom to stop for the first waiting ones of the first `paid` requests.

    For each on one node: the fewest GPUs, then the fewest attempts, then the youngest,
    and none that is not needed. Nobody is stopped for a request that has room once
    what leaves is gone, nor where not even all that runs free would be enough.
    """
    may = running.is_free & ~running.is_leaving
    if not may.any():
        return ()
    chooser = _Chooser(requests, cluster, plan, running, may)
    kept_for = {one.key: one.node for one in plan.reservations}
    found: list[Victim] = []
    hopeless: set[int] = set()
    asked = 0
    for row in _waiting(requests, paid, plan):
        key = int(requests.key[row])
        why = plan.waiting[key]
        if why in hopeless:
            continue
        if asked == CLAIMANTS_MAX:
            break
        asked += 1
        rows = chooser.claim(row, kept_for.get(key))
        if rows is None:
            hopeless.add(why)
            if key in kept_for:
                # Whoever ranks lower would not get this node.
                chooser.closed[kept_for[key]] = True
            continue
        if found and len(found) + len(rows) > VICTIMS_MAX:
            break
        group = int(requests.group[row])
        found += [Victim(int(running.key[one]), group) for one in rows]
    return tuple(found)


def keep_off(
    requests: RequestArrays, cluster: ClusterArrays, begin: int, nodes: IntArray
) -> tuple[RequestArrays, ClusterArrays]:
    """Keep the requests from row `begin` on off nodes, as if these were reserved."""
    own, of = np.unique(requests.mask[begin:], return_inverse=True)
    masks = list(cluster.masks)
    for number in own.tolist():
        every = Mask(reason="", allowed=np.ones(len(cluster), dtype=bool))
        base = masks[number - 1] if number else every
        allowed = base.allowed.copy()
        allowed[nodes] = False
        before = base.allowed if base.unreserved is None else base.unreserved
        masks.append(replace(base, allowed=allowed, unreserved=before))
    mask = requests.mask.copy()
    mask[begin:] = len(cluster.masks) + 1 + of.ravel()
    return replace(requests, mask=mask), replace(cluster, masks=tuple(masks))


def _waiting(requests: RequestArrays, paid: int, plan: Plan) -> Iterator[int]:
    for row, key in enumerate(requests.key[:paid].tolist()):
        why = plan.waiting.get(key)
        if why is None or plan.explanations[why].never or requests.gang[row]:
            continue
        yield row


class _Chooser:
    """The room there will be, claimed one request after the other."""

    def __init__(
        self,
        requests: RequestArrays,
        cluster: ClusterArrays,
        plan: Plan,
        running: Running,
        may: BoolArray,
    ) -> None:
        self.requests = requests
        self.cluster = cluster
        self.ends = running.ends
        self.may = may.copy()
        self.started = np.where(running.started_us, running.started_us, UNKNOWN_US)
        self.closed = np.zeros(len(cluster), dtype=bool)
        self.room = _room_behind(requests, cluster, plan)
        self.room.give(running.ends.take(running.is_leaving))

    def claim(self, row: int, kept: int | None) -> tuple[int, ...] | None:
        """Rows to stop for a request, none where it has room; None: no use."""
        ask = ask_of(self.requests, row, self.cluster)
        ask = replace(ask, allowed=ask.allowed & ~self.closed)
        fits = np.flatnonzero(self.room.fits(ask)).tolist()
        if fits:
            _book(self.room, ask, kept if kept in fits else fits[0])
            return ()
        best = min(
            (self._loss(ask, node) for node in self._promising(ask)), default=None
        )
        if best is None:
            return None
        rows = np.array(best.rows, dtype=np.int64)
        self.may[rows] = False
        self.room.give(self.ends.take(rows))
        _book(self.room, ask, best.node)
        return best.rows

    def _promising(self, ask: Ask) -> list[int]:
        """Nodes with room if all that may be stopped were, those with most free GPUs
        first."""
        full = _copy(self.room)
        full.give(self.ends.take(self.may))
        nodes = np.flatnonzero(full.fits(ask))
        missing = ask.count - self.room.gpus[nodes][:, ask.accepts].sum(axis=1)
        order = np.argsort(np.maximum(missing, 0), kind="stable")
        found: list[int] = nodes[order[:NODES_MAX]].tolist()
        return found

    def _loss(self, ask: Ask, node: int) -> _Loss:
        """The least to stop on a node that has room once all were stopped.

        The better of adding the smallest and the largest first until there is room,
        without those that are not needed then; not every combination is tried.
        """
        rows = np.flatnonzero(self.may & (self.ends.node == node))
        milli = _gpu_milli(self.ends.take(rows))
        youth = -self.started[rows]
        trial = _Trial(self.room, ask, node, self.ends.take(rows))
        found = []
        for sign in (1, -1):
            chosen = trial.enough(np.lexsort((youth, sign * milli)).tolist())
            # The largest and oldest are let off first.
            spared = sorted(chosen, key=lambda i: (-milli[i], -youth[i]))
            chosen = trial.needed(chosen, spared)
            found.append(
                _Loss(
                    gpu_milli=int(milli[chosen].sum()),
                    attempts=len(chosen),
                    age=int(youth[chosen].max()),
                    node=node,
                    rows=tuple(rows[chosen].tolist()),
                )
            )
        return min(found)


class _Trial:
    """One node, and what would be free on it if some of its rows were stopped."""

    def __init__(self, room: FreeRoom, ask: Ask, node: int, ends: Ends) -> None:
        self.room = _copy(room, np.array([node]))
        at = slice(node, node + 1)
        self.ask = replace(
            ask, cpu=ask.cpu[at], memory=ask.memory[at], allowed=ask.allowed[at]
        )
        self.ends = replace(ends, node=np.zeros_like(ends.node))

    def enough(self, order: list[int]) -> list[int]:
        """The first of the rows that make room together."""
        room = _copy(self.room)
        for count, row in enumerate(order):
            if room.fits(self.ask)[0]:
                return order[:count]
            room.give(self.ends.take(np.array([row])))
        return order

    def needed(self, chosen: list[int], spared: list[int]) -> list[int]:
        """`chosen` without those that are not needed, tried in the order `spared`."""
        for row in spared:
            others = [one for one in chosen if one != row]
            room = _copy(self.room)
            room.give(self.ends.take(np.array(others, dtype=np.int64)))
            if room.fits(self.ask)[0]:
                chosen = others
        return chosen


def _gpu_milli(ends: Ends) -> IntArray:
    whole: IntArray = ends.gpus.sum(axis=1) * WHOLE_GPU_MILLI
    return whole + ends.share_milli


def _room_behind(
    requests: RequestArrays, cluster: ClusterArrays, plan: Plan
) -> FreeRoom:
    """What the plan's placements leave."""
    keys = np.array([one.key for one in plan.placements], dtype=np.int64)
    rows = rows_of(requests.key, keys)
    none = np.zeros(len(requests), dtype=np.int64)
    held = placement_ends(requests, rows, plan.placements, none, cluster)
    room = FreeRoom(cluster, int(held.share_slot.max(initial=-1)) + 1)
    room.take(held)
    return room


def _copy(room: FreeRoom, nodes: IntArray | slice = slice(None)) -> FreeRoom:
    """The same room, or that of some nodes."""
    made = FreeRoom.__new__(FreeRoom)
    for name in FreeRoom.__slots__:
        setattr(made, name, getattr(room, name)[nodes].copy())
    return made


def _book(room: FreeRoom, ask: Ask, node: int) -> None:
    """Take what an ask needs of a node that has it."""
    room.cpu[node] -= ask.cpu[node]
    room.memory[node] -= ask.memory[node]
    models = np.flatnonzero(ask.accepts).tolist() if ask.count else []
    if ask.milli < WHOLE_GPU_MILLI:
        for model in models:
            slots = np.flatnonzero(room.rest[node, model] >= ask.milli)
            if len(slots):
                room.rest[node, model, slots[0]] -= ask.milli
                return
    missing = ask.count
    for model in models:
        some = min(missing, max(int(room.gpus[node, model]), 0))
        room.gpus[node, model] -= some
        missing -= some
