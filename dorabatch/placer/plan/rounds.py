"""Balanced rounds: every round gives each open bin of each shape one item.

Heavy ones go where most CPUs are left per free GPU. All shapes take part in a round at
once, each by itself. What finds no room is left; it is never forced.
"""

import numpy as np

from dorabatch.placer.arrays.bin_room import BinRoom, Items
from dorabatch.placer.arrays.types import BoolArray, IntArray

ROUNDS_MAX = 64


def fill(room: BinRoom, items: Items) -> None:
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


def _large(room: BinRoom, items: Items, pool: IntArray) -> None:
    """Items that need more than half a node: the fullest bins with room, one each."""
    shape = items.shape[pool]
    able = np.flatnonzero(room.free >= items.gpus[pool[0]])
    able = room.first(able, room.free[able], room.counts(shape))
    able = able[np.lexsort((-room.cpu[able], room.shape[able]))]
    most = room.counts(room.shape[able])
    room.book(items, pool[room.ranks(shape) < most[shape]], able)


def _opened(room: BinRoom, items: Items, pool: IntArray) -> IntArray:
    """Started bins, and of each shape as many empty ones as its items need."""
    total = room.total[room.shape]
    started = np.flatnonzero((room.free < total) & (room.free > 0))
    shapes = len(room.total)
    needed = np.bincount(items.shape[pool], items.gpus[pool], shapes)
    short = needed - np.bincount(room.shape[started], room.free[started], shapes)
    count = np.ceil(np.maximum(short, 0) / np.maximum(room.total, 1))
    empty = np.flatnonzero((room.free == total) & (count > 0)[room.shape])
    return np.concatenate([started, room.first(empty, empty, count)])


def _rounds(room: BinRoom, items: Items, pool: IntArray, opened: IntArray) -> None:
    """One item a round and bin, from an even sample of each shape's sizes."""
    size = items.gpus[pool[0]]
    waits = room.counts(items.shape[pool])
    closed = idle = np.zeros(len(room.total), dtype=bool)
    for _ in range(ROUNDS_MAX):
        able = opened[room.free[opened] >= size]
        has = room.counts(room.shape[able])
        count = np.where(closed, 0, np.minimum(has, waits))
        if not count.any():
            return
        if (count < has).any():
            # Nodes nearly full are finished first.
            able = room.first(able, room.free[able], count)
        able = room.richest_first(able)
        sample = _sample(room.shape[able], waits, count, idle)
        good = room.book(items, pool[sample], able)
        found = room.counts(room.shape[able[good]])
        closed, idle = closed | (idle & (found == 0)), found == 0
        waits = waits - found
        pool = pool[items.bin[pool] < 0]


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
