"""Rows of costs that find their cheapest bin without looking at every bin.

A row lies group by group, in blocks, and keeps the least of each block. It holds
numbers only; it knows neither nodes nor requests.
"""

import numpy as np

from dorabatch.placer.arrays.types import FloatArray, IntArray

BLOCK = 64
"""Bins of one block."""

FEW = 2048
"""Of fewer bins than this each is a block of its own."""


class Lanes:
    """How bins lie in a row.

    bins[place]: -1 where a group's last block is not full; place[bin]; start[group]:
    its first block; width: bins of a block.
    """

    __slots__ = ("bins", "ends", "place", "start", "width")

    def __init__(self, order: IntArray, start: IntArray) -> None:
        """Groups of bins: `order` names the bins group by group, none is empty."""
        count = len(order)
        self.width = 1 if count < FEW else BLOCK
        sizes = np.diff(start, append=count)
        blocks = -(-sizes // self.width)
        ends = np.cumsum(blocks)
        self.start = ends - blocks
        self.ends = ends.tolist()
        shift = np.repeat(self.start * self.width - start, sizes)
        places = np.arange(count) + shift
        self.place = np.empty(count, dtype=np.int64)
        self.place[order] = places
        self.bins = np.full(int(ends[-1]) * self.width, -1, dtype=np.int64)
        self.bins[places] = order


class OneGroup:
    """A choice among all bins in their order: the cheapest, while there is room."""

    __slots__ = ("_lanes",)

    def __init__(self, bins: int) -> None:
        self._lanes = Lanes(np.arange(bins), np.zeros(1, dtype=np.int64))

    def lanes(self, _index: int) -> Lanes:
        """All bins are of one group."""
        return self._lanes

    def pick(self, _index: int, least: FloatArray) -> int:
        """That group; -1 where no bin will do."""
        return 0 if least.item(0) < np.inf else -1


class CostRow:
    """cost[bin] of one class, infinite where it does not fit."""

    __slots__ = ("_blocks", "_cells", "_lanes", "_least")

    def __init__(self, lanes: Lanes, costs: FloatArray) -> None:
        self._lanes = lanes
        self._cells = np.full(len(lanes.bins), np.inf)
        self._blocks = self._cells.reshape(-1, lanes.width)
        self.renew(costs)

    def renew(self, costs: FloatArray) -> None:
        """Set all costs: costs[bin]."""
        self._cells[self._lanes.place] = costs
        # Blocks of one are their own least.
        single = self._lanes.width == 1
        self._least = self._cells if single else self._blocks.min(axis=1)

    def put(self, bin_: int, cost: float) -> None:
        """Set the cost of one bin."""
        place = self._lanes.place.item(bin_)
        block = place // self._lanes.width
        before, least = self._cells.item(place), self._least.item(block)
        self._cells[place] = cost
        if cost <= least:
            self._least[block] = cost
        elif before == least:
            self._least[block] = self._blocks[block].min()

    def put_many(self, bins: IntArray, costs: FloatArray) -> None:
        """Set costs[i] of bins[i]; equal bins have equal costs."""
        places = self._lanes.place[bins]
        self._cells[places] = costs
        if self._lanes.width > 1:
            blocks = places // self._lanes.width
            self._least[blocks] = self._blocks[blocks].min(axis=1)

    def by_group(self) -> FloatArray:
        """least[group]."""
        return np.minimum.reduceat(self._least, self._lanes.start)

    def cheapest(self, group: int) -> int:
        """The first bin of least cost in a group, in the order that Lanes was given."""
        lanes = self._lanes
        start = lanes.start.item(group)
        block = start + int(self._least[start : lanes.ends[group]].argmin())
        place = block * lanes.width
        if lanes.width > 1:
            place += int(self._blocks[block].argmin())
        return lanes.bins.item(place)

    def by_bin(self) -> FloatArray:
        """cost[bin]."""
        return self._cells[self._lanes.place]
