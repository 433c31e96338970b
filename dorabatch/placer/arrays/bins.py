"""What each class may use and takes on each bin, what is free there, and bins by shape.

A table that does not change while a plan is made, and beside it a state: books what is
taken and gives it back. It never chooses a bin and knows no rank.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from dorabatch.placer.arrays.classes import Classes, distinct_rows, words_of
from dorabatch.placer.arrays.layout import Layout, layout_of
from dorabatch.placer.arrays.types import (
    SHARE,
    USED_UP,
    WHOLE_GPU_MILLI,
    BoolArray,
    ClusterArrays,
    FloatArray,
    IntArray,
)

Needed = Callable[[Classes, int, ClusterArrays], IntArray]


@dataclass(frozen=True, slots=True, kw_only=True)
class BinTable:
    """What does not change while a plan is made, per bin.

    layout                the nodes as bins
    allowed[class, bin]   usable for the class at all: node, mask and model
    sort[class], sorts[sort, bin]   the same, one row for each sort of class
    cpu_need[class], memory_need[class]   [bin] rows (one number where all are equal)
    """

    layout: Layout
    allowed: BoolArray
    sort: IntArray
    sorts: BoolArray
    cpu_need: tuple[IntArray, ...]
    memory_need: tuple[IntArray, ...]

    @property
    def node(self) -> IntArray:
        """node[bin]."""
        return self.layout.node

    @property
    def model(self) -> IntArray:
        """model[bin]; -1 where the node has no GPU."""
        return self.layout.model

    @property
    def primary(self) -> BoolArray:
        """primary[bin]: the first of its node."""
        return self.layout.primary

    @property
    def sisters(self) -> dict[int, tuple[int, ...]]:
        """The other bins of a mixed node, by bin."""
        return self.layout.sisters

    @property
    def total(self) -> IntArray:
        """total[bin, (GPUs, milli-CPUs, MiB)] of an empty node."""
        return self.layout.total


class BinHold(NamedTuple):
    """What one placed request took: `gpus` as (bin, count), a share's slot."""

    bin: int
    gpus: tuple[tuple[int, int], ...]
    slot: int
    milli: int
    cpu: int
    memory: int


def lay_bin_table(
    classes: Classes, cluster: ClusterArrays, layout: Layout | None = None
) -> BinTable:
    """Turn nodes into bins and say which classes may use which."""
    layout = layout or layout_of(cluster)
    cpu_need, memory_need = _needs(classes, cluster, layout.node)
    sort, sorts = _sorts(classes, cluster, layout)
    return BinTable(
        layout=layout,
        allowed=sorts[sort],
        sort=sort,
        sorts=sorts,
        cpu_need=cpu_need,
        memory_need=memory_need,
    )


def node_allowed(classes: Classes, cluster: ClusterArrays) -> BoolArray:
    """allowed[class, node] without looking at GPU models."""
    usable = cluster.ready & cluster.enabled
    allowed = np.where(
        classes.gpu_count[:, None] > 0,
        (usable & cluster.allows_gpu)[None, :],
        (usable & cluster.allows_cpu)[None, :],
    )
    for index, mask in enumerate(cluster.masks, start=1):
        allowed[classes.mask == index] &= mask.allowed
    return np.asarray(allowed, dtype=bool)


def _sorts(
    classes: Classes,
    cluster: ClusterArrays,
    layout: Layout,
) -> tuple[IntArray, BoolArray]:
    """sort[class] and allowed[sort, bin]: many classes may use the same bins."""
    has_gpus = classes.gpu_count > 0
    accepts = classes.accepts & has_gpus[:, None]
    kinds = has_gpus, classes.mask, *words_of(accepts).T
    first, sort = distinct_rows(kinds, len(classes))
    sorts = classes.take(first)
    with_gpus = sorts.gpu_count > 0
    allowed = node_allowed(sorts, cluster)[:, layout.node]
    allowed[~with_gpus] &= layout.primary
    padded = np.concatenate(
        [sorts.accepts, np.zeros((len(sorts), 1), dtype=bool)], axis=1
    )
    allowed[with_gpus] &= padded[with_gpus][:, layout.model]
    return sort, allowed


def cpu_needed(classes: Classes, index: int, cluster: ClusterArrays) -> IntArray:
    """CPUs the class takes on each node, in thousandths."""
    if classes.cpu_milli[index] != SHARE:
        return np.full(len(cluster), classes.cpu_milli[index])
    return _slices(classes, index, cluster.gpu_slice[0])


def memory_needed(classes: Classes, index: int, cluster: ClusterArrays) -> IntArray:
    """Memory the class takes on each node, in MiB."""
    if classes.memory_mib[index] != SHARE:
        return np.full(len(cluster), classes.memory_mib[index])
    if classes.gpu_count[index] > 0:
        return _slices(classes, index, cluster.gpu_slice[1])
    asked = cpu_needed(classes, index, cluster)
    total: IntArray = cluster.memory_total_mib * asked
    return total // np.maximum(cluster.cpu_total_milli, 1)


def _slices(classes: Classes, which: int | IntArray, gpu_slice: IntArray) -> IntArray:
    """As many slices as one class, or each of several, asks GPUs for."""
    parts = classes.gpu_count[which] * classes.gpu_milli[which]
    return np.asarray(gpu_slice * parts // WHOLE_GPU_MILLI, dtype=np.int64)


def needs_at(
    classes: Classes, ground: BinTable, of: IntArray, bins: IntArray
) -> tuple[IntArray, IntArray]:
    """cpu[i], memory[i] that class of[i] takes on bins[i]; as `cpu_needed`."""
    totals = ground.total[:, 1], ground.total[:, 2]
    return _needs_of(classes, of, bins, ground.layout.gpu_slice, totals)


def needs_on(
    classes: Classes, cluster: ClusterArrays, node: int
) -> tuple[IntArray, IntArray]:
    """cpu[class], memory[class] that each class takes on a node; as `cpu_needed`."""
    of = np.arange(len(classes))
    totals = cluster.cpu_total_milli, cluster.memory_total_mib
    return _needs_of(classes, of, np.full(len(of), node), cluster.gpu_slice, totals)


def _needs_of(
    classes: Classes,
    of: IntArray,
    places: IntArray,
    gpu_slice: tuple[IntArray, IntArray],
    totals: tuple[IntArray, IntArray],
) -> tuple[IntArray, IntArray]:
    """cpu[i], memory[i] of class of[i] on places[i] (bins or nodes) of the others."""
    cpu, memory = classes.cpu_milli[of], classes.memory_mib[of]
    sliced = np.flatnonzero(cpu == SHARE)
    cpu[sliced] = _slices(classes, of[sliced], gpu_slice[0][places[sliced]])
    sliced = np.flatnonzero(memory == SHARE)
    places = places[sliced]
    cpus, memories = totals[0][places], totals[1][places]
    beside_cpus = memories * cpu[sliced] // np.maximum(cpus, 1)
    beside_gpus = _slices(classes, of[sliced], gpu_slice[1][places])
    has_gpus = classes.gpu_count[of[sliced]] > 0
    memory[sliced] = np.where(has_gpus, beside_gpus, beside_cpus)
    return cpu, memory


def _needs(
    classes: Classes, cluster: ClusterArrays, node: IntArray
) -> tuple[tuple[IntArray, ...], tuple[IntArray, ...]]:
    parts = (classes.gpu_count * classes.gpu_milli).tolist()
    cpus = classes.cpu_milli.tolist()

    def rows(asked: IntArray, needed: Needed) -> tuple[IntArray, ...]:
        found = list(np.broadcast_to(asked[:, None], (len(asked), len(node))))
        # Classes that ask for the same slice have one row together.
        known: dict[tuple[int, int], IntArray] = {}
        for index in np.flatnonzero(asked == SHARE).tolist():
            alike = parts[index], cpus[index]
            if alike not in known:
                known[alike] = needed(classes, index, cluster)[node]
            found[index] = known[alike]
        return tuple(found)

    return rows(classes.cpu_milli, cpu_needed), rows(classes.memory_mib, memory_needed)


class BinState:
    """What is free now, per bin: free[bin], cpu[bin], memory[bin], rest[bin, slot]."""

    __slots__ = ("classes", "cpu", "free", "ground", "memory", "rest")

    def __init__(
        self, ground: BinTable, classes: Classes, cluster: ClusterArrays
    ) -> None:
        self.ground = ground
        self.classes = classes
        bare = ground.model < 0
        model = np.where(bare, 0, ground.model)
        known = cluster.gpu_rest_milli
        slots = max(int(cluster.gpus_total.max(initial=0)), known.shape[2])
        self.free = np.zeros(len(ground.node), dtype=np.int64)
        self.rest = np.zeros((len(ground.node), slots), dtype=np.int64)
        if len(cluster.models):
            self.free = np.where(bare, 0, cluster.gpus_free[ground.node, model])
        if known.any():
            self.rest[:, : known.shape[2]] = known[ground.node, model]
            self.rest[bare] = 0
        self.cpu = cluster.cpu_free_milli[ground.node]
        self.memory = cluster.memory_free_mib[ground.node]

    def fits(self, index: int, bins: IntArray | slice) -> BoolArray:
        """fits[bin] for class `index`, all its GPUs of one model."""
        ground, classes = self.ground, self.classes
        good = ground.allowed[index, bins]
        good = good & (self.cpu[bins] >= ground.cpu_need[index][bins])
        good &= self.memory[bins] >= ground.memory_need[index][bins]
        count, milli = int(classes.gpu_count[index]), int(classes.gpu_milli[index])
        if count == 0:
            return good
        if milli == WHOLE_GPU_MILLI:
            good &= self.free[bins] >= count
        else:
            roomy = self.rest[bins].max(axis=1, initial=0) >= milli
            good &= (self.free[bins] >= 1) | roomy
        return good

    def fits_at(self, index: int, bin_: int) -> bool:
        """As `fits`, for one bin."""
        ground, classes = self.ground, self.classes
        if not (
            ground.allowed[index, bin_]
            and self.cpu.item(bin_) >= ground.cpu_need[index].item(bin_)
            and self.memory.item(bin_) >= ground.memory_need[index].item(bin_)
        ):
            return False
        count, milli = classes.gpu_count.item(index), classes.gpu_milli.item(index)
        if count == 0 or milli == WHOLE_GPU_MILLI:
            return self.free.item(bin_) >= count
        if self.free.item(bin_) >= 1:
            return True
        return bool(max(self.rest[bin_].tolist(), default=0) >= milli)

    def fits_on(self, index: int, bin_: int) -> bool:
        """Whether class `index` fits on a bin, if need be with its sisters' GPUs."""
        if self.fits_at(index, bin_):
            return True
        return bin_ in self.ground.sisters and bool(self.fits_mixed(index)[bin_])

    def fits_mixed(self, index: int) -> BoolArray:
        """fits[bin]: whether GPUs of all accepted models on its node will do."""
        ground = self.ground
        count = int(self.classes.gpu_count[index])
        if count < 2:
            return np.zeros(len(self.free), dtype=bool)
        owned = np.flatnonzero(ground.allowed[index])
        good = ground.allowed[index] & (self.by_node(owned, self.free[owned]) >= count)
        good &= self.cpu >= ground.cpu_need[index]
        return np.asarray(good & (self.memory >= ground.memory_need[index]))

    def put(self, index: int, bin_: int) -> BinHold:
        """Take what class `index` needs from the node of `bin_`."""
        hold = self.plan_hold(index, bin_)
        self.take(hold)
        return hold

    def plan_hold(self, index: int, bin_: int) -> BinHold:
        """What class `index` would take from the node of `bin_`; nothing is booked."""
        classes, ground = self.classes, self.ground
        count, milli = classes.gpu_count.item(index), classes.gpu_milli.item(index)
        cpu = ground.cpu_need[index].item(bin_)
        memory = ground.memory_need[index].item(bin_)
        slot = -1
        gpus: tuple[tuple[int, int], ...] = ((bin_, count),)
        if count and milli < WHOLE_GPU_MILLI:
            slot = self._slot_for(bin_, milli)
        elif count > self.free[bin_]:
            gpus = self._several_models(index, bin_, count)
        return BinHold(bin_, gpus, slot, milli, cpu, memory)

    def _slot_for(self, bin_: int, milli: int) -> int:
        """The opened GPU with the smallest rest that is enough, else a new slot."""
        rests: list[int] = self.rest[bin_].tolist()
        enough = [rest for rest in rests if rest >= milli]
        return rests.index(min(enough) if enough else 0)

    def _several_models(
        self, index: int, bin_: int, count: int
    ) -> tuple[tuple[int, int], ...]:
        """The model with most free GPUs first, so that few models are mixed."""
        family = [
            b
            for b in sorted((bin_, *self.ground.sisters[bin_]))
            if self.ground.allowed[index, b] and self.free[b] > 0
        ]
        family.sort(key=lambda b: -int(self.free[b]))
        chosen = []
        for b in family:
            some = min(count, int(self.free[b]))
            count -= some
            if some:
                chosen.append((b, some))
        return tuple(chosen)

    def take(self, hold: BinHold) -> None:
        """Book a hold."""
        self._move(hold, 1)
        if hold.slot < 0:
            for bin_, count in hold.gpus:
                self.free[bin_] -= count
            return
        rest = int(self.rest[hold.bin, hold.slot])
        if rest == 0:
            self.free[hold.bin] -= 1
            rest = WHOLE_GPU_MILLI
        self.rest[hold.bin, hold.slot] = (rest - hold.milli) or USED_UP

    def give_back(self, hold: BinHold) -> None:
        """Undo a hold that is booked."""
        self._move(hold, -1)
        if hold.slot < 0:
            for bin_, count in hold.gpus:
                self.free[bin_] += count
            return
        rest = max(int(self.rest[hold.bin, hold.slot]), 0) + hold.milli
        if rest == WHOLE_GPU_MILLI:
            self.free[hold.bin] += 1
            rest = 0
        self.rest[hold.bin, hold.slot] = rest

    def _move(self, hold: BinHold, sign: int) -> None:
        self.spend(hold.bin, sign * hold.cpu, sign * hold.memory)

    def spend(self, bin_: int, cpu: int, memory: int) -> None:
        """Take CPUs and memory from the node of a bin."""
        for one in (bin_, *self.ground.sisters.get(bin_, ())):
            self.cpu[one] -= cpu
            self.memory[one] -= memory

    def spend_many(self, bins: IntArray, cpu: IntArray, memory: IntArray) -> None:
        """Take cpu[i] and memory[i] from the node of bins[i]."""
        self.cpu -= self.by_node(bins, cpu).astype(np.int64)
        self.memory -= self.by_node(bins, memory).astype(np.int64)

    def by_node(self, bins: IntArray, amounts: FloatArray | IntArray) -> FloatArray:
        """sums[bin]: what amounts[i] on bins[i] come to on the node of each bin."""
        node = self.ground.node
        size = int(node.max(initial=-1)) + 1
        sums = np.bincount(node[bins], amounts, size).astype(np.float64)
        return np.asarray(sums[node])


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
