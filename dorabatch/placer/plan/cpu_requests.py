"""Requests without GPUs: nodes filled with what uses best what GPUs do not need.

Nodes without free GPUs come first, the least room first, so that large rooms stay
whole. Knows no rank; what finds no room is handed back.
"""

import numpy as np

from dorabatch.placer.arrays.bins import BinState, needs_at
from dorabatch.placer.arrays.types import SHARE, WHOLE_GPU_MILLI, FloatArray, IntArray
from dorabatch.placer.plan.demand_outlook import CPU_STEP, DemandOutlook
from dorabatch.placer.plan.share_packing import Pattern, fullest

MANY = 256
"""Where fewer find no room beside what GPUs need, each is placed at the least loss."""


def without_gpus(state: BinState, outlook: DemandOutlook, of: IntArray) -> IntArray:
    """bin[row] for CPU requests of classes of[row], -1 = nowhere; they are booked."""
    found = np.full(len(of), -1, dtype=np.int64)
    if len(of) == 0:
        return found
    room, idle = room_beside(state, outlook)
    _in_turn(state, (room, idle), of, found)
    left = np.flatnonzero(found < 0)
    if len(left) >= MANY:
        # So many would be placed in spite of GPUs one by one: as well together.
        room = (state.cpu // CPU_STEP).astype(np.int64)
        rest = found[left]
        _in_turn(state, (room, state.free / np.maximum(room, 1)), of[left], rest)
        found[left] = rest
    return found


def _in_turn(
    state: BinState,
    bins: tuple[IntArray, IntArray | FloatArray],
    of: IntArray,
    found: IntArray,
) -> None:
    """Place what finds room[bin] (steps of CPUs), on bins of least cost[bin] first."""
    classes, ground = state.classes, state.ground
    room, cost = bins
    kinds = np.flatnonzero(np.bincount(of, minlength=len(classes)))
    sort = ground.sort[kinds]
    sorts = np.flatnonzero(np.bincount(sort))
    reach = ground.sorts[sorts].sum(axis=1)
    # Who may use the fewest nodes chooses first.
    for one in sorts[np.argsort(reach, kind="stable")].tolist():
        some = kinds[sort == one]
        some = some[np.argsort(-classes.cpu_milli[some], kind="stable")]
        able = np.flatnonzero(ground.sorts[one] & (room > 0))
        able = able[np.lexsort((room[able], cost[able]))]
        _fill(state, (some, able, room), of, found)


def room_beside(state: BinState, outlook: DemandOutlook) -> tuple[IntArray, IntArray]:
    """room[bin] in steps of CPUs beside what its GPUs will ask for, and GPUs free."""
    mean = (outlook.cpu_mean + outlook.cpu_spread)[outlook.shape]
    rests = np.maximum(state.rest, 0)
    free = state.free * 1.0
    if rests.any():
        # Of an opened GPU counts what shares to come are expected to use.
        useful = (rests * outlook.share_below[rests]).sum(axis=1)
        free += useful / WHOLE_GPU_MILLI
    kept, idle = free * mean, state.free > 0
    if state.ground.sisters:
        every = np.arange(len(free))
        kept = state.by_node(every, kept)
        idle = state.by_node(every, state.free) > 0
    room = np.maximum((state.cpu - kept) // CPU_STEP, 0).astype(np.int64)
    return room, idle.astype(np.int64)


def _fill(
    state: BinState,
    asked: tuple[IntArray, IntArray, IntArray],
    of: IntArray,
    found: IntArray,
) -> None:
    """Fill bins in turn with requests of `kinds` (largest first); books them."""
    kinds, bins, room = asked
    waiting = _WaitingCpus(state, kinds, of)
    bins = bins[room[bins] >= min(waiting.sizes)]
    if len(bins) == 0:
        return
    starts = np.flatnonzero(np.diff(room[bins], prepend=-1))
    units = room[bins[starts]].tolist()
    ends = [*starts[1:].tolist(), len(bins)]
    for start, end, most in zip(starts.tolist(), ends, units, strict=True):
        some = bins[start:end]
        while len(some) and waiting.left:
            pattern = fullest(most, waiting.sizes, waiting.counts)
            if not pattern:
                break
            some = waiting.roomy(pattern, some)
            times = waiting.take(pattern, some)
            taken, some = some[:times], some[times:]
            room[taken] -= waiting.size_of(pattern)
        if not waiting.left:
            break
    rows, at = waiting.taken()
    found[rows] = at
    state.spend_many(at, *needs_at(state.classes, state.ground, of[rows], at))


class _WaitingCpus:
    """Requests of some kinds, by kind, and the bins that the first of each got."""

    __slots__ = (
        "_bin",
        "_kinds",
        "_memory",
        "_next",
        "_rows",
        "_state",
        "counts",
        "left",
        "sizes",
    )

    def __init__(self, state: BinState, kinds: IntArray, of: IntArray) -> None:
        classes = state.classes
        place = np.full(len(classes), len(kinds), dtype=np.int64)
        place[kinds] = np.arange(len(kinds))
        kind = place[of]
        counts = np.bincount(kind, minlength=len(kinds))[: len(kinds)]
        self._rows = np.argsort(kind, kind="stable")[: int(counts.sum())]
        self._bin = np.full(len(self._rows), -1, dtype=np.int64)
        self._next: list[int] = (np.cumsum(counts) - counts).tolist()
        self._state = state
        self._memory: list[int] = classes.memory_mib[kinds].tolist()
        self._kinds: list[int] = kinds.tolist()
        self.counts: list[int] = counts.tolist()
        self.sizes: list[int] = (-(-classes.cpu_milli[kinds] // CPU_STEP)).tolist()
        self.left = len(self._rows)

    def roomy(self, pattern: Pattern, bins: IntArray) -> IntArray:
        """Those of the bins that have the memory a pattern asks for."""
        own, needs = self._state.memory[bins], self._state.ground.memory_need
        need: int | IntArray = 0
        for kind, many in pattern:
            fixed = self._memory[kind]
            each = needs[self._kinds[kind]][bins] if fixed == SHARE else fixed
            need = need + each * many
        return bins[own >= need]

    def size_of(self, pattern: Pattern) -> int:
        """Steps of CPUs that a pattern asks for."""
        return sum(self.sizes[kind] * many for kind, many in pattern)

    def take(self, pattern: Pattern, bins: IntArray) -> int:
        """Put a pattern on each of the first bins, as far as there are enough left.

        Returns on how many.
        """
        times = min(len(bins), *(self.counts[kind] // many for kind, many in pattern))
        for kind, many in pattern:
            count, first = many * times, self._next[kind]
            self._bin[first : first + count] = np.repeat(bins[:times], many)
            self._next[kind] += count
            self.counts[kind] -= count
            self.left -= count
        return times

    def taken(self) -> tuple[IntArray, IntArray]:
        """(rows, bins) of all that found a place."""
        done = self._bin >= 0
        return self._rows[done], self._bin[done]
