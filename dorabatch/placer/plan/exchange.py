"""Exchanges of two requests of one plan that leave CPUs where GPUs are free.

A full node keeps CPUs that nobody can use while another has free GPUs and too few:
a request that takes many CPUs there changes places with one that takes few here. Both
stay placed, so no rank is touched. What runs already is never moved.
"""

from typing import NamedTuple

import numpy as np

from dorabatch.placer.arrays.bins import BinState, needs_at
from dorabatch.placer.arrays.booked import Booked
from dorabatch.placer.arrays.types import FloatArray, IntArray
from dorabatch.placer.plan.demand_outlook import DemandOutlook

CPU, MEMORY = 0, 1

CROWDED = 0.2
"""Where a larger part of the GPUs is free nothing is exchanged."""

LOOK = 256
"""Rows of one class that are looked at before more are."""

BINS_MAX = 128
"""Nodes that are looked at in one plan, those that lack most first."""


def exchange(booked: Booked, outlook: DemandOutlook, movable: IntArray) -> IntArray:
    """Even CPUs and memory out; return the bins on which rows changed.

    `movable` are rows that hold whole GPUs of one model, in rank order. Two rows change
    places only where no row that waits stands between them in rank.
    """
    state, changed = booked.state, set[int]()
    if state.free.sum() > CROWDED * state.ground.total[:, 0].sum():
        return np.zeros(0, dtype=np.int64)
    changer = _Exchange(booked, outlook, movable)
    open_to = np.bincount(changer.bin, minlength=len(state.free)) * state.free > 0
    for resource in (CPU, MEMORY):
        lack = -changer.spare[resource]
        short = np.flatnonzero((lack > 0) & open_to)
        short = short[np.argsort(-lack[short], kind="stable")][:BINS_MAX]
        for bin_ in short.tolist():
            changed |= changer.relieve(bin_, resource)
    return np.array(sorted(changed), dtype=np.int64)


def spare(state: BinState, outlook: DemandOutlook) -> FloatArray:
    """spare[resource, bin]: milli-CPUs and MiB beyond what free GPUs will want there.

    Of nodes with several models nothing is to spare and nothing is short.
    """
    shape = outlook.shape
    found = np.stack(
        [
            state.cpu - state.free * outlook.cpu_mean[shape],
            state.memory - state.free * outlook.memory_mean[shape],
        ]
    )
    found[:, list(state.ground.sisters)] = 0.0
    return found


def revived(booked: Booked, bins: IntArray) -> IntArray:
    """Classes of which the first row that waits may fit on one of these bins, if need
    be with what rows of lower rank hold there."""
    state = booked.state
    classes, ground = state.classes, state.ground
    waits = np.flatnonzero(booked.bin < 0)
    kinds, first = np.unique(classes.of[waits], return_index=True)
    if len(kinds) == 0:
        return kinds
    given = _given_back(booked, bins, waits[first])
    good = ground.allowed[np.ix_(kinds, bins)]
    gpus = classes.gpu_count[kinds, None] <= state.free[bins] + given.gpus
    rest = state.rest[bins].max(axis=1, initial=0)
    good &= gpus | (classes.gpu_milli[kinds, None] <= rest)
    for needs, left in (
        (ground.cpu_need, state.cpu[bins] + given.cpu),
        (ground.memory_need, state.memory[bins] + given.memory),
    ):
        good &= np.stack([needs[kind][bins] for kind in kinds.tolist()]) <= left
    return kinds[good.any(axis=1)]


class _Given(NamedTuple):
    """What rows would give back, by row that waits and bin; a share counts as a GPU."""

    gpus: IntArray
    cpu: IntArray
    memory: IntArray


def _given_back(booked: Booked, bins: IntArray, waiting: IntArray) -> _Given:
    """What the rows behind waiting[i] hold on each bin."""
    classes, count = booked.state.classes, len(booked.bin)
    number = np.full(len(booked.state.free), -1, dtype=np.int64)
    number[bins] = np.arange(len(bins))
    rows = np.flatnonzero((booked.bin >= 0) & (number[booked.bin] >= 0))
    rows = rows[np.argsort(number[booked.bin[rows]], kind="stable")]
    of, place = classes.of[rows], number[booked.bin[rows]]
    held = needs_at(classes, booked.state.ground, of, booked.bin[rows])
    # Rows stand bin by bin and by rank: what is behind one is an end of its bin.
    key, each = place * count + rows, np.arange(len(bins)) * count
    after = np.searchsorted(key, each + waiting[:, None], side="right")
    end = np.searchsorted(key, each + count)
    sums = [np.append(0, np.cumsum(one)) for one in (classes.gpu_count[of], *held)]
    gpus, cpu, memory = (one[end] - one[after] for one in sums)
    return _Given(gpus, cpu, memory)


class _Exchange:
    """The rows that may change places, and what is to spare where they are.

    Rows are told by their place among those that may; need[resource, class].
    """

    def __init__(
        self, booked: Booked, outlook: DemandOutlook, movable: IntArray
    ) -> None:
        self.booked, self.state = booked, booked.state
        self.spare = spare(booked.state, outlook)
        classes = self.state.classes
        self.rows = movable
        self.of = classes.of[movable]
        self.need = np.stack([classes.cpu_milli, classes.memory_mib])
        self.bin = booked.bin[movable]
        self.ahead = np.cumsum(booked.bin < 0)[movable]
        order = np.argsort(self.of, kind="stable")
        self.kinds, starts = np.unique(self.of[order], return_index=True)
        self.places = np.split(order, starts[1:])

    def relieve(self, bin_: int, resource: int) -> set[int]:
        """Exchange rows of a bin until it lacks nothing or none helps more."""
        own = np.flatnonzero(self.bin == bin_)
        need = self.need[resource, self.of[own]]
        own = own[np.argsort(-need, kind="stable")]
        changed: set[int] = set()
        for mine in own.tolist():
            lack = -float(self.spare[resource, bin_])
            if lack <= 0:
                break
            other = self._partner(mine, resource, lack)
            if other >= 0:
                changed |= {bin_, int(self.bin[other])}
                self._swap(mine, other)
        return changed

    def _partner(self, mine: int, resource: int, lack: float) -> int:
        """The row to change places with, -1 for none: the least that is enough.

        What a bin then lacks of anything, it lacked before.
        """
        own, here = int(self.of[mine]), int(self.bin[mine])
        counts = self.state.classes.gpu_count
        gain = self.need[:, own, None] - self.need[:, self.kinds]
        good = (gain[resource] > 0) & (counts[self.kinds] == counts[own])
        good &= (-gain <= np.maximum(self.spare[:, here, None], 0.0)).all(axis=0)
        good &= self.state.ground.allowed[self.kinds, here]
        able = np.flatnonzero(good)
        gains = gain[resource, able]
        # What is enough comes first, the least of it; then the most of the rest.
        order = np.lexsort((np.where(gains < lack, -gains, gains), gains < lack))
        ahead = self.ahead[mine]
        start, end = np.searchsorted(self.ahead, [ahead, ahead + 1]).tolist()
        for value in dict.fromkeys(gains[order].tolist()):
            rows = [
                self._first(kind, (start, end), own, gain[:, kind])
                for kind in able[gains == value].tolist()
            ]
            if max(rows) >= 0:
                return min(row for row in rows if row >= 0)
        return -1

    def _first(
        self, kind: int, between: tuple[int, int], own: int, gain: IntArray
    ) -> int:
        """The first row of a kind for which class `own` may come in its place, or -1.

        `gain` is what its bin has to have to spare.
        """
        places = self.places[kind]
        at, end = np.searchsorted(places, between).tolist()
        size = LOOK
        while at < end:
            part = places[at : min(at + size, end)]
            bins = self.bin[part]
            good = self.state.ground.allowed[own, bins]
            for each in (CPU, MEMORY):
                if gain[each] > 0:
                    good = good & (self.spare[each, bins] >= gain[each])
            if good.any():
                return int(part[good.argmax()])
            at, size = at + size, size * 4
        return -1

    def _swap(self, one: int, other: int) -> None:
        both = [one, other]
        rows, bins = self.rows[both], self.bin[both]
        moved = self.need[:, self.of[one]] - self.need[:, self.of[other]]
        self.booked.bin[rows] = self.bin[both] = bins[::-1]
        for bin_, sign in zip(bins.tolist(), (1, -1), strict=True):
            change = sign * moved
            self.state.spend(bin_, -int(change[CPU]), -int(change[MEMORY]))
            self.spare[:, bin_] += change
