"""Shares of a GPU on their way to nodes: opened GPUs first, then new ones together.

Puts shares into rests they fill well, joins the others to whole GPUs (`share_packing`)
and says which shape of node each of those belongs on. It never chooses the node.
"""

from typing import NamedTuple

import numpy as np

from dorabatch.placer.arrays.bins import BinState, Shapes
from dorabatch.placer.arrays.types import (
    USED_UP,
    WHOLE_GPU_MILLI,
    BoolArray,
    FloatArray,
    IntArray,
)
from dorabatch.placer.plan.demand_outlook import CPU_UNIT, MEMORY_UNIT, DemandOutlook
from dorabatch.placer.plan.fluid import fluid_plan, split
from dorabatch.placer.plan.share_packing import (
    Pattern,
    Piles,
    compose,
    fullest,
    sort_out,
)

BUCKETS = 12
"""New GPUs of one kind are told apart by CPUs in so many steps."""

SLACK = 1.05
"""What a shape gives new shared GPUs, per what the plan has for their shares."""


class Needs(NamedTuple):
    """cpu[class, shape], memory[class, shape]; allowed[class, shape]: on all its nodes.

    fits[class, shape]: allowed, and an empty node is large enough; room[shape,
    (milli-CPUs, MiB)] of an empty node.
    """

    cpu: IntArray
    memory: IntArray
    allowed: BoolArray
    fits: BoolArray
    room: IntArray


class Crowd(NamedTuple):
    """bin[share], slot[share]: the opened GPU it got, or -1.

    group[share]: the new GPU it is part of, or -1; shape[group]: where that belongs,
    or -1; used[group]: thousandths of it.
    """

    bin: IntArray
    slot: IntArray
    group: IntArray
    shape: IntArray
    used: IntArray


def bins_in_use(state: BinState) -> BoolArray:
    """Bins that any class with GPUs may use: none of a node that is down."""
    ground = state.ground
    with_gpus = np.zeros(len(ground.sorts), dtype=bool)
    with_gpus[ground.sort[state.classes.gpu_count > 0]] = True
    return np.asarray(ground.sorts[with_gpus].any(axis=0), dtype=bool)


def needs_of(state: BinState, shapes: Shapes, in_use: BoolArray) -> Needs:
    """What each class takes on each shape, and whether it may use all nodes of it."""
    ground = state.ground
    usable = (ground.sorts | ~in_use)[:, shapes.order]
    every = np.logical_and.reduceat(usable, shapes.start, axis=1)
    allowed = (every & (shapes.counts(in_use) > 0))[ground.sort]
    room = ground.total[shapes.first, 1:]
    fits = allowed & (shapes.cpu <= room[:, 0]) & (shapes.memory <= room[:, 1])
    return Needs(shapes.cpu, shapes.memory, allowed, fits, room)


def gather(
    state: BinState,
    outlook: DemandOutlook,
    needs: Needs,
    asked: tuple[IntArray, BoolArray],
) -> Crowd:
    """Places on bins in use for shares of classes of[share].

    What opened GPUs get is booked, new GPUs are not.
    """
    of, in_use = asked
    none = np.full(len(of), -1, dtype=np.int64)
    crowd = Crowd(none, none.copy(), none.copy(), none[:0], none[:0])
    if len(of) == 0:
        return crowd
    milli, weight = state.classes.gpu_milli[of], state.classes.cpu_milli[of]
    made = 0
    kind = alike(needs.allowed)[of]
    # Who may go to the fewest shapes chooses first.
    reach = needs.allowed[of].sum(axis=1)
    _, first = np.unique(kind, return_index=True)
    for one in first[np.argsort(reach[first], kind="stable")].tolist():
        piles = sort_out(milli, weight, np.flatnonzero(kind == kind[one]))
        usable = in_use & needs.allowed[of[one]][outlook.shape]
        _into_opened(state, outlook, (of, piles, usable), crowd)
        made = compose(piles, crowd.group, made)
    joined = crowd.group >= 0
    shares = of[joined], crowd.group[joined], milli[joined]
    sums = np.bincount(crowd.group[joined], milli[joined], minlength=made)
    return crowd._replace(
        shape=_spread(outlook, needs, shares, made),
        used=sums.astype(np.int64),
    )


def _into_opened(
    state: BinState,
    outlook: DemandOutlook,
    asked: tuple[IntArray, Piles, BoolArray],
    crowd: Crowd,
) -> None:
    """Fill the rests of opened GPUs on usable bins, the smallest first."""
    of, piles, usable = asked
    bins, slots = np.nonzero(np.where(usable[:, None], state.rest, 0) > 0)
    rests = state.rest[bins, slots]
    every = np.arange(len(state.free))
    kept = state.by_node(every, state.free * outlook.cpu_mean[outlook.shape])[bins]
    order = np.lexsort((kept - state.cpu[bins], rests))
    values, starts = np.unique(rests[order], return_index=True)
    for rest, part in zip(values.tolist(), np.split(order, starts[1:]), strict=False):
        pattern = fullest(rest, piles.sizes, piles.counts())
        for at in part.tolist():
            if not piles.has(pattern):
                pattern = fullest(rest, piles.sizes, piles.counts())
            if not pattern:
                break
            place = int(bins[at]), int(slots[at])
            room = state.cpu[place[0]] - kept[at], state.memory[place[0]]
            members = _members(state, of, piles, (pattern, place[0], room))
            crowd.bin[members], crowd.slot[members] = place
            left = rest - int(state.classes.gpu_milli[of[members]].sum())
            state.rest[place] = left or USED_UP


def _members(
    state: BinState,
    of: IntArray,
    piles: Piles,
    asked: tuple[Pattern, int, tuple[float, float]],
) -> IntArray:
    """Shares taken off the piles and booked on a bin; none where all are too heavy."""
    pattern, bin_, (cpu_left, memory_left) = asked
    for heavy in (True, False):
        members = piles.look(pattern, heavy=heavy)
        classes = of[members].tolist()
        cpu = sum(int(state.ground.cpu_need[c][bin_]) for c in classes)
        memory = sum(int(state.ground.memory_need[c][bin_]) for c in classes)
        if cpu <= cpu_left and memory <= memory_left:
            piles.drop(pattern, heavy=heavy)
            state.spend(bin_, cpu, memory)
            return members
    return np.zeros(0, dtype=np.int64)


def _spread(
    outlook: DemandOutlook,
    needs: Needs,
    shares: tuple[IntArray, IntArray, IntArray],
    groups: int,
) -> IntArray:
    """shape[group] for new GPUs made of shares (of, group, milli); -1 = nowhere."""
    of, group, milli = shares
    shapes = outlook.share.shape[1]
    if groups == 0:
        return np.zeros(0, dtype=np.int64)
    usable = np.ones((groups, shapes), dtype=bool)
    np.logical_and.at(usable, group, needs.allowed[of])
    cpu, memory = (
        _sums(group, needs.cpu[of], groups),
        _sums(group, needs.memory[of], groups),
    )
    usable &= (cpu <= needs.room[:, 0]) & (memory <= needs.room[:, 1])
    bucket = _buckets(usable, cpu.mean(axis=1))
    buckets = int(bucket.max()) + 1
    size = np.bincount(bucket).astype(np.float64)
    need = np.ones((buckets, shapes, 3))
    need[:, :, 1] = _sums(bucket, cpu, buckets) / size[:, None] / CPU_UNIT
    need[:, :, 2] = _sums(bucket, memory, buckets) / size[:, None] / MEMORY_UNIT
    good = np.ones((buckets, shapes), dtype=bool)
    np.logical_and.at(good, bucket, usable)
    need[~good] = np.inf
    room = _room_planned(outlook, needs, of, (milli / WHOLE_GPU_MILLI, groups))
    plan = fluid_plan(size, need / groups, room / groups, np.zeros((buckets, shapes)))
    plan = np.where(plan.sum(axis=1, keepdims=True) > 1e-6, plan, good * 1.0)
    return np.where(good[bucket].any(axis=1), split(plan, bucket), -1)


def alike(flags: BoolArray) -> IntArray:
    """kind[i]: the same number where rows flags[i] are the same."""
    seen: dict[bytes, int] = {}
    packed = np.packbits(flags, axis=1)
    kinds = [seen.setdefault(row.tobytes(), len(seen)) for row in packed]
    return np.array(kinds, dtype=np.int64)


def _sums(at: IntArray, amounts: IntArray | FloatArray, size: int) -> FloatArray:
    """sums[at, shape] of amounts[i, shape]."""
    columns = [np.bincount(at, column, size) for column in amounts.T]
    return np.column_stack(columns).astype(np.float64)


def _buckets(usable: BoolArray, cpu: FloatArray) -> IntArray:
    """bucket[group]: alike in where they may go and about alike in CPUs."""
    kind = alike(usable)
    order = np.lexsort((cpu, kind))
    counts = np.bincount(kind)
    starts = np.cumsum(counts) - counts
    rank = np.empty(len(kind), dtype=np.int64)
    rank[order] = np.arange(len(kind)) - np.repeat(starts, counts)
    step = rank * BUCKETS // counts[kind]
    return np.unique(kind * BUCKETS + step, return_inverse=True)[1].ravel()


def _room_planned(
    outlook: DemandOutlook, needs: Needs, of: IntArray, asked: tuple[FloatArray, int]
) -> FloatArray:
    """room[shape, resource]: what the plan has for these shares, for so many GPUs."""
    gpu, groups = asked
    part = outlook.share[of]
    gpus = (part * gpu[:, None]).sum(axis=0)
    cpu = (part * needs.cpu[of]).sum(axis=0) / CPU_UNIT
    memory = (part * needs.memory[of]).sum(axis=0) / MEMORY_UNIT
    gpus = gpus * groups / max(float(gpus.sum()), 1e-9)
    return np.column_stack([gpus, cpu, memory]) * SLACK
