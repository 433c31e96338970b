"""What is free on the bins of all shapes, and the things to place on them.

Books many things at once, one a bin; it never chooses.
"""

from typing import NamedTuple

import numpy as np

from dorabatch.placer.arrays.types import BoolArray, IntArray


class Items(NamedTuple):
    """Things to place on bins of their shapes: requests, or shares joined to a GPU.

    shape[item], gpus[item], cpu[item] (thousandths), memory[item] (MiB); bin[item]:
    where it went, -1 = nowhere.
    """

    shape: IntArray
    gpus: IntArray
    cpu: IntArray
    memory: IntArray
    bin: IntArray

    def take(self, which: IntArray) -> "Items":
        """Some of them, in the order given."""
        return Items(*(column[which] for column in self))

    def beside(self, more: "Items") -> "Items":
        """These, then `more`."""
        return Items(*(np.concatenate(pair) for pair in zip(self, more, strict=True)))

    def heavy_first(self) -> IntArray:
        """Items shape by shape, by CPUs, then memory, most first."""
        return np.lexsort((-self.memory, -self.cpu, self.shape))


class BinRoom(NamedTuple):
    """What is free: free[bin], cpu[bin], memory[bin].

    shape[bin] of so many shapes; total[shape]: GPUs of an empty bin.
    """

    free: IntArray
    cpu: IntArray
    memory: IntArray
    shape: IntArray
    total: IntArray

    def book(self, items: Items, which: IntArray, at: IntArray) -> BoolArray:
        """Put items which[i] on bin at[i] where it fits (bins distinct); say if so."""
        good = self.free[at] >= items.gpus[which]
        good &= self.cpu[at] >= items.cpu[which]
        good &= self.memory[at] >= items.memory[which]
        hit, done = at[good], which[good]
        self.free[hit] -= items.gpus[done]
        self.cpu[hit] -= items.cpu[done]
        self.memory[hit] -= items.memory[done]
        items.bin[done] = hit
        return good

    def counts(self, shape: IntArray) -> IntArray:
        """How often each shape occurs."""
        return np.bincount(shape, minlength=len(self.total))

    def ranks(self, shape: IntArray) -> IntArray:
        """rank[i]: the how manyth of its shape, where the same shapes lie together."""
        counts = self.counts(shape)
        return np.arange(len(shape)) - (np.cumsum(counts) - counts)[shape]

    def richest_first(self, bins: IntArray) -> IntArray:
        """Bins with free GPUs shape by shape, most CPUs a free GPU first."""
        per = self.cpu[bins] / self.free[bins]
        # No two bins of different shapes come as near as two of one.
        apart = float(self.cpu.max(initial=0)) + 1.0
        return bins[np.argsort(self.shape[bins] * apart - per, kind="stable")]

    def first(self, bins: IntArray, key: IntArray, most: IntArray) -> IntArray:
        """Of each shape's bins the first most[shape] by key, shape by shape."""
        bins = bins[np.lexsort((key, self.shape[bins]))]
        return bins[self.ranks(self.shape[bins]) < most[self.shape[bins]]]
