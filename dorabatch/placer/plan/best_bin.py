"""Cost rows kept up to date: the best bin for a class, one request at a time.

Only bins touched since a class was last asked for are scored again. It chooses the
cheapest bin, books through State, and knows nothing of ranks or groups.
"""

from typing import Protocol

import numpy as np

from dorabatch.placer.arrays.bins import BinHold, BinState
from dorabatch.placer.arrays.cost_rows import CostRow, Lanes
from dorabatch.placer.arrays.types import FloatArray, IntArray

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
