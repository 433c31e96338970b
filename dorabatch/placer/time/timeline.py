"""What comes free where and when, and the earliest moment a request has room.

Works on planned ends only. It books nothing, changes no input and reads no clock.
"""

from copy import copy
from dataclasses import replace

import numpy as np

from dorabatch.placer.arrays.free_room import Ask, Ends
from dorabatch.placer.arrays.types import (
    UNKNOWN_US,
    WHOLE_GPU_MILLI,
    BoolArray,
    ClusterArrays,
    IntArray,
)


class Timeline:
    """Planned ends in order, node by node, with what each adds to what is free."""

    __slots__ = ("_added", "_end", "_first", "_node", "_share", "free")

    def __init__(self, cluster: ClusterArrays, ends: Ends) -> None:
        ends = _in_order(ends)
        models = len(cluster.models)
        freed = np.column_stack(
            [_whole_gpus_freed(ends, models), ends.cpu_milli, ends.memory_mib]
        )
        self.free = np.column_stack(
            [cluster.gpus_free, cluster.cpu_free_milli, cluster.memory_free_mib]
        ).astype(np.int64)
        self._node, self._end = ends.node, ends.end_us
        self._first = np.searchsorted(ends.node, np.arange(len(cluster)))
        total = np.cumsum(freed, axis=0)
        before = np.concatenate([np.zeros((1, freed.shape[1]), np.int64), total])
        self._added = total - before[self._first][ends.node]
        self._share = (ends, cluster.gpu_rest_milli)

    def fork(self) -> "Timeline":
        """The same with reservations of its own."""
        twin = copy(self)
        twin.free = self.free.copy()
        return twin

    def reserve(self, node: int, amounts: IntArray) -> None:
        """Keep amounts[GPUs by model, milli-CPUs, MiB] of a node from now on."""
        self.free[node] -= amounts

    def earliest(self, ask: Ask) -> tuple[IntArray, IntArray]:
        """(start_us[node], ends waited for[node]); 0 = now, -1 = never or not allowed.

        What is free only grows, so each node has one first moment.
        """
        free, now = self.free, self._fits(ask, self.free, np.arange(len(self.free)))
        fits = self._fits(ask, free[self._node] + self._added, self._node)
        if ask.count and ask.milli < WHOLE_GPU_MILLI:
            now, fits = self._with_slots(ask, now, fits)
        short = np.bincount(self._node[~fits], minlength=len(free))
        many = np.bincount(self._node, minlength=len(free))
        at = self._first + short
        found = ask.allowed & ~now & (short < many)
        start = np.where(ask.allowed & now, 0, -1)
        start[found] = self._end[at[found]]
        return start, np.where(now, 0, short + 1)

    def room_at(self, node: int, when_us: int) -> IntArray:
        """Free amounts of one node once everything planned to end by then has.

        At an unknown moment nothing is sure to have ended: what is free now.
        """
        if when_us >= UNKNOWN_US:
            return np.asarray(self.free[node].copy())
        rows = np.flatnonzero(self._node == node)
        rows = rows[self._end[rows] <= when_us]
        free: IntArray = self.free[node].copy()
        return free + self._added[rows[-1]] if len(rows) else free

    def _fits(self, ask: Ask, amounts: IntArray, node: IntArray) -> BoolArray:
        good = (amounts[:, -2] >= ask.cpu[node]) & (amounts[:, -1] >= ask.memory[node])
        if ask.count:
            good &= amounts[:, :-2][:, ask.accepts].sum(axis=1) >= ask.count
        return np.asarray(good, dtype=bool)

    def _with_slots(
        self, ask: Ask, now: BoolArray, fits: BoolArray
    ) -> tuple[BoolArray, BoolArray]:
        """Shares also fit where an opened GPU has, or comes to have, rest enough."""
        ends, known = self._share
        rest_now = np.maximum(known, 0)
        enough = rest_now[:, ask.accepts].max(axis=(1, 2), initial=0) >= ask.milli
        plain = _without_gpu(ask)
        now = now | (enough & self._fits(plain, self.free, np.arange(len(self.free))))
        opened = enough[self._node]
        share = np.flatnonzero(ends.share_slot >= 0)
        share = share[ask.accepts[ends.share_model[share]]]
        rests: dict[tuple[int, int, int], int] = {}
        ready = np.full(len(self.free), len(ends), dtype=np.int64)
        for row in share.tolist():
            place = (
                int(ends.node[row]),
                int(ends.share_model[row]),
                int(ends.share_slot[row]),
            )
            rest = rests.get(place)
            if rest is None:
                rest = int(rest_now[place]) if place[2] < known.shape[2] else 0
            rests[place] = rest + int(ends.share_milli[row])
            if rests[place] >= ask.milli:
                ready[place[0]] = min(ready[place[0]], row)
        opened = opened | (np.arange(len(ends)) >= ready[self._node])
        beside = self._fits(plain, self.free[self._node] + self._added, self._node)
        return now, fits | (opened & beside)


def _without_gpu(ask: Ask) -> Ask:
    """The same needs without the GPU."""
    return replace(ask, count=0)


def _in_order(ends: Ends) -> Ends:
    order = np.lexsort((ends.end_us, ends.node))
    return ends.take(order.astype(np.int64))


def _whole_gpus_freed(ends: Ends, models: int) -> IntArray:
    """gpus[row, model]; a shared GPU is whole again with the last of its shares."""
    gpus: IntArray = ends.gpus.astype(np.int64).reshape(len(ends), models).copy()
    last: dict[tuple[int, int, int], int] = {}
    for row in np.flatnonzero(ends.share_slot >= 0).tolist():
        place = ends.node[row], ends.share_model[row], ends.share_slot[row]
        last[int(place[0]), int(place[1]), int(place[2])] = row
    for (_, model, _), row in last.items():
        gpus[row, model] += 1
    return gpus
