"""Bins alike: what an empty one has, and what each class takes there.

Sorts and measures only; what is free is not its matter.
"""

from typing import NamedTuple

import numpy as np

from dorabatch.placer.arrays import BoolArray, FloatArray, IntArray
from dorabatch.placer.classes import Classes, distinct_rows
from dorabatch.placer.ground import Ground, needs_at


class Shapes(NamedTuple):
    """Bins of one model with the same totals are of one shape.

    shape[bin], first[shape]: a bin of each
    order[i], start[shape]: bins shape by shape, and where each shape begins
    cpu[class, shape], memory[class, shape]: what a request takes there
    usable[class, shape]: on some bin, if it is empty
    """

    shape: IntArray
    first: IntArray
    order: IntArray
    start: IntArray
    cpu: IntArray
    memory: IntArray
    usable: BoolArray

    def __len__(self) -> int:
        return len(self.first)

    def counts(self, which: BoolArray) -> IntArray:
        """How many of the bins which[bin] each shape has."""
        return np.bincount(self.shape[which], minlength=len(self))

    def sums(self, amounts: IntArray | FloatArray) -> FloatArray:
        """sums[shape] of amounts[bin]."""
        found = np.bincount(self.shape, weights=amounts, minlength=len(self))
        return np.asarray(found, dtype=np.float64)


def shapes_of(ground: Ground, classes: Classes) -> Shapes:
    """Sort bins by what an empty one has, and see which classes fit where."""
    first, shape = _alike(np.column_stack([ground.model, ground.total]))
    order = np.argsort(shape, kind="stable")
    start = np.searchsorted(shape[order], np.arange(len(first)))
    size = (len(classes), len(first))
    of = np.repeat(np.arange(len(classes)), len(first))
    cpu, memory = needs_at(classes, ground, of, np.tile(first, len(classes)))
    cpu, memory = cpu.reshape(size), memory.reshape(size)
    usable = np.zeros(size, dtype=bool)
    if len(order):
        some = np.logical_or.reduceat(ground.sorts[:, order], start, axis=1)
        usable = some[ground.sort]
    most = ground.total[first]
    usable &= most[:, 0] >= classes.gpu_count[:, None]
    usable &= (most[:, 1] >= cpu) & (most[:, 2] >= memory)
    return Shapes(shape, first, order, start, cpu, memory, usable)


def _alike(rows: IntArray) -> tuple[IntArray, IntArray]:
    """first[kind] and kind[row] of equal rows, kinds in ascending order."""
    first, kind = distinct_rows(list(rows.T), len(rows))
    order = np.lexsort(rows[first].T[::-1])
    return first[order], np.argsort(order)[kind]
