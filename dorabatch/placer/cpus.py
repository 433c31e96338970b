"""Requests without GPUs: nodes filled with what uses best what GPUs do not need.

Nodes without free GPUs come first, the least room first, so that large rooms stay
whole. Knows no rank; what finds no room is handed back.
"""

import numpy as np

from dorabatch.placer.arrays import SHARE, WHOLE_GPU_MILLI, IntArray
from dorabatch.placer.ground import State
from dorabatch.placer.outlook import CPU_STEP, Outlook
from dorabatch.placer.slots import fullest


def without_gpus(state: State, outlook: Outlook, of: IntArray) -> IntArray:
    """bin[row] for CPU requests of classes of[row], -1 = nowhere; they are booked.

    Kinds that ask for a share of a node are left alone.
    """
    classes, ground = state.classes, state.ground
    found = np.full(len(of), -1, dtype=np.int64)
    asked = np.bincount(of, minlength=len(classes)) > 0
    kinds = np.flatnonzero(asked & (classes.memory_mib != SHARE))
    if len(kinds) == 0:
        return found
    room, idle = room_beside(state, outlook)
    sort = ground.sort[kinds]
    sorts = np.flatnonzero(np.bincount(sort))
    reach = ground.sorts[sorts].sum(axis=1)
    # Who may use the fewest nodes chooses first.
    for one in sorts[np.argsort(reach, kind="stable")].tolist():
        some = kinds[sort == one]
        some = some[np.argsort(-classes.cpu_milli[some], kind="stable")]
        bins = np.flatnonzero(ground.sorts[one] & (room > 0))
        bins = bins[np.lexsort((room[bins], idle[bins]))]
        _fill(state, (some, bins, room), of, found)
    return found


def room_beside(state: State, outlook: Outlook) -> tuple[IntArray, IntArray]:
    """room[bin] in steps of CPUs beside what its GPUs will ask for, and GPUs free."""
    mean = (outlook.cpu_mean + outlook.cpu_spread)[outlook.shape]
    rests = np.maximum(state.rest, 0)
    free = state.free * 1.0
    if rests.any():
        # Of an opened GPU counts what shares to come are expected to use.
        useful = (rests * outlook.share_below[rests]).sum(axis=1)
        free += useful / WHOLE_GPU_MILLI
    kept, idle = free * mean, state.free > 0
    if state.ground.sisters:
        every = np.arange(len(free))
        kept = state.by_node(every, kept)
        idle = state.by_node(every, state.free) > 0
    room = np.maximum((state.cpu - kept) // CPU_STEP, 0).astype(np.int64)
    return room, idle.astype(np.int64)


def _fill(
    state: State,
    asked: tuple[IntArray, IntArray, IntArray],
    of: IntArray,
    found: IntArray,
) -> None:
    """Fill bins in turn with requests of `kinds` (largest first); books them."""
    kinds, bins, room = asked
    classes = state.classes
    left = [np.flatnonzero(of == kind) for kind in kinds.tolist()]
    counts = [len(rows) for rows in left]
    sizes = (-(-classes.cpu_milli[kinds] // CPU_STEP)).tolist()
    memory = classes.memory_mib[kinds].tolist()
    bins = bins[room[bins] >= min(sizes)]
    starts = np.flatnonzero(np.diff(room[bins], prepend=-1)).tolist()
    for start, end in zip(starts, [*starts[1:], len(bins)], strict=False):
        some = bins[start:end]
        units = int(room[bins[start]])
        while len(some) and any(counts):
            pattern = fullest(units, sizes, counts)
            need = sum(memory[kind] * many for kind, many in pattern)
            some = some[state.memory[some] >= need]
            if not pattern:
                break
            times = min(len(some), *(counts[kind] // many for kind, many in pattern))
            taken, some = some[:times], some[times:]
            for kind, many in pattern:
                count = many * times
                rows, left[kind] = left[kind][:count], left[kind][count:]
                found[rows] = np.repeat(taken, many)
                counts[kind] -= count
            room[taken] -= sum(sizes[kind] * many for kind, many in pattern)
    rows = np.flatnonzero((found >= 0) & np.isin(of, kinds))
    of = of[rows]
    state.spend_many(found[rows], classes.cpu_milli[of], classes.memory_mib[of])
