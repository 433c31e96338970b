"""Shares of a GPU put together so that the fewest GPUs are opened for them.

The largest share opens a GPU, and what fills the rest best joins it. Sees sizes and
amounts only; it knows neither nodes nor ranks.
"""

from functools import lru_cache
from operator import mul
from typing import NamedTuple

import numpy as np

from dorabatch.placer.arrays.types import WHOLE_GPU_MILLI, IntArray

Pattern = list[tuple[int, int]]
"""(kind, how many) of what is put together; at least one of each named."""


def fullest(room: int, sizes: list[int], counts: list[int]) -> Pattern:
    """What to take of counts[kind] pieces of sizes[kind] so that `room` is used best.

    Among equal sums the one of large pieces (kinds come largest first): small ones are
    wanted elsewhere. A bounded knapsack; the sums to be had are the bits of a number.
    """
    if sum(map(mul, sizes, counts)) <= room:
        return [(kind, count) for kind, count in enumerate(counts) if count][::-1]
    most = (1 << (room + 1)) - 1
    sums, steps = 1, []
    for kind, size in enumerate(sizes):
        if size > room or not counts[kind]:
            continue
        for count in _chunks(min(counts[kind], room // size)):
            steps.append((kind, count, sums))
            sums |= (sums << count * size) & most
        if sums >> room:
            break
    taken: dict[int, int] = {}
    total = sums.bit_length() - 1
    for kind, count, before in reversed(steps):
        if not before >> total & 1:
            taken[kind] = taken.get(kind, 0) + count
            total -= count * sizes[kind]
    return list(taken.items())


@lru_cache(maxsize=1024)
def _chunks(count: int) -> tuple[int, ...]:
    """Parts whose sums make every number up to `count`: 1, 2, 4 ... and the rest."""
    parts, part = [], 1
    while count > 0:
        parts.append(min(part, count))
        count -= parts[-1]
        part *= 2
    return tuple(parts)


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

    sizes: list[int]
    piles: list[Pile]

    def counts(self) -> list[int]:
        """How many shares each pile has left."""
        return [len(pile) for pile in self.piles]

    def has(self, pattern: Pattern) -> bool:
        """Whether there are so many shares left."""
        return all(len(self.piles[at]) >= many for at, many in pattern)

    def look(self, pattern: Pattern, *, heavy: bool) -> IntArray:
        """So many shares, the heaviest or the lightest of each pile."""
        some = [self.piles[at].look(many, heavy=heavy) for at, many in pattern]
        return np.concatenate(some)

    def drop(self, pattern: Pattern, *, heavy: bool) -> None:
        """Take those off."""
        for at, many in pattern:
            self.piles[at].drop(many, heavy=heavy)


def sort_out(milli: IntArray, weight: IntArray, rows: IntArray) -> Piles:
    """Shares `rows` by size; milli[share], and weight[share] (milli-CPUs)."""
    order = rows[np.lexsort((-weight[rows], -milli[rows]))]
    sizes, starts = np.unique(-milli[order], return_index=True)
    parts = np.split(order, starts[1:]) if len(order) else []
    return Piles((-sizes).tolist(), [Pile(part) for part in parts])


def compose(left: Piles, group: IntArray, first: int = 0) -> int:
    """Say in group[share] which GPU, numbered from `first`, each share is part of.

    Every share gets one; returns the number after the last. The heaviest goes with
    the lightest, so that what a GPU asks for evens out.
    """
    counts = left.counts()
    for largest, size in enumerate(left.sizes):
        while counts[largest]:
            counts[largest] -= 1
            pattern = fullest(WHOLE_GPU_MILLI - size, left.sizes, counts)
            counts[largest] += 1
            times = _times(counts, largest, pattern)
            numbers = np.arange(first, first + times)
            first += times
            for at, pieces, heavy in (
                (largest, 1, True),
                *((*p, False) for p in pattern),
            ):
                counts[at] -= pieces * times
                shares = left.piles[at].look(pieces * times, heavy=heavy)
                group[shares] = np.repeat(numbers, pieces)
                left.piles[at].drop(pieces * times, heavy=heavy)
    return first


def _times(counts: list[int], largest: int, pattern: Pattern) -> int:
    """How often there is one of the largest with the pattern beside it."""
    used = dict(pattern)
    used[largest] = used.get(largest, 0) + 1
    return min(counts[at] // many for at, many in used.items())
