"""Bins alike: what an empty one has, and what each class takes there.

Sorts and measures only; what is free is not its matter.
"""

from typing import NamedTuple

import numpy as np

from dorabatch.placer.arrays.bins import BinTable, needs_at
from dorabatch.placer.arrays.classes import Classes
from dorabatch.placer.arrays.types import SHARE, BoolArray, FloatArray, IntArray


class Shapes(NamedTuple):
    """Shapes of a layout, and the classes there.

    shape[bin], first[shape], order[i], start[shape]: as in Layout
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


def shapes_of(ground: BinTable, classes: Classes) -> Shapes:
    """See which classes fit where, and what they take."""
    layout = ground.layout
    first, order = layout.first, layout.order
    cpu = np.repeat(classes.cpu_milli[:, None], len(first), axis=1)
    memory = np.repeat(classes.memory_mib[:, None], len(first), axis=1)
    sliced = np.flatnonzero(np.minimum(classes.cpu_milli, classes.memory_mib) == SHARE)
    if len(sliced):
        size = len(sliced), len(first)
        of, bins = np.repeat(sliced, size[1]), np.tile(first, size[0])
        found = needs_at(classes, ground, of, bins)
        cpu[sliced], memory[sliced] = (part.reshape(size) for part in found)
    usable = np.zeros(cpu.shape, dtype=bool)
    if len(order):
        some = np.logical_or.reduceat(ground.sorts[:, order], layout.start, axis=1)
        usable = some[ground.sort]
    most = ground.total[first]
    usable &= most[:, 0] >= classes.gpu_count[:, None]
    usable &= (most[:, 1] >= cpu) & (most[:, 2] >= memory)
    return Shapes(layout.shape, first, order, layout.start, cpu, memory, usable)
