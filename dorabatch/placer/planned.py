"""The default policy's choice: the shape by plan, the node by expected waste.

A class goes to the shape it is most behind its planned share on; inside the shape to
the node where the fewest GPUs are expected to be stranded. It books nothing.
"""

import numpy as np

from dorabatch.placer.arrays import WHOLE_GPU_MILLI, FloatArray, IntArray
from dorabatch.placer.ground import State
from dorabatch.placer.outlook import Outlook

UNIT = 0.02
"""Waste is compared in steps of this many GPUs; equal steps go to the first node."""

LEFT_FREE = 12.0
"""What it costs, in steps, to take from a node that is all free, not one nearly full:
nodes are used up one after another, so that whole ones come free as work ends."""

FRESH = 0.05
"""What it costs, in GPUs, to open another GPU for a share."""

BESIDE = 0.4
"""What it costs, in steps, to put a CPU request beside free GPUs."""

TIGHT = 1e-6
"""What a milli-CPU left over costs a CPU request, in steps: it decides ties only."""

KEPT = 1000.0
"""What it costs, in steps, to break a node kept for a request that needs it all."""


class Planned:
    """Costs by expected waste, and the turn of each class among shapes."""

    __slots__ = (
        "_bins",
        "_credit",
        "cpu_only",
        "has_shares",
        "outlook",
    )

    def __init__(self, outlook: Outlook, state: State) -> None:
        self.outlook = outlook
        self.has_shares = bool(outlook.share_below[-1] > 0) and bool(
            (state.classes.gpu_milli < WHOLE_GPU_MILLI).any()
        )
        self.cpu_only = state.classes.gpu_count == 0
        self._credit = np.zeros_like(outlook.share)
        shapes = outlook.shapes
        self._bins = np.split(shapes.order, shapes.start[1:])

    def pick(self, index: int, row: FloatArray) -> int:
        """The bin for one more request of class `index`, or -1."""
        if self.cpu_only[index]:
            bin_ = int(row.argmin())
            return bin_ if row[bin_] < np.inf else -1
        credit = self._credit[index]
        credit += self.outlook.share[index]
        for shape in np.argsort(-credit, kind="stable").tolist():
            bins = self._bins[shape]
            bin_ = int(bins[row[bins].argmin()])
            if row[bin_] < np.inf:
                credit[shape] -= 1.0
                return bin_
        return -1

    def cost(self, state: State, index: int, bins: IntArray | slice) -> FloatArray:
        """cost[bin]: growth of expected waste in steps, infinite where no room."""
        fits = state.fits(index, bins)
        result = np.full(len(fits), np.inf)
        good = np.flatnonzero(fits)
        if len(good):
            where = good if isinstance(bins, slice) else bins[good]
            result[good] = self._steps(state, index, where)
        return result

    def _steps(self, state: State, index: int, bins: IntArray) -> FloatArray:
        free, cpu, memory = state.free[bins], state.cpu[bins], state.memory[bins]
        shape = self.outlook.shape[bins]
        if self.has_shares:
            free = free + self._usable_rests(state, bins)
        before = self._stranded(shape, free, cpu, memory)
        count = int(state.classes.gpu_count[index])
        cpu_left = cpu - state.ground.cpu_need[index][bins]
        memory_left = memory - state.ground.memory_need[index][bins]
        taken: IntArray = np.full(len(free), count)
        slots = np.zeros(len(free))
        if count and state.classes.gpu_milli[index] < WHOLE_GPU_MILLI:
            taken, slots = self._slots(state, index, bins)
        after = self._stranded(shape, free - taken, cpu_left, memory_left)
        steps = np.rint((after - before + slots) / UNIT)
        if count == 0:
            # What GPUs leave over is used up first, the smallest rest that is enough.
            return np.asarray(steps + BESIDE * (free > 0) + cpu_left * TIGHT)
        total = state.ground.total[bins, 0]
        untouched = state.free[bins] == total
        steps = steps + LEFT_FREE * (state.free[bins] - taken) / np.maximum(total, 1)
        # What needs more than half a node goes to the kept ones, all else elsewhere.
        toll = np.where(2 * count > total, -KEPT, KEPT)
        kept = self.outlook.kept[bins] & untouched
        return np.asarray(steps + toll * kept, dtype=np.float64)

    def _stranded(
        self, shape: IntArray, free: IntArray, cpu: IntArray, memory: IntArray
    ) -> FloatArray:
        """GPUs expected to stay idle for want of CPUs or memory."""
        by_cpu = self.outlook.by_cpu.at(shape, free, cpu)
        return np.maximum(by_cpu, self.outlook.by_memory.at(shape, free, memory))

    def _slots(
        self, state: State, index: int, bins: IntArray
    ) -> tuple[IntArray, FloatArray]:
        """GPUs newly opened, and growth of rests nobody can use, at the best slot."""
        milli = int(state.classes.gpu_milli[index])
        rests = np.maximum(state.rest[bins], 0)
        roomy = rests >= milli
        growth = self._idle_rest(rests - milli) - self._idle_rest(rests)
        # The slot State takes is the smallest rest that is enough.
        best = np.where(roomy, rests, 2 * WHOLE_GPU_MILLI).argmin(axis=1)
        each = np.arange(len(rests))
        found = roomy[each, best]
        fresh = self._idle_rest(np.array([WHOLE_GPU_MILLI - milli]))[0]
        grown = np.where(found, growth[each, best], fresh + FRESH)
        return np.where(found, 0, 1), grown

    def _usable_rests(self, state: State, bins: IntArray) -> IntArray:
        """GPUs' worth of opened GPUs that shares to come are expected to use."""
        rests = np.maximum(state.rest[bins], 0)
        useful = rests * self.outlook.share_below[rests]
        return np.asarray(-(-useful.sum(axis=1) // WHOLE_GPU_MILLI), dtype=np.int64)

    def _idle_rest(self, rest: IntArray) -> FloatArray:
        rest = np.clip(rest, 0, WHOLE_GPU_MILLI)
        useless = 1.0 - self.outlook.share_below[rest]
        return np.asarray(rest / WHOLE_GPU_MILLI * useless, dtype=np.float64)
