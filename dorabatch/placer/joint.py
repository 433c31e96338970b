"""Many requests at once: balanced rounds over the nodes of one shape.

Splits requests over shapes by the fluid plan; inside a shape every round gives each
open node one request, heavy ones where most CPUs are left per free GPU. What finds
no room in the rounds is handed back; it is never forced and never ranked here.
"""

from typing import NamedTuple

import numpy as np

from dorabatch.placer.arrays import USED_UP, WHOLE_GPU_MILLI, BoolArray, IntArray
from dorabatch.placer.crowd import Needs, alike, bins_in_use, gather, needs_of
from dorabatch.placer.fluid import split
from dorabatch.placer.ground import State
from dorabatch.placer.outlook import CPU_STEP, Outlook
from dorabatch.placer.room import Items, Room
from dorabatch.placer.slots import fullest

ROUNDS_MAX = 64


def fill(room: Room, items: Items) -> IntArray:
    """Place what finds room in balanced rounds; return item_bin[item]."""
    room.item_bin = np.full(len(items.of), -1, dtype=np.int64)
    large = (2 * items.gpus > room.total) & (items.gpus > 1)
    for size in _sizes(items, large):
        _large(room, items.take(np.flatnonzero(items.gpus == size)).heavy_first())
    small = ~large & (items.gpus > 0)
    opened = _opened(room, int(items.gpus[small].sum()))
    sizes = _sizes(items, small)
    for size in [s for s in sizes if s > 1]:
        _rounds(room, items.take(np.flatnonzero(items.gpus == size)), opened)
    if 1 in sizes:
        _rounds(room, items.take(np.flatnonzero(items.gpus == 1)), opened)
    return room.item_bin


def _sizes(items: Items, which: BoolArray) -> list[int]:
    """Distinct GPU counts, the largest first."""
    return [int(size) for size in np.unique(items.gpus[which])[::-1]]


def _large(room: Room, items: Items) -> None:
    """Items that need more than half a node: the fullest bins with room, one each."""
    able = np.flatnonzero(room.free >= items.gpus[0])
    able = able[np.argsort(room.free[able], kind="stable")][: len(items.of)]
    able = able[np.argsort(-room.cpu[able], kind="stable")]
    room.book(items.take(np.arange(len(able))), able)


def _opened(room: Room, gpus: int) -> IntArray:
    """Started bins, and as many empty ones as `gpus` need."""
    started = np.flatnonzero((room.free < room.total) & (room.free > 0))
    short = gpus - int(room.free[started].sum())
    empty = np.flatnonzero(room.free == room.total)
    count = -(-max(short, 0) // max(room.total, 1))
    return np.concatenate([started, empty[:count]])


def _rounds(room: Room, items: Items, opened: IntArray) -> None:
    """One item a round and bin, from an even sample of sizes."""
    pool = items.heavy_first()
    size = int(pool.gpus[0])
    idle = False
    for _ in range(ROUNDS_MAX):
        able = opened[room.free[opened] >= size]
        count = min(len(able), len(pool.of))
        if count == 0:
            return
        if count < len(able):
            # Nodes nearly full are finished first.
            able = able[np.argsort(room.free[able], kind="stable")[:count]]
        per = room.cpu[able] / room.free[able]
        able = able[np.argsort(-per, kind="stable")]
        sample = (np.arange(count) * len(pool.of)) // count
        if idle:
            # The even sample found no room: try the lightest.
            sample = np.arange(len(pool.of) - count, len(pool.of))
        done = sample[room.book(pool.take(sample), able)]
        if len(done) == 0 and idle:
            return
        idle = len(done) == 0
        pool = pool.take(np.delete(np.arange(len(pool.of)), done))


class Joint(NamedTuple):
    """Where rows went: bin[i], slot[i] (-1: no share) of rows[i]; bin -1 = nowhere."""

    bin: IntArray
    slot: IntArray


def place_jointly(state: State, outlook: Outlook, rows: IntArray) -> Joint:
    """Book rows (of classes state.classes.of[row]) together; `state` is changed.

    Left alone: rows of a class that may not use every node of its shape that others
    use, and what needs GPUs of several models at once.
    """
    of = state.classes.of[rows]
    joint = Joint(np.full(len(rows), -1), np.full(len(rows), -1))
    in_use = bins_in_use(state)
    needs = needs_of(state, outlook, in_use)
    count, milli = state.classes.gpu_count[of], state.classes.gpu_milli[of]
    is_share = (count == 1) & (milli < WHOLE_GPU_MILLI)
    shares = np.flatnonzero(is_share)
    whole = np.flatnonzero(~is_share & (count > 0))
    crowd = gather(state, outlook, needs, (of[shares], in_use))
    shape = split(outlook.share, of[whole])
    shape[~needs.usable(of[whole], shape)] = -1
    opened = np.full(len(crowd.shape) + 1, -1, dtype=np.int64)
    for one in np.unique(np.append(shape, crowd.shape)).tolist():
        bins = np.flatnonzero((outlook.shape == one) & in_use)
        if one < 0 or len(bins) == 0:
            continue
        which, groups = np.flatnonzero(shape == one), np.flatnonzero(crowd.shape == one)
        items = _items(needs, one, (of[whole[which]], count[whole[which]]))
        news = _new_gpus(needs, one, (of[shares], crowd.group, groups))
        placed = _one_shape(state, outlook, bins, items.beside(news))
        joint.bin[whole[which]] = placed[: len(which)]
        opened[groups] = placed[len(which) :]
    slots = np.append(_new_slots(state, opened[:-1], crowd.used), -1)
    # A share has a group or an opened GPU, never both; -1 stands for neither.
    joint.bin[shares] = np.maximum(opened[crowd.group], crowd.bin)
    joint.slot[shares] = np.maximum(slots[crowd.group], crowd.slot)
    _without_gpus(state, outlook, of, joint)
    return joint


def _without_gpus(state: State, outlook: Outlook, of: IntArray, joint: Joint) -> None:
    """CPU requests: nodes are filled by what uses best what GPUs do not need.

    Nodes without free GPUs come first, the least room first, so that large rooms stay
    whole. Kinds that ask for a share of a node are left alone.
    """
    classes, ground = state.classes, state.ground
    mean = outlook.cpu_mean + outlook.cpu_spread
    rests = np.maximum(state.rest, 0)
    # Of an opened GPU counts what shares to come are expected to use.
    part = (rests * outlook.share_below[rests]).sum(axis=1) / WHOLE_GPU_MILLI
    every = np.arange(len(part))
    kept = state.by_node(every, (state.free + part) * mean[outlook.shape])
    idle = state.by_node(every, state.free) > 0
    room = np.maximum((state.cpu - kept) // CPU_STEP, 0).astype(np.int64)
    plain = (classes.gpu_count == 0) & (classes.cpu_milli > 0)
    kinds = np.unique(of[(plain & (classes.memory_mib >= 0))[of]])
    which = alike(ground.allowed[kinds])
    _, first = np.unique(which, return_index=True)
    reach = ground.allowed[kinds[first]].sum(axis=1)
    for one in first[np.argsort(reach, kind="stable")].tolist():
        some = kinds[which == which[one]]
        some = some[np.argsort(-classes.cpu_milli[some], kind="stable")]
        bins = np.flatnonzero(ground.allowed[kinds[one]] & (room > 0))
        bins = bins[np.lexsort((room[bins], idle[bins]))]
        _fill_with_cpus(state, (some, bins, room), of, joint)


def _fill_with_cpus(
    state: State,
    asked: tuple[IntArray, IntArray, IntArray],
    of: IntArray,
    joint: Joint,
) -> None:
    """Fill bins in turn with CPU requests of `kinds` (largest first); books them."""
    kinds, bins, room = asked
    classes = state.classes
    sizes = -(-classes.cpu_milli[kinds] // CPU_STEP)
    memory = classes.memory_mib[kinds]
    left = [np.flatnonzero(of == kind) for kind in kinds.tolist()]
    counts = np.array([len(rows) for rows in left], dtype=np.int64)
    bins = bins[room[bins] >= sizes.min(initial=1)]
    changes = np.flatnonzero(np.diff(room[bins])) + 1
    for some in np.split(bins, changes):
        while len(some) and counts.any():
            units = int(room[some[0]])
            pattern = fullest(units, sizes, counts)
            need = int(pattern @ memory)
            some = some[state.memory[some] >= need]
            used = pattern > 0
            if not used.any():
                break
            times = min(int((counts[used] // pattern[used]).min()), len(some))
            taken, some = some[:times], some[times:]
            for kind in np.flatnonzero(used).tolist():
                count = int(pattern[kind]) * times
                rows, left[kind] = left[kind][:count], left[kind][count:]
                joint.bin[rows] = np.repeat(taken, pattern[kind])
            counts -= pattern * times
            ones = np.ones(times, dtype=np.int64)
            cpu = int(pattern @ classes.cpu_milli[kinds])
            state.spend_many(taken, ones * cpu, ones * need)
            room[taken] -= int(pattern @ sizes)


def _one_shape(
    state: State, outlook: Outlook, bins: IntArray, items: Items
) -> IntArray:
    """Fill the bins of one shape; return the bin of each item, or -1."""
    mean = float(outlook.cpu_mean[outlook.shape[bins[0]]])
    others = _kept_for_others(state, outlook, bins)
    room = Room(state, bins, mean)
    room.cpu = np.maximum(room.cpu - others[0], 0)
    room.memory = np.maximum(room.memory - others[1], 0)
    cpu, memory = room.cpu.copy(), room.memory.copy()
    placed = fill(room, items)
    state.free[bins] = room.free
    state.spend_many(bins, cpu - room.cpu, memory - room.memory)
    return placed


def _kept_for_others(
    state: State, outlook: Outlook, bins: IntArray
) -> tuple[IntArray, IntArray]:
    """CPUs and memory that free GPUs of other models on the node will ask for."""
    every = np.arange(len(state.free))
    kept = []
    for mean in (outlook.cpu_mean, outlook.memory_mean):
        own = np.rint(state.free * mean[outlook.shape])
        kept.append((state.by_node(every, own) - own)[bins].astype(np.int64))
    return kept[0], kept[1]


def _items(needs: Needs, shape: int, asked: tuple[IntArray, IntArray]) -> Items:
    """Requests of classes of[row] for gpus[row] whole GPUs."""
    of, gpus = asked
    cpu, memory = needs.cpu[of, shape], needs.memory[of, shape]
    return Items(np.arange(len(of)), gpus, cpu, memory)


def _new_gpus(
    needs: Needs, shape: int, asked: tuple[IntArray, IntArray, IntArray]
) -> Items:
    """New GPUs `groups`, each for the shares of classes of[share] in group[share]."""
    of, group, groups = asked
    size = int(group.max(initial=-1)) + 1
    of, group = of[group >= 0], group[group >= 0]
    cpu, memory = (
        np.bincount(group, need[of, shape], size)[groups].astype(np.int64)
        for need in (needs.cpu, needs.memory)
    )
    ones = np.ones(len(groups), dtype=np.int64)
    return Items(np.arange(len(groups)), ones, cpu, memory)


def _new_slots(state: State, opened: IntArray, used: IntArray) -> IntArray:
    """A free slot for each new shared GPU on bins opened[gpu]; books its rest."""
    slot = np.full(len(opened), -1, dtype=np.int64)
    order = np.argsort(opened, kind="stable")
    order = order[opened[order] >= 0]
    bins = opened[order]
    _, starts, counts = np.unique(bins, return_index=True, return_counts=True)
    rank = np.arange(len(bins)) - np.repeat(starts, counts)
    unused = np.argsort(state.rest[bins] != 0, axis=1, kind="stable")
    slot[order] = unused[np.arange(len(bins)), rank]
    left = WHOLE_GPU_MILLI - used[order]
    state.rest[bins, slot[order]] = np.where(left > 0, left, USED_UP)
    return slot
