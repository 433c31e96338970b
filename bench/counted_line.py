"""The order of what waits, kept between two rankings of all.

Who joins between them is put where its keys belong. Ranks nobody itself.
"""

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int64]


class Line:
    """Rows that wait or are on trial, best first.

    behind[row]  priority with its sign turned round: the least stands first
    area[row]    predicted run x GPUs, the least first among equals; then the row
    is_open[row] may have a place
    """

    def __init__(self, count: int) -> None:
        self.behind = np.zeros(count, dtype=np.int64)
        self.area = np.zeros(count)
        self.is_open = np.zeros(count, dtype=np.bool_)
        self._keys = (self.behind, self.area, np.arange(count))
        self._order = np.zeros(0, dtype=np.int64)
        self._joined: set[int] = set()

    def join(self, row: int) -> None:
        """From now on a row is open; with a place from before it gets a new one."""
        self.is_open[row] = True
        self._joined.add(row)

    def rows(self) -> IntArray:
        """All that are open, by number."""
        return np.flatnonzero(self.is_open)

    def newcomers(self) -> IntArray:
        """Those of them that joined since the last order, by number."""
        rows = [row for row in sorted(self._joined) if self.is_open[row]]
        return np.array(rows, dtype=np.int64)

    def set_order(self, order: IntArray) -> None:
        """All that are open have been ranked anew."""
        self._order = order
        self._joined.clear()

    def order(self) -> IntArray:
        """Best first, with those that joined where they belong by their keys."""
        order = self._order
        rows = self.newcomers()
        # A newcomer may still have its place from before.
        self.is_open[rows] = False
        order = order[self.is_open[order]]
        self.is_open[rows] = True
        self.set_order(self._put_in(order, rows))
        return self._order

    def _put_in(self, order: IntArray, rows: IntArray) -> IntArray:
        for row in rows.tolist():
            low, high = 0, len(order)
            for key in self._keys:
                tied = key[order[low:high]]
                high = low + int(tied.searchsorted(key[row], side="right"))
                low += int(tied.searchsorted(key[row], side="left"))
                if low == high:
                    break
            order = np.concatenate([order[:low], [row], order[low:]])
        return order
