"""Balanced rounds: every round gives each open bin of each shape one item.

Heavy ones go where most CPUs are left per free GPU; the last one of a bin is what uses
its CPUs best. All shapes take part in a round at once, each by itself. What finds no
room is left; it is never forced.
"""

import numpy as np

from dorabatch.placer.arrays import BoolArray, IntArray
from dorabatch.placer.room import Items, Room

ROUNDS_MAX = 64


def fill(room: Room, items: Items) -> None:
    """Place what finds room in balanced rounds; items.bin says where."""
    pool = items.heavy_first()
    gpus = items.gpus[pool]
    large = (2 * gpus > room.total[items.shape[pool]]) & (gpus > 1)
    for size in _sizes(gpus[large]):
        _large(room, items, pool[large & (gpus == size)])
    small = ~large & (gpus > 0)
    opened = _opened(room, items, pool[small])
    for size in _sizes(gpus[small]):
        _rounds(room, items, pool[small & (gpus == size)], opened)


def _sizes(gpus: IntArray) -> list[int]:
    """Distinct GPU counts, the largest first."""
    return [int(size) for size in np.flatnonzero(np.bincount(gpus))[::-1]]


def _large(room: Room, items: Items, pool: IntArray) -> None:
    """Items that need more than half a node: the fullest bins with room, one each."""
    shape = items.shape[pool]
    able = np.flatnonzero(room.free >= items.gpus[pool[0]])
    able = room.first(able, room.free[able], room.counts(shape))
    able = able[np.lexsort((-room.cpu[able], room.shape[able]))]
    most = room.counts(room.shape[able])
    room.book(items, pool[room.ranks(shape) < most[shape]], able)


def _opened(room: Room, items: Items, pool: IntArray) -> IntArray:
    """Started bins, and of each shape as many empty ones as its items need."""
    total = room.total[room.shape]
    started = np.flatnonzero((room.free < total) & (room.free > 0))
    shapes = len(room.total)
    needed = np.bincount(items.shape[pool], items.gpus[pool], shapes)
    short = needed - np.bincount(room.shape[started], room.free[started], shapes)
    count = np.ceil(np.maximum(short, 0) / np.maximum(room.total, 1))
    empty = np.flatnonzero((room.free == total) & (count > 0)[room.shape])
    return np.concatenate([started, room.first(empty, empty, count)])


def _rounds(room: Room, items: Items, pool: IntArray, opened: IntArray) -> None:
    """One item a round and bin: what fits best where none comes after it, else any."""
    size = items.gpus[pool[0]]
    waits = room.counts(items.shape[pool])
    closed = idle = np.zeros(len(room.total), dtype=bool)
    for _ in range(ROUNDS_MAX):
        able = opened[room.free[opened] >= size]
        count = np.where(closed, 0, np.minimum(room.counts(room.shape[able]), waits))
        if not count.any():
            return
        able = _as_many(room, able, count)
        last = (room.free[able] == size) & ~idle[room.shape[able]]
        found = _finish(room, items, pool, able[last])
        if found.any():
            pool, waits = pool[items.bin[pool] < 0], waits - found
        even = _evenly(room, items, pool, able[~last], (waits, idle))
        if even.any():
            pool, waits = pool[items.bin[pool] < 0], waits - even
        none = found + even == 0
        closed, idle = closed | (idle & none), none


def _as_many(room: Room, bins: IntArray, count: IntArray) -> IntArray:
    """Of each shape so many of the bins: nodes nearly full are finished first."""
    if (count < room.counts(room.shape[bins])).any():
        return room.first(bins, room.free[bins], count)
    return bins


def _finish(room: Room, items: Items, pool: IntArray, bins: IntArray) -> IntArray:
    """The heaviest item that fits for each bin that is full then; how many by shape.

    So what CPUs are left over lie together on the bins that are not full.
    """
    if len(bins) == 0:
        return np.zeros(len(room.total), dtype=np.int64)
    bins = bins[np.lexsort((-room.cpu[bins], room.shape[bins]))]
    shape = room.shape[bins]
    most = float(max(items.cpu[pool].max(initial=0), room.cpu[bins].max()))
    # Ascending as the pool lies: by shape, the heaviest first.
    key = items.shape[pool] * (most + 1.0) + most - items.cpu[pool]
    fits = np.searchsorted(key, shape * (most + 1.0) + most - room.cpu[bins])
    # Each bin takes another, the next one where the first is taken.
    each = np.arange(len(bins))
    at = np.maximum.accumulate(fits - each) + each
    mine = np.searchsorted(items.shape[pool], shape, side="right") > at
    good = room.book(items, pool[at[mine]], bins[mine])
    return room.counts(shape[mine][good])


def _evenly(
    room: Room,
    items: Items,
    pool: IntArray,
    bins: IntArray,
    others: tuple[IntArray, BoolArray],
) -> IntArray:
    """An even sample of sizes for the bins, heavy ones where most CPUs are left per
    free GPU; how many found room by shape. `others` is (waits[shape], idle[shape])."""
    waits, idle = others
    count = np.minimum(room.counts(room.shape[bins]), waits)
    bins = room.richest_first(_as_many(room, bins, count))
    sample = _sample(room.shape[bins], waits, count, idle)
    good = room.book(items, pool[sample], bins)
    return room.counts(room.shape[bins[good]])


def _sample(
    shape: IntArray, waits: IntArray, count: IntArray, idle: BoolArray
) -> IntArray:
    """Places in the pool for bins of shape[i], of each shape an even sample.

    Of waits[shape] items count[shape] are taken. Where the even sample found no room
    before (idle[shape]), the lightest.
    """
    rank = np.arange(len(shape)) - (np.cumsum(count) - count)[shape]
    sample = rank * waits[shape] // count[shape]
    if idle.any():
        last = (waits - count)[shape] + rank
        sample = np.where(idle[shape], last, sample)
    return np.asarray((np.cumsum(waits) - waits)[shape] + sample)
