"""What a walk has booked, as arrays by request row.

Remembers where each row went and rebuilds its hold; it never books on the nodes.
"""

from typing import NamedTuple

import numpy as np

from dorabatch.placer.arrays import WHOLE_GPU_MILLI, IntArray
from dorabatch.placer.ground import Hold, State


class Booked:
    """bin[row] and slot[row] (-1: none); holds over several models apart."""

    __slots__ = ("bin", "mixed", "slot", "state")

    def __init__(self, state: State, rows: int) -> None:
        self.state = state
        self.bin: IntArray = np.full(rows, -1, dtype=np.int64)
        self.slot: IntArray = np.full(rows, -1, dtype=np.int64)
        self.mixed: dict[int, Hold] = {}

    def put(self, row: int, hold: Hold) -> None:
        """Note one hold."""
        self.bin[row], self.slot[row] = hold.bin, hold.slot
        if len(hold.gpus) > 1 or hold.gpus[0][0] != hold.bin:
            self.mixed[row] = hold

    def put_many(self, rows: IntArray, bins: IntArray, slots: IntArray) -> None:
        """Note many holds, each of one model."""
        self.bin[rows], self.slot[rows] = bins, slots

    def pop(self, row: int) -> Hold:
        """Forget a row; return what it held."""
        hold = self.hold(row)
        self.mixed.pop(row, None)
        self.bin[row] = self.slot[row] = -1
        return hold

    def hold(self, row: int) -> Hold:
        """What a booked row holds."""
        if row in self.mixed:
            return self.mixed[row]
        state = self.state
        index, bin_ = int(state.classes.of[row]), int(self.bin[row])
        return Hold(
            bin=bin_,
            gpus=((bin_, int(state.classes.gpu_count[index])),),
            slot=int(self.slot[row]),
            milli=int(state.classes.gpu_milli[index]),
            cpu=int(state.ground.cpu_need[index][bin_]),
            memory=int(state.ground.memory_need[index][bin_]),
        )

    def without_lower(self, row: int, end: int) -> "Potential":
        """What would be free if rows row+1..end gave back all they hold."""
        rows = np.flatnonzero(self.bin[row + 1 : end] >= 0) + row + 1
        state, size = self.state, len(self.state.free)
        bins, slots, of = self.bin[rows], self.slot[rows], state.classes.of[rows]
        cpu, memory = needs_at(state, of, bins)
        shared = slots >= 0
        rest = np.maximum(state.rest, 0)
        at = bins[shared], slots[shared]
        np.add.at(rest, at, state.classes.gpu_milli[of[shared]])
        emptied = ((rest == WHOLE_GPU_MILLI) & (state.rest != 0)).sum(axis=1)
        whole = _sums(bins[~shared], state.classes.gpu_count[of[~shared]], size)
        return Potential(
            gpus=state.free + whole + emptied,
            rest=np.asarray(rest.max(axis=1, initial=0), dtype=np.int64),
            cpu=state.cpu + state.by_node(bins, cpu).astype(np.int64),
            memory=state.memory + state.by_node(bins, memory).astype(np.int64),
        )

    def lower_on(self, bin_: int, row: int, end: int) -> list[int]:
        """Rows after `row` on the node of a bin, the lowest rank first."""
        node = self.state.ground.node
        bins = self.bin[row + 1 : end]
        found = np.flatnonzero((bins >= 0) & (node[bins] == node[bin_])) + row + 1
        return [int(r) for r in found[::-1]]


class Potential(NamedTuple):
    """gpus[bin], rest[bin] (largest of one GPU), cpu[bin], memory[bin]."""

    gpus: IntArray
    rest: IntArray
    cpu: IntArray
    memory: IntArray


def _sums(bins: IntArray, amounts: IntArray, size: int) -> IntArray:
    return np.bincount(bins, weights=amounts, minlength=size).astype(np.int64)


def needs_at(state: State, of: IntArray, bins: IntArray) -> tuple[IntArray, IntArray]:
    """cpu[i], memory[i] that class of[i] takes on bins[i]."""
    classes, ground = state.classes, state.ground
    cpu, memory = classes.cpu_milli[of].copy(), classes.memory_mib[of].copy()
    # SHARE differs from node to node.
    for at in np.flatnonzero((cpu < 0) | (memory < 0)).tolist():
        cpu[at] = ground.cpu_need[of[at]][bins[at]]
        memory[at] = ground.memory_need[of[at]][bins[at]]
    return cpu, memory
