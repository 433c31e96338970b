"""What is free on the nodes of one shape, and the things to place on them.

Books many things at once, one a node; it never chooses.
"""

from typing import NamedTuple

import numpy as np

from dorabatch.placer.arrays import BoolArray, IntArray
from dorabatch.placer.ground import State


class Items(NamedTuple):
    """Things to place on one shape: a request, or shares joined to one GPU.

    gpus[item], cpu[item] (thousandths), memory[item] (MiB); `of` is the caller's
    number of the item.
    """

    of: IntArray
    gpus: IntArray
    cpu: IntArray
    memory: IntArray

    def take(self, which: IntArray) -> "Items":
        """Some of them, in the order given."""
        return Items(*(column[which] for column in self))

    def beside(self, more: "Items") -> "Items":
        """These, then `more`, numbered anew from 0."""
        columns = [np.concatenate(pair) for pair in zip(self, more, strict=True)]
        return Items(np.arange(len(columns[0])), *columns[1:])

    def heavy_first(self) -> "Items":
        """By CPUs, then memory, most first."""
        return self.take(np.lexsort((-self.memory, -self.cpu)))


class Room:
    """What is free on bins of one shape, and which bin each item got (-1: none).

    bin, free, cpu, memory are [bin of the room]; total is the GPUs of one bin; mean
    the milli-CPUs a GPU is expected to ask for.
    """

    __slots__ = ("bin", "cpu", "free", "item_bin", "mean", "memory", "total")

    def __init__(self, state: State, bins: IntArray, mean: float) -> None:
        self.bin = bins
        self.free = state.free[bins]
        self.cpu = state.cpu[bins]
        self.memory = state.memory[bins]
        self.total = int(state.ground.total[bins[0], 0])
        self.mean = mean
        self.item_bin: IntArray = np.zeros(0, dtype=np.int64)

    def book(self, items: Items, at: IntArray) -> BoolArray:
        """Put items[i] on bin at[i] where it fits (bins distinct); say which did."""
        good = self.free[at] >= items.gpus
        good &= self.cpu[at] >= items.cpu
        good &= self.memory[at] >= items.memory
        hit = at[good]
        self.free[hit] -= items.gpus[good]
        self.cpu[hit] -= items.cpu[good]
        self.memory[hit] -= items.memory[good]
        self.item_bin[items.of[good]] = self.bin[hit]
        return good
