"""Room that lower ranks took: where a request of higher rank takes least of it back.

Keeps up to date what each bin would have with that, and what each class would have to
take there. It books nothing and gives nothing back.
"""

import numpy as np

from dorabatch.placer.arrays.bins import BinState
from dorabatch.placer.arrays.booked import Booked, Lower, Potential
from dorabatch.placer.arrays.types import WHOLE_GPU_MILLI, FloatArray, IntArray
from dorabatch.placer.plan.best_bin import ONE_BY_ONE, Engine, OneGroup

GPU_WEIGHT = 1e6
"""A GPU taken from others counts as so many milli-CPUs."""


class _Lacking(OneGroup):
    """The choice of claims: the bin where a class takes least from others.

    there[bin]: what would be free. It knows no Claims, so that all goes with those.
    """

    __slots__ = ("there",)

    def __init__(self, there: Potential) -> None:
        super().__init__(len(there.gpus))
        self.there = there

    def cost(self, state: BinState, index: int, bins: IntArray | slice) -> FloatArray:
        """cost[bin]: what class `index` would take from others there."""
        there = self.there
        gpus, free = there.gpus, state.free
        if state.classes.gpu_count[index] > 1 and state.ground.sisters:
            # GPUs of several accepted models on one node will do.
            owned = np.flatnonzero(state.ground.allowed[index])
            gpus = state.by_node(owned, gpus[owned]).astype(np.int64)
            free = state.by_node(owned, free[owned]).astype(np.int64)
        there = Potential(*(part[bins] for part in there._replace(gpus=gpus)))
        return _lacking(state, index, bins, there, free[bins])

    def cost_at(self, state: BinState, index: int, bin_: int) -> float:
        """The same for one bin."""
        there, classes, ground = self.there, state.classes, state.ground
        count, milli = classes.gpu_count.item(index), classes.gpu_milli.item(index)
        if count > 1 and ground.sisters:
            return self.cost(state, index, np.array([bin_])).item(0)
        need = ground.cpu_need[index].item(bin_)
        roomy = there.gpus.item(bin_) >= count or (
            milli < WHOLE_GPU_MILLI and there.rest.item(bin_) >= milli
        )
        if not (
            roomy
            and ground.allowed[index, bin_]
            and there.cpu.item(bin_) >= need
            and there.memory.item(bin_) >= ground.memory_need[index].item(bin_)
        ):
            return np.inf
        short = max(count - state.free.item(bin_), 0) * GPU_WEIGHT
        return short + max(need - state.cpu.item(bin_), 0)


class Claims:
    """What the booked rows behind a row hold, and where a class fits with that.

    Rows ask in rank order; `engine` says which bins change meanwhile.
    """

    __slots__ = ("_choice", "_costs", "_engine", "_fresh", "_lower", "_seen")

    def __init__(self, booked: Booked, engine: Engine, row: int, end: int) -> None:
        self._engine = engine
        self._lower = Lower(booked, row, end)
        self._costs: Engine | None = None
        self._choice: _Lacking | None = None
        # How far the engine's changes, and all changes, are known of.
        self._seen = self._fresh = 0

    def bin_for(self, row: int, index: int, within: IntArray | None) -> int:
        """The bin where class `index` fits with least taken from rows behind `row`.

        -1 = nowhere, or on none of the bins `within`.
        """
        self._note(self._lower.move_to(row))
        state = self._engine.state
        if within is None:
            return self._caught_up()[0].cheapest(index)
        if state.ground.sisters:
            costs = self._caught_up()[1].cost(state, index, within)
        else:
            there = self._lower.given_back(within)
            costs = _lacking(state, index, within, there, state.free[within])
        best = int(costs.argmin())
        return int(within[best]) if costs[best] < np.inf else -1

    def rows_on(self, bin_: int) -> list[int]:
        """Rows behind the last that asked on the node of a bin, the lowest first."""
        return self._lower.rows_on(bin_)

    def drop(self, rows: list[int]) -> None:
        """These rows were given back."""
        self._note(self._lower.drop(rows))

    def _note(self, bins: list[int]) -> None:
        if self._costs is not None:
            for bin_ in bins:
                self._costs.touch(bin_)

    def _caught_up(self) -> tuple[Engine, _Lacking]:
        """Costs and what bins would have now; those that changed are looked at anew."""
        every, lower = len(self._engine.state.free), self._lower
        if self._costs is None or self._choice is None:
            self._choice = _Lacking(lower.given_back(np.arange(every)))
            self._costs = Engine(self._engine.state, self._choice)
            self._seen = self._engine.changes
        for bin_ in self._engine.since(self._seen):
            self._costs.touch(bin_)
        self._seen = self._engine.changes
        stale, there = self._costs.since(self._fresh), self._choice.there
        self._fresh = self._costs.changes
        if len(stale) <= ONE_BY_ONE:
            for bin_ in set(stale):
                now = lower.given_back_at(bin_)
                for part, amount in zip(there, now, strict=True):
                    part[bin_] = amount
        else:
            bins = np.array(stale) if len(stale) * 4 <= every else np.arange(every)
            for part, amounts in zip(there, lower.given_back(bins), strict=True):
                part[bins] = amounts
        return self._costs, self._choice


def _lacking(
    state: BinState,
    index: int,
    bins: IntArray | slice,
    there: Potential,
    free: IntArray,
) -> FloatArray:
    """cost[bin]: GPUs, then CPUs that are short of free ones; infinite: more than that.

    `there` and free[bin] are those of `bins`.
    """
    classes, ground = state.classes, state.ground
    count, milli = classes.gpu_count.item(index), classes.gpu_milli.item(index)
    need = ground.cpu_need[index][bins]
    roomy = there.gpus >= count
    if milli < WHOLE_GPU_MILLI:
        roomy |= there.rest >= milli
    good = ground.allowed[index, bins] & roomy & (there.cpu >= need)
    good &= there.memory >= ground.memory_need[index][bins]
    short = np.maximum(count - free, 0) * GPU_WEIGHT
    short += np.maximum(need - state.cpu[bins], 0)
    return np.where(good, short, np.inf)
