"""Cost rows kept up to date: the best bin for a class, one request at a time.

Only bins touched since a class was last asked for are scored again. It chooses the
cheapest bin, books through State, and knows nothing of ranks or groups.
"""

from collections.abc import Callable

import numpy as np

from dorabatch.placer.arrays import FloatArray, IntArray
from dorabatch.placer.ground import Hold, State

Cost = Callable[[State, int, IntArray | slice], FloatArray]

Pick = Callable[[int, FloatArray], int]

EVERYTHING = slice(None)


def cheapest(_index: int, row: FloatArray) -> int:
    """The first bin of least cost, or -1 where none has room."""
    bin_ = int(row.argmin())
    return bin_ if row[bin_] != np.inf else -1


class Engine:
    """A State, a cost and one cost row per class asked for so far."""

    __slots__ = ("_cost", "_log", "_pick", "_rows", "_seen", "state")

    def __init__(self, state: State, cost: Cost, pick: Pick | None = None) -> None:
        self.state = state
        self._cost = cost
        self._pick = pick or cheapest
        self._rows: dict[int, FloatArray] = {}
        self._seen: dict[int, int] = {}
        self._log: list[int] = []

    def row(self, index: int) -> FloatArray:
        """cost[bin] of class `index` now."""
        row = self._rows.get(index)
        end = len(self._log)
        if row is None:
            row = self._cost(self.state, index, EVERYTHING)
            self._rows[index] = row
        elif self._seen[index] != end:
            touched = self._log[self._seen[index] :]
            if len(touched) * 4 > len(row):
                row[:] = self._cost(self.state, index, EVERYTHING)
            else:
                bins = np.array(touched)
                row[bins] = self._cost(self.state, index, bins)
        self._seen[index] = end
        return row

    def best(self, index: int) -> int:
        """The cheapest bin for class `index`, or -1 where none has room."""
        row = self.row(index)
        if len(row) == 0:
            return -1
        bin_ = self._pick(index, row)
        if bin_ >= 0:
            return bin_
        return self.mixed(index)

    def mixed(self, index: int) -> int:
        """The first bin whose node holds enough GPUs of several models, or -1."""
        if not self.state.ground.sisters:
            return -1
        fits = self.state.fits_mixed(index)
        return int(fits.argmax()) if fits.any() else -1

    def put(self, index: int, bin_: int) -> Hold:
        """Book class `index` on `bin_`."""
        hold = self.state.put(index, bin_)
        self.touch(bin_)
        return hold

    def take(self, hold: Hold) -> None:
        """Book a hold made elsewhere."""
        self.state.take(hold)
        self.touch(hold.bin)

    def give_back(self, hold: Hold) -> None:
        """Undo a hold."""
        self.state.give_back(hold)
        self.touch(hold.bin)

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
