"""What a bin costs, by policy: by plan and expected waste, best-fit, first-fit.

By default a class goes to the shape it is most behind its planned share on; inside the
shape to the node where the fewest GPUs are expected to be stranded. It books nothing.
"""

from collections.abc import Callable

import numpy as np

from dorabatch.placer.arrays.bins import BinState
from dorabatch.placer.arrays.types import WHOLE_GPU_MILLI, FloatArray, IntArray
from dorabatch.placer.plan.best_bin import Lanes, OneGroup
from dorabatch.placer.plan.demand_outlook import DemandOutlook

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

FINE = 1 << 20
"""What shares are expected to use is counted in such parts of a thousandth GPU."""

KEPT = 1000.0
"""What it costs, in steps, to break a node kept for a request that needs it all."""


class Planned:
    """Costs by expected waste, and the turn of each class among shapes."""

    __slots__ = (
        "_credit",
        "_every",
        "_idle",
        "_shapes",
        "_useful",
        "cpu_only",
        "has_shares",
        "outlook",
    )

    def __init__(self, outlook: DemandOutlook, state: BinState) -> None:
        self.outlook = outlook
        below = outlook.share_below
        self.has_shares = bool(below[-1] > 0) and bool(
            (state.classes.gpu_milli < WHOLE_GPU_MILLI).any()
        )
        rest = np.arange(WHOLE_GPU_MILLI + 1)
        # Of a rest of so many thousandths: GPUs nobody can use, and what shares use.
        self._idle = rest / WHOLE_GPU_MILLI * (1.0 - below)
        self._useful: IntArray = np.rint(rest * below * FINE).astype(np.int64)
        self.cpu_only = state.classes.gpu_count == 0
        self._credit = np.zeros_like(outlook.share)
        self._shapes: Lanes | None = None
        self._every: OneGroup | None = None

    def lanes(self, index: int) -> Lanes:
        """A group for each shape; requests without GPUs go to the best of all bins."""
        shapes = self.outlook.shapes
        if self.cpu_only[index]:
            return self._all().lanes(index)
        self._shapes = self._shapes or Lanes(shapes.order, shapes.start)
        return self._shapes

    def pick(self, index: int, least: FloatArray) -> int:
        """The group for one more request of class `index`, or -1."""
        if self.cpu_only[index]:
            return self._all().pick(index, least)
        credit = self._credit[index]
        credit += self.outlook.share[index]
        shape = int(np.where(least < np.inf, credit, -np.inf).argmax())
        if least.item(shape) == np.inf:
            return -1
        credit[shape] -= 1.0
        return shape

    def _all(self) -> OneGroup:
        self._every = self._every or OneGroup(len(self.outlook.shape))
        return self._every

    def cost(self, state: BinState, index: int, bins: IntArray | slice) -> FloatArray:
        """cost[bin]: growth of expected waste in steps, infinite where no room."""
        fits = state.fits(index, bins)
        result = np.full(len(fits), np.inf)
        good = np.flatnonzero(fits)
        if len(good):
            where = good if isinstance(bins, slice) else bins[good]
            result[good] = self._steps(state, index, where)
        return result

    def _steps(self, state: BinState, index: int, bins: IntArray) -> FloatArray:
        free, cpu, memory = state.free[bins], state.cpu[bins], state.memory[bins]
        shape = self.outlook.shape[bins]
        if self.has_shares:
            # GPUs' worth of opened GPUs that shares to come are expected to use.
            useful = self._useful[np.maximum(state.rest[bins], 0)].sum(axis=1)
            free = free - -useful // (WHOLE_GPU_MILLI * FINE)
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

    def cost_at(self, state: BinState, index: int, bin_: int) -> float:
        """As `cost`: for one bin plain numbers take a tenth of the time of arrays."""
        if not state.fits_at(index, bin_):
            return np.inf
        free_now, cpu = state.free.item(bin_), state.cpu.item(bin_)
        memory, free = state.memory.item(bin_), free_now
        shape = self.outlook.shape.item(bin_)
        rests: list[int] = state.rest[bin_].tolist()
        if self.has_shares:
            useful = sum(self._useful.item(rest) for rest in rests if rest > 0)
            free -= -useful // (WHOLE_GPU_MILLI * FINE)
        count, slots = state.classes.gpu_count.item(index), 0.0
        cpu_left = cpu - state.ground.cpu_need[index].item(bin_)
        memory_left = memory - state.ground.memory_need[index].item(bin_)
        taken = count
        if count and state.classes.gpu_milli.item(index) < WHOLE_GPU_MILLI:
            taken, slots = self._slot(state.classes.gpu_milli.item(index), rests)
        at = self.outlook.by_cpu.one, self.outlook.by_memory.one
        before = max(at[0](shape, free, cpu), at[1](shape, free, memory))
        free -= taken
        after = max(at[0](shape, free, cpu_left), at[1](shape, free, memory_left))
        steps = float(round((after - before + slots) / UNIT))
        if count == 0:
            return steps + BESIDE * (free > 0) + cpu_left * TIGHT
        total = state.ground.total.item(bin_, 0)
        steps += LEFT_FREE * (free_now - taken) / max(total, 1)
        if free_now == total and self.outlook.kept[bin_]:
            steps += -KEPT if 2 * count > total else KEPT
        return steps

    def _stranded(
        self, shape: IntArray, free: IntArray, cpu: IntArray, memory: IntArray
    ) -> FloatArray:
        """GPUs expected to stay idle for want of CPUs or memory."""
        by_cpu = self.outlook.by_cpu.at(shape, free, cpu)
        return np.maximum(by_cpu, self.outlook.by_memory.at(shape, free, memory))

    def _slots(
        self, state: BinState, index: int, bins: IntArray
    ) -> tuple[IntArray, FloatArray]:
        """GPUs newly opened, and growth of rests nobody can use, at the best slot."""
        milli = int(state.classes.gpu_milli[index])
        rests = state.rest[bins]
        # The slot State takes is the smallest rest that is enough.
        enough = np.where(rests >= milli, rests, 2 * WHOLE_GPU_MILLI)
        best = enough.min(axis=1)
        found = best <= WHOLE_GPU_MILLI
        best = np.where(found, best, WHOLE_GPU_MILLI)
        grown = self._idle[best - milli] - np.where(found, self._idle[best], -FRESH)
        return np.where(found, 0, 1), grown

    def _slot(self, milli: int, rests: list[int]) -> tuple[int, float]:
        """As `_slots`, for one bin."""
        best = min((rest for rest in rests if rest >= milli), default=-1)
        if best < 0:
            return 1, self._idle.item(WHOLE_GPU_MILLI - milli) + FRESH
        return 0, self._idle.item(best - milli) - self._idle.item(best)


def best_fit(state: BinState, index: int, bins: IntArray | slice) -> FloatArray:
    """cost[bin]: GPUs left free first, then CPUs left, then a share's left-over."""
    fits = state.fits(index, bins)
    count = int(state.classes.gpu_count[index])
    cpu_left = state.cpu[bins] - state.ground.cpu_need[index][bins]
    cost = state.free[bins] * 1.0 + cpu_left * 1e-9
    if count and int(state.classes.gpu_milli[index]) < WHOLE_GPU_MILLI:
        cost = cost + _slot_gap(state, index, bins)
    elif count == 0:
        # A CPU request takes CPUs where they are plenty beside the free GPUs.
        cost = cost * 1e6 - cpu_left * 1e-3
    return np.where(fits, cost, np.inf)


def _slot_gap(state: BinState, index: int, bins: IntArray | slice) -> FloatArray:
    """What stays of the best slot in GPUs; a newly opened GPU counts as one more."""
    milli = int(state.classes.gpu_milli[index])
    rests = state.rest[bins]
    gaps = np.where(rests >= milli, rests - milli, 2 * WHOLE_GPU_MILLI)
    gap = gaps.min(axis=1, initial=2 * WHOLE_GPU_MILLI)
    return np.asarray(gap / WHOLE_GPU_MILLI * 100.0, dtype=np.float64)


def first_fit(state: BinState, index: int, bins: IntArray | slice) -> FloatArray:
    """cost[bin]: the first node in the stated order that fits."""
    fits = state.fits(index, bins)
    where = np.arange(len(state.free), dtype=np.float64)[bins]
    return np.where(fits, where, np.inf)


Cost = Callable[[BinState, int, IntArray | slice], FloatArray]


def cost_for(policy_name: str) -> Cost:
    """The cost a policy places by."""
    return first_fit if policy_name in {"first-fit", "random"} else best_fit


class Scored(OneGroup):
    """A choice for the engine: the cheapest of all bins by a cost."""

    __slots__ = ("cost",)

    def __init__(self, cost: Cost, bins: int) -> None:
        super().__init__(bins)
        self.cost = cost

    def cost_at(self, state: BinState, index: int, bin_: int) -> float:
        """The cost of one bin."""
        return self.cost(state, index, np.array([bin_])).item(0)
