"""How much may be held at once, and who of a queue still may, one after the other.

Pure: limits and rows in, an answer for each row out. What each row asks for and whose
limits it counts in, the caller says; knows no user, no workload and no node, and starts
nothing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

WITHIN = -1
"""In Kept.level: no limit keeps the row."""
NO_LIMIT = 1 << 60
_SMALL = 1 << 16
_BLOCK = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class UseLimits:
    """What may be held at once; None, and no entry: as much as there is.

    gpus_of_accounts[account] is for all users below it together.
    """

    gpus_per_user: int | None = None
    running_per_user: int | None = None
    gpus_of_accounts: Mapping[str, int] = field(default_factory=dict)


UNLIMITED = UseLimits()


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """Limits side by side: each row counts in one of them.

    group[row] is whose limit, amount[row] what the row adds; most[group] is the limit
    (NO_LIMIT: none) and held[group] what is held already. An amount of 0 always fits.
    """

    group: IntArray
    amount: IntArray
    most: IntArray
    held: IntArray


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """Which limit keeps each row.

    level[row] is its level, WITHIN where none does; used[row] is what was held or taken
    by rows before it then.
    """

    level: IntArray
    used: IntArray


def kept_by(levels: Sequence[Level], count: int) -> Kept:
    """Let rows take of their limits in their order; what does not fit is passed over.

    What fits beside all that is held and taken is within; so all rows that are within
    never exceed a limit together, and what is kept fits beside none of them.
    """
    taking = _Taking(levels, count)
    first, size = 0, _BLOCK
    while first < count:
        # The first rows mostly fill the limits: the blocks after them only look.
        taking.block(first, min(first + size, count))
        first, size = first + size, 2 * size
    return Kept(level=taking.level_of, used=taking.used_of)


class _Taking:
    """Limits while rows take of them, block by block in their order."""

    def __init__(self, levels: Sequence[Level], count: int) -> None:
        self.level_of = np.full(count, WITHIN, dtype=np.int64)
        self.used_of = np.zeros(count, dtype=np.int64)
        self._levels = [(one, one.held.copy()) for one in levels]

    def block(self, first: int, last: int) -> None:
        """The next rows."""
        rows = np.arange(first, last)
        # A slice of the columns is no copy of them.
        rows = self._less_kept(rows, slice(first, last))
        while len(rows):
            # Each alone fits now. Whatever becomes of the open ones before it, a row
            # that fits beside all of them is within.
            fits = np.ones(len(rows), dtype=np.bool_)
            for level, used in self._levels:
                fits &= _fit_together(level, used, rows)
            taken, rows = rows[fits], rows[~fits]
            for level, used in self._levels:
                np.add.at(used, level.group[taken], level.amount[taken])
            rows = self._less_kept(rows, rows)

    def _less_kept(self, rows: IntArray, places: IntArray | slice) -> IntArray:
        """The rows without those that do not fit beside what is held and taken."""
        is_open = np.ones(len(rows), dtype=np.bool_)
        for number, (level, used) in enumerate(self._levels):
            group = level.group[places]
            # What asks for nothing fits beside more than is allowed, too.
            left = np.maximum(level.most - used, 0)
            is_over = (level.amount[places] > left[group]) & is_open
            kept = rows[is_over]
            self.level_of[kept] = number
            self.used_of[kept] = used[group[is_over]]
            is_open &= ~is_over
        return rows[is_open]


def _fit_together(level: Level, used: IntArray, rows: IntArray) -> BoolArray:
    """Which rows fit beside all rows of their group that come before them."""
    group, amount = level.group[rows], level.amount[rows]
    # Small numbers are sorted in one pass over them.
    narrow = group.astype(np.uint16) if len(used) <= _SMALL else group
    order = np.argsort(narrow, kind="stable")
    group, amount = group[order], amount[order]
    total = np.cumsum(amount)
    first = np.flatnonzero(np.diff(group, prepend=-1))
    before = (total - amount)[first]
    in_group = total - np.repeat(before, np.diff(np.append(first, len(group))))
    fits = np.empty(len(rows), dtype=np.bool_)
    fits[order] = (amount == 0) | (used[group] + in_group <= level.most[group])
    return fits
