"""The best bin for a class, one request at a time: bins in lanes, costs kept.

Only bins touched since a class was last asked for are scored again, and of 64 bins in a
row the least cost is kept. It chooses the cheapest by the costs of a `BinChoice`, books
through the state of the bins, and knows nothing of ranks or groups.
"""

from typing import Protocol

import numpy as np

from dorabatch.placer.arrays.bins import BinHold, BinState
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


EVERYTHING = slice(None)

ONE_BY_ONE = 12
"""Up to so many bins are scored one by one, which is dearer for each but the first."""


class BinChoice(Protocol):
    """What a class may cost where, and in which group of bins it goes next."""

    def cost(self, state: BinState, index: int, bins: IntArray | slice) -> FloatArray:
        """cost[bin] of class `index`, infinite where it does not fit."""

    def cost_at(self, state: BinState, index: int, bin_: int) -> float:
        """The same number for one bin."""

    def lanes(self, index: int) -> Lanes:
        """The groups of bins that `pick` chooses from."""

    def pick(self, index: int, least: FloatArray) -> int:
        """The group for one more of class `index` by least[group]; -1 = none."""


class Engine:
    """A State, a choice and one cost row per class asked for so far."""

    __slots__ = ("_choice", "_log", "_rows", "_seen", "state")

    def __init__(self, state: BinState, choice: BinChoice) -> None:
        self.state = state
        self._choice = choice
        self._rows: dict[int, CostRow] = {}
        self._seen: dict[int, int] = {}
        self._log: list[int] = []

    def costs(self, index: int) -> FloatArray:
        """cost[bin] of class `index` now."""
        return self._row(index).by_bin()

    def _row(self, index: int) -> CostRow:
        row = self._rows.get(index)
        end, state, choice = len(self._log), self.state, self._choice
        if row is None:
            costs = choice.cost(state, index, EVERYTHING)
            self._rows[index] = row = CostRow(choice.lanes(index), costs)
        elif self._seen[index] != end:
            touched = self._log[self._seen[index] :]
            if len(touched) <= ONE_BY_ONE:
                for bin_ in set(touched):
                    row.put(bin_, choice.cost_at(state, index, bin_))
            elif len(touched) * 4 > len(state.free):
                row.renew(choice.cost(state, index, EVERYTHING))
            else:
                bins = np.array(touched)
                row.put_many(bins, choice.cost(state, index, bins))
        self._seen[index] = end
        return row

    def best(self, index: int) -> int:
        """The cheapest bin for class `index`, or -1 where none has room."""
        if len(self.state.free) == 0:
            return -1
        bin_ = self.cheapest(index)
        return bin_ if bin_ >= 0 else self.mixed(index)

    def cheapest(self, index: int) -> int:
        """The same, where all its GPUs are of one model."""
        row = self._row(index)
        group = self._choice.pick(index, row.by_group())
        return row.cheapest(group) if group >= 0 else -1

    def mixed(self, index: int) -> int:
        """The first bin whose node holds enough GPUs of several models, or -1."""
        if not self.state.ground.sisters:
            return -1
        fits = self.state.fits_mixed(index)
        return int(fits.argmax()) if fits.any() else -1

    def put(self, index: int, bin_: int) -> BinHold:
        """Book class `index` on `bin_`."""
        hold = self.state.put(index, bin_)
        self.touch(bin_)
        return hold

    def take(self, hold: BinHold) -> None:
        """Book a hold made elsewhere."""
        self.state.take(hold)
        self.touch(hold.bin)

    def give_back(self, hold: BinHold) -> None:
        """Undo a hold."""
        self.state.give_back(hold)
        self.touch(hold.bin)

    @property
    def changes(self) -> int:
        """How often a bin changed so far."""
        return len(self._log)

    def since(self, changes: int) -> list[int]:
        """The bins that changed after so many changes."""
        return self._log[changes:]

    def forget(self) -> None:
        """Many bins changed: score all anew."""
        self._rows.clear()
        self._seen.clear()
        self._log.clear()

    def touch(self, bin_: int) -> None:
        """Note that a bin changed."""
        self._log.append(bin_)
        sisters = self.state.ground.sisters
        if bin_ in sisters:
            self._log.extend(sisters[bin_])
