"""Shares of a GPU put together so that the fewest GPUs are opened for them.

The largest share opens a GPU, and what fills the rest best joins it. Sees sizes and
amounts only; it knows neither nodes nor ranks.
"""

from typing import NamedTuple

import numpy as np

from dorabatch.placer.arrays import WHOLE_GPU_MILLI, IntArray

NEVER = 10**6
"""More pieces than a GPU has thousandths: a sum nobody reaches."""

SIZES_MAX = 48
"""Different sizes looked at for one rest; of more, an even sample."""


class Fillings:
    """How to use rooms best with pieces of sizes[kind], while there are some.

    A bounded knapsack over sums up to the largest room; one table serves every room for
    as long as there are the pieces it takes.
    """

    __slots__ = ("_most", "_reached", "_sizes", "_steps")

    def __init__(self, most: int, sizes: IntArray) -> None:
        self._most, self._sizes = most, sizes
        self._steps: list[tuple[int, int, IntArray, IntArray]] | None = None
        self._reached: IntArray = np.zeros(0, dtype=np.int64)

    def best(self, room: int, counts: IntArray) -> IntArray:
        """taken[kind] of counts[kind] so that `room` is used best.

        Among equal sums the one of fewest pieces: small ones are wanted elsewhere.
        """
        if self._steps is not None:
            taken = self._read(self._steps, room)
            if (taken <= counts).all():
                return taken
        self._steps = self._made(counts)
        return self._read(self._steps, room)

    def _made(self, counts: IntArray) -> list[tuple[int, int, IntArray, IntArray]]:
        """Steps of (kind, how many, pieces[sum] before, and with them)."""
        able = np.flatnonzero((self._sizes <= self._most) & (counts > 0))
        if len(able) > SIZES_MAX:
            able = able[(np.arange(SIZES_MAX) * len(able)) // SIZES_MAX]
        pieces = np.full(self._most + 1, NEVER, dtype=np.int64)
        pieces[0] = 0
        steps = []
        for kind in able.tolist():
            size = int(self._sizes[kind])
            for count in _chunks(min(int(counts[kind]), self._most // size)):
                many = count * size
                more = pieces.copy()
                np.minimum(more[many:], pieces[:-many] + count, out=more[many:])
                steps.append((kind, count, pieces, more))
                pieces = more
        sums = np.where(pieces < NEVER, np.arange(len(pieces)), 0)
        self._reached = np.maximum.accumulate(sums)
        return steps

    def _read(
        self, steps: list[tuple[int, int, IntArray, IntArray]], room: int
    ) -> IntArray:
        taken = np.zeros(len(self._sizes), dtype=np.int64)
        total = int(self._reached[room])
        for kind, count, before, after in reversed(steps):
            if total == 0:
                break
            if after[total] < before[total]:
                taken[kind] += count
                total -= count * int(self._sizes[kind])
        return taken


def fullest(room: int, sizes: IntArray, counts: IntArray) -> IntArray:
    """The best filling of one room; see Fillings."""
    return Fillings(room, sizes).best(room, counts)


def _chunks(count: int) -> list[int]:
    """Parts whose sums make every number up to `count`: 1, 2, 4 ... and the rest."""
    parts, part = [], 1
    while count > 0:
        parts.append(min(part, count))
        count -= parts[-1]
        part *= 2
    return parts


class Pile:
    """Shares of one size, the heaviest at the front."""

    __slots__ = ("first", "last", "rows")

    def __init__(self, rows: IntArray) -> None:
        self.rows = rows
        self.first, self.last = 0, len(rows)

    def __len__(self) -> int:
        return self.last - self.first

    def look(self, count: int, *, heavy: bool) -> IntArray:
        """The heaviest, or the lightest; the lightest of all comes first then."""
        if heavy:
            return self.rows[self.first : self.first + count]
        return self.rows[self.last - count : self.last][::-1]

    def drop(self, count: int, *, heavy: bool) -> None:
        """Take off the heaviest, or the lightest."""
        if heavy:
            self.first += count
        else:
            self.last -= count


class Piles(NamedTuple):
    """sizes[pile], the largest first, and the shares of each."""

    sizes: IntArray
    piles: list[Pile]

    def counts(self) -> IntArray:
        """How many shares each pile has left."""
        return np.array([len(pile) for pile in self.piles], dtype=np.int64)

    def look(self, pattern: IntArray, *, heavy: bool) -> IntArray:
        """Shares pattern[pile], the heaviest or the lightest of each pile."""
        return np.concatenate(
            [
                self.piles[at].look(int(pattern[at]), heavy=heavy)
                for at in np.flatnonzero(pattern).tolist()
            ]
        )

    def drop(self, pattern: IntArray, *, heavy: bool) -> None:
        """Take those off."""
        for at in np.flatnonzero(pattern).tolist():
            self.piles[at].drop(int(pattern[at]), heavy=heavy)


def sort_out(milli: IntArray, weight: IntArray, rows: IntArray) -> Piles:
    """Shares `rows` by size; milli[share], and weight[share] (milli-CPUs)."""
    order = rows[np.lexsort((-weight[rows], -milli[rows]))]
    sizes, starts = np.unique(-milli[order], return_index=True)
    parts = np.split(order, starts[1:]) if len(order) else []
    return Piles(-sizes, [Pile(part) for part in parts])


def compose(left: Piles, group: IntArray, first: int = 0) -> int:
    """Say in group[share] which GPU, numbered from `first`, each share is part of.

    Every share gets one; returns the number after the last. The heaviest goes with
    the lightest, so that what a GPU asks for evens out.
    """
    counts = left.counts()
    while counts.any():
        largest = int(np.flatnonzero(counts)[0])
        counts[largest] -= 1
        room = WHOLE_GPU_MILLI - int(left.sizes[largest])
        pattern = fullest(room, left.sizes, counts)
        counts[largest] += 1
        used = pattern.copy()
        used[largest] += 1
        times = int((counts[used > 0] // used[used > 0]).min())
        counts -= times * used
        numbers = np.arange(first, first + times)
        first += times
        opener = left.piles[largest]
        group[opener.look(times, heavy=True)] = numbers
        opener.drop(times, heavy=True)
        for at in np.flatnonzero(pattern).tolist():
            pieces = int(pattern[at])
            shares = left.piles[at].look(pieces * times, heavy=False)
            group[shares] = np.repeat(numbers, pieces)
            left.piles[at].drop(pieces * times, heavy=False)
    return first
