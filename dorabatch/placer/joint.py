"""Many requests at once: balanced rounds over the nodes of one shape.

Splits requests over shapes by the fluid plan; inside a shape every round gives each
open node one request, heavy ones where most CPUs are left per free GPU. What finds
no room in the rounds is handed back; it is never forced and never ranked here.
"""

from typing import NamedTuple

import numpy as np

from dorabatch.placer.arrays import USED_UP, WHOLE_GPU_MILLI, BoolArray, IntArray
from dorabatch.placer.ground import State
from dorabatch.placer.outlook import Outlook
from dorabatch.placer.room import Items, Room
from dorabatch.placer.slots import Joined, join_shares

GOLDEN = 0.6180339887498949
ROUNDS_MAX = 64


def split(outlook: Outlook, of: IntArray) -> IntArray:
    """shape[row] for rows of classes of[row], by the plan's shares; -1 = nowhere."""
    order = np.argsort(of, kind="stable")
    classes, counts = np.unique(of[order], return_counts=True)
    starts = np.cumsum(counts) - counts
    rank = np.arange(len(of)) - np.repeat(starts, counts)
    offset = np.repeat((np.arange(1, len(classes) + 1) * GOLDEN) % 1.0, counts)
    point = (rank + offset) / np.repeat(counts, counts)
    ladder = np.cumsum(outlook.share, axis=1)
    ladder /= np.maximum(ladder[:, -1:], 1e-12)
    # One ascending list: class c's ladder lies in c..c+1.
    flat = (ladder + np.arange(len(ladder))[:, None]).ravel()
    shapes = outlook.share.shape[1]
    found = np.searchsorted(flat, of[order] + np.minimum(point, 1 - 1e-9), side="right")
    shape = np.empty(len(of), dtype=np.int64)
    shape[order] = np.minimum(found - of[order] * shapes, shapes - 1)
    return shape


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

    Left alone: nodes with several models, requests without GPUs, and rows of a class
    that may not use every node of its shape.
    """
    of = state.classes.of[rows]
    joint = Joint(np.full(len(rows), -1), np.full(len(rows), -1))
    shape = split(outlook, of)
    shape[state.classes.gpu_count[of] == 0] = -1
    lone = np.ones(len(state.free), dtype=bool)
    lone[list(state.ground.sisters)] = False
    for one in np.unique(shape[shape >= 0]).tolist():
        bins = np.flatnonzero((outlook.shape == one) & lone)
        if len(bins):
            which = np.flatnonzero(shape == one)
            _one_shape(state, outlook, (bins, which, of[which]), joint)
    _without_gpus(state, outlook, (of, lone), joint)
    return joint


def _without_gpus(
    state: State, outlook: Outlook, asked: tuple[IntArray, BoolArray], joint: Joint
) -> None:
    """CPU requests, largest first: into the smallest rest that GPUs do not need."""
    of, lone = asked
    classes, ground = state.classes, state.ground
    mean = outlook.cpu_mean + outlook.cpu_spread
    part = np.maximum(state.rest, 0).sum(axis=1) / WHOLE_GPU_MILLI
    kept = (state.free + part) * mean[outlook.shape]
    idle = state.free + part > 0
    kinds = np.unique(of[classes.gpu_count[of] == 0])
    kinds = kinds[np.argsort(-classes.cpu_milli[kinds], kind="stable")]
    for index in kinds.tolist():
        rows = np.flatnonzero(of == index)
        cpu, memory = ground.cpu_need[index], ground.memory_need[index]
        room = np.maximum(state.cpu - kept, 0) // np.maximum(cpu, 1)
        room = np.minimum(room, state.memory // np.maximum(memory, 1))
        bins = np.flatnonzero((room >= 1) & ground.allowed[index] & lone)
        bins = bins[np.lexsort((state.cpu[bins], idle[bins]))]
        fits = np.minimum(room[bins], len(rows)).astype(np.int64)
        fits = np.minimum(np.cumsum(fits), len(rows))
        count = np.diff(fits, prepend=0)
        taken = rows[: int(count.sum())]
        joint.bin[taken] = np.repeat(bins, count)
        state.cpu[bins] -= count * cpu[bins]
        state.memory[bins] -= count * memory[bins]


def _one_shape(
    state: State,
    outlook: Outlook,
    asked: tuple[IntArray, IntArray, IntArray],
    joint: Joint,
) -> None:
    """Fill the bins of one shape with rows `which` of classes `of`."""
    bins, which, of = asked
    items, good = _items(state, bins, of)
    which, of = which[good], of[good]
    milli = state.classes.gpu_milli[of]
    is_share = (items.gpus == 1) & (milli < WHOLE_GPU_MILLI)
    room = Room(state, bins, float(outlook.cpu_mean[outlook.shape[bins[0]]]))
    parts = np.flatnonzero(is_share)
    joined = join_shares(room, state.rest[bins], items.take(parts), milli[parts])
    whole = np.flatnonzero(~is_share)
    news = np.ones(len(joined.cpu), dtype=np.int64)
    placed = fill(
        room,
        Items(
            np.arange(len(whole) + len(news)),
            np.concatenate([items.gpus[whole], news]),
            np.concatenate([items.cpu[whole], joined.cpu]).astype(np.int64),
            np.concatenate([items.memory[whole], joined.memory]).astype(np.int64),
        ),
    )
    joint.bin[which[whole]] = placed[: len(whole)]
    # A share has a group or a slot, never both; -1 stands for neither.
    if len(parts):
        in_slot = np.flatnonzero(joined.group < 0)
        _take_rests(state, joined, in_slot, milli[parts])
        opened = np.append(placed[len(whole) :], -1)
        slots = np.append(_new_slots(state, opened[:-1], joined.used), -1)
        joint.bin[which[parts]] = np.maximum(opened[joined.group], joined.bin)
        joint.slot[which[parts]] = np.maximum(slots[joined.group], joined.slot)
    state.free[bins], state.cpu[bins] = room.free, room.cpu
    state.memory[bins] = room.memory


def _items(state: State, bins: IntArray, of: IntArray) -> tuple[Items, IntArray]:
    """Items for rows of classes of[row], and the rows that may use every bin."""
    classes, ground, first = state.classes, state.ground, int(bins[0])
    kinds, kind = np.unique(of, return_inverse=True)
    usable: BoolArray = ground.allowed[np.ix_(kinds, bins)]
    everywhere = np.asarray(usable.all(axis=1), dtype=bool)
    good = np.flatnonzero(everywhere[kind.ravel()])
    kind = kind.ravel()[good]
    cpu = np.array([ground.cpu_need[k][first] for k in kinds.tolist()])
    memory = np.array([ground.memory_need[k][first] for k in kinds.tolist()])
    gpus = classes.gpu_count[of[good]]
    return Items(np.arange(len(good)), gpus, cpu[kind], memory[kind]), good


def _take_rests(
    state: State, joined: Joined, in_slot: IntArray, milli: IntArray
) -> None:
    """Book shares that go to GPUs opened before."""
    at = joined.bin[in_slot], joined.slot[in_slot]
    np.subtract.at(state.rest, at, milli[in_slot])
    state.rest[at] = np.where(state.rest[at] == 0, USED_UP, state.rest[at])


def _new_slots(state: State, opened: IntArray, used: list[int]) -> IntArray:
    """A free slot for each new shared GPU on bins opened[gpu]; books its rest."""
    slot = np.full(len(opened), -1, dtype=np.int64)
    order = np.argsort(opened, kind="stable")
    order = order[opened[order] >= 0]
    bins = opened[order]
    _, starts, counts = np.unique(bins, return_index=True, return_counts=True)
    rank = np.arange(len(bins)) - np.repeat(starts, counts)
    unused = np.argsort(state.rest[bins] != 0, axis=1, kind="stable")
    slot[order] = unused[np.arange(len(bins)), rank]
    left = WHOLE_GPU_MILLI - np.array(used, dtype=np.int64)[order]
    state.rest[bins, slot[order]] = np.where(left > 0, left, USED_UP)
    return slot
