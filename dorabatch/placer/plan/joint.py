"""Many requests at once, on the shapes of nodes that the fluid plan says.

Splits requests over shapes and books what `rounds` and `cpu_requests` find room for.
What finds none is handed back; it is never ranked here.
"""

from typing import NamedTuple

import numpy as np

from dorabatch.placer.arrays.bin_room import BinRoom, Items
from dorabatch.placer.arrays.bins import BinState
from dorabatch.placer.arrays.types import USED_UP, WHOLE_GPU_MILLI, BoolArray, IntArray
from dorabatch.placer.plan.cpu_requests import without_gpus
from dorabatch.placer.plan.demand_outlook import DemandOutlook
from dorabatch.placer.plan.fluid import split
from dorabatch.placer.plan.gpu_shares import Crowd, Needs, bins_in_use, gather, needs_of
from dorabatch.placer.plan.rounds import fill


class Joint(NamedTuple):
    """Where rows went: bin[i], slot[i] (-1: no share) of rows[i]; bin -1 = nowhere."""

    bin: IntArray
    slot: IntArray


def place_jointly(state: BinState, outlook: DemandOutlook, rows: IntArray) -> Joint:
    """Book rows (of classes state.classes.of[row]) together; `state` is changed.

    Left alone: rows of a class that may not use every node of its shape that others
    use, and what needs GPUs of several models at once.
    """
    of = state.classes.of[rows]
    joint = Joint(np.full(len(rows), -1), np.full(len(rows), -1))
    in_use = bins_in_use(state)
    needs = needs_of(state, outlook.shapes, in_use)
    count, milli = state.classes.gpu_count[of], state.classes.gpu_milli[of]
    is_share = (count == 1) & (milli < WHOLE_GPU_MILLI)
    shares = np.flatnonzero(is_share)
    whole = np.flatnonzero(~is_share & (count > 0))
    crowd = gather(state, outlook, needs, (of[shares], in_use))
    items = _items(needs, _whole(needs, outlook, of[whole]), count[whole])
    news = _items(needs, _new_gpus(of[shares], crowd), np.ones_like(crowd.shape))
    bins = _on_nodes(state, outlook, in_use, items.beside(news))
    joint.bin[whole] = bins[: len(whole)]
    opened = np.append(bins[len(whole) :], -1)
    slots = np.append(_new_slots(state, opened[:-1], crowd.used), -1)
    # A share has a group or an opened GPU, never both; -1 stands for neither.
    joint.bin[shares] = np.maximum(opened[crowd.group], crowd.bin)
    joint.slot[shares] = np.maximum(slots[crowd.group], crowd.slot)
    joint.bin[count == 0] = without_gpus(state, outlook, of[count == 0])
    return joint


class _Asked(NamedTuple):
    """Parts of items: class of[part] for item at[part]; shape[item], -1 = nowhere."""

    of: IntArray
    at: IntArray
    shape: IntArray


def _whole(needs: Needs, outlook: DemandOutlook, of: IntArray) -> _Asked:
    """Requests of classes of[row] for whole GPUs, on their shapes by plan."""
    shape = split(outlook.share, of)
    shape[~needs.fits[of, shape]] = -1
    return _Asked(of, np.arange(len(of)), shape)


def _new_gpus(of: IntArray, crowd: Crowd) -> _Asked:
    """New GPUs, each for the shares of classes of[share] that are its group."""
    joined = crowd.group >= 0
    return _Asked(of[joined], crowd.group[joined], crowd.shape)


def _items(needs: Needs, asked: _Asked, gpus: IntArray) -> Items:
    """What each item of gpus[item] takes on its shape."""
    of, at, shape = asked
    on, count = shape[at], len(shape)
    cpu = np.bincount(at, needs.cpu[of, on], count).astype(np.int64)
    memory = np.bincount(at, needs.memory[of, on], count).astype(np.int64)
    return Items(shape, gpus, cpu, memory, np.full(count, -1, dtype=np.int64))


def _on_nodes(
    state: BinState, outlook: DemandOutlook, in_use: BoolArray, items: Items
) -> IntArray:
    """Book items on the bins of their shapes; return bin[item], -1 = nowhere."""
    shape = items.shape
    # Shapes whose bins share a node take turns.
    mixed = np.zeros(len(outlook.shapes), dtype=bool)
    mixed[outlook.shape[list(state.ground.sisters)]] = True
    alone = (shape >= 0) & ~mixed[shape]
    for turn in (alone, *(shape == one for one in np.flatnonzero(mixed).tolist())):
        some = np.flatnonzero(turn)
        if len(some):
            items.bin[some] = _one_turn(state, outlook, in_use, items.take(some))
    return items.bin


def _one_turn(
    state: BinState, outlook: DemandOutlook, in_use: BoolArray, items: Items
) -> IntArray:
    cpu, memory = _left_to(state, outlook)
    free = np.where(in_use, state.free, 0)
    total = state.ground.total[outlook.shapes.first, 0]
    fill(BinRoom(free, cpu, memory, outlook.shape, total), items)
    done = items.bin >= 0
    bins = items.bin[done]
    state.free -= np.bincount(bins, items.gpus[done], len(free)).astype(np.int64)
    state.spend_many(bins, items.cpu[done], items.memory[done])
    return items.bin


def _left_to(state: BinState, outlook: DemandOutlook) -> tuple[IntArray, IntArray]:
    """cpu[bin], memory[bin] less what free GPUs of other models there will ask for."""
    if not state.ground.sisters:
        return state.cpu.copy(), state.memory.copy()
    every = np.arange(len(state.free))
    left = []
    for amount, mean in (
        (state.cpu, outlook.cpu_mean),
        (state.memory, outlook.memory_mean),
    ):
        own = np.rint(state.free * mean[outlook.shape])
        others = (state.by_node(every, own) - own).astype(np.int64)
        left.append(np.maximum(amount - others, 0))
    return left[0], left[1]


def _new_slots(state: BinState, opened: IntArray, used: IntArray) -> IntArray:
    """A free slot for each new shared GPU on bins opened[gpu]; books its rest."""
    slot = np.full(len(opened), -1, dtype=np.int64)
    if len(opened) == 0:
        return slot
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
