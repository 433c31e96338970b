"""Rows of whole numbers by key, as columns that grow and shrink.

Adding or taking out a row costs the same however many there are; the order of rows
carries no meaning. Knows no lock: its owner has one.
"""

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

from dorabatch.queue.demand import IntArray

_FIRST_CAPACITY = 1024
_T = TypeVar("_T")


class Columns:
    """Named columns; the first holds the key."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names = tuple(names)
        self._values = np.zeros((len(names), _FIRST_CAPACITY), dtype=np.int64)
        self._row_of: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self._row_of)

    def put(self, row: Sequence[int]) -> None:
        """Add a row, or change the one with its key."""
        at = self._row_of.get(row[0])
        if at is None:
            at = len(self._row_of)
            if at == self._values.shape[1]:
                wider = np.zeros((len(self._names), 2 * at), dtype=np.int64)
                wider[:, :at] = self._values
                self._values = wider
            self._row_of[row[0]] = at
        self._values[:, at] = row

    def drop(self, key: int) -> None:
        """Take a row out; nothing happens when there is none."""
        at = self._row_of.pop(key, None)
        if at is None:
            return
        last = len(self._row_of)
        if at != last:
            self._values[:, at] = self._values[:, last]
            self._row_of[int(self._values[0, at])] = at

    def copy(self) -> dict[str, IntArray]:
        """The columns as they are now, by name."""
        copied = self._values[:, : len(self._row_of)].copy()
        return dict(zip(self._names, copied, strict=True))


def number_of(numbers: dict[_T, int], value: _T) -> int:
    """The number that stands for a value in a column; a new value gets the next."""
    return numbers.setdefault(value, len(numbers))
