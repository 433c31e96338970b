"""How much a place costs: lower is better, infinite where it does not fit.

One function per term. It never books and never chooses.
"""

from collections.abc import Callable

import numpy as np

from dorabatch.placer.arrays.bins import BinState
from dorabatch.placer.arrays.cost_rows import OneGroup
from dorabatch.placer.arrays.types import WHOLE_GPU_MILLI, FloatArray, IntArray


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
