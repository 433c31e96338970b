"""What a walk has booked, as arrays by request row.

Remembers where each row went, rebuilds its hold and counts what rows of lower rank
would give back; it never books on the nodes.
"""

from typing import NamedTuple

import numpy as np

from dorabatch.placer.arrays import WHOLE_GPU_MILLI, IntArray
from dorabatch.placer.ground import Hold, State, needs_at


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

    def whole_rows(self) -> IntArray:
        """Rows that hold whole GPUs of one model and an amount that is no share."""
        classes = self.state.classes
        is_whole = (classes.gpu_count > 0) & (classes.gpu_milli == WHOLE_GPU_MILLI)
        is_whole &= (classes.cpu_milli >= 0) & (classes.memory_mib >= 0)
        held = (self.bin >= 0) & is_whole[classes.of[: len(self.bin)]]
        held[list(self.mixed)] = False
        return np.flatnonzero(held)

    def lower_on(self, bin_: int, row: int, end: int) -> list[int]:
        """Rows after `row` on the node of a bin, the lowest rank first."""
        node = self.state.ground.node
        bins = self.bin[row + 1 : end]
        found = np.flatnonzero((bins >= 0) & (node[bins] == node[bin_])) + row + 1
        return [int(r) for r in found[::-1]]


class Potential(NamedTuple):
    """What would be free, by bin: gpus, rest (largest of one GPU), cpu, memory."""

    gpus: IntArray
    rest: IntArray
    cpu: IntArray
    memory: IntArray


class Lower:
    """What the booked rows behind a row hold, as that row moves towards the end."""

    __slots__ = (
        "_bin",
        "_count",
        "_cpu",
        "_gpus",
        "_memory",
        "_next",
        "_rows",
        "_share",
        "_slot",
        "state",
    )

    def __init__(self, booked: Booked, row: int, end: int) -> None:
        self.state = booked.state
        self._rows = np.flatnonzero(booked.bin[row + 1 : end] >= 0) + row + 1
        self._bin, self._slot = booked.bin[self._rows], booked.slot[self._rows]
        # By bin; what belongs to the whole node by node.
        self._gpus: IntArray = np.zeros_like(self.state.free)
        self._share = np.zeros_like(self.state.rest)
        nodes = int(self.state.ground.node.max(initial=-1)) + 1
        self._cpu, self._memory, self._count = np.zeros((3, nodes), dtype=np.int64)
        self._next = 0
        self._count_in(np.arange(len(self._rows)), 1)

    def move_to(self, row: int) -> None:
        """Leave out the rows up to this one; rows are passed once."""
        end = int(np.searchsorted(self._rows, row, side="right"))
        self._leave_out(np.arange(self._next, end))
        self._next = max(self._next, end)

    def drop(self, rows: list[int]) -> None:
        """Leave out rows that were given back."""
        self._leave_out(np.searchsorted(self._rows, rows))

    def bins(self) -> IntArray:
        """The bins of the nodes on which they hold something."""
        return np.flatnonzero(self._count[self.state.ground.node])

    def given_back(self, bins: IntArray) -> Potential:
        """What would be free on these bins if they gave back all they hold."""
        state, node = self.state, self.state.ground.node[bins]
        rest = np.maximum(state.rest[bins], 0) + self._share[bins]
        whole = (rest == WHOLE_GPU_MILLI) & (state.rest[bins] != 0)
        return Potential(
            gpus=state.free[bins] + self._gpus[bins] + whole.sum(axis=1),
            rest=np.asarray(rest.max(axis=1, initial=0), dtype=np.int64),
            cpu=state.cpu[bins] + self._cpu[node],
            memory=state.memory[bins] + self._memory[node],
        )

    def _leave_out(self, at: IntArray) -> None:
        at = at[self._bin[at] >= 0]
        if len(at):
            self._count_in(at, -1)
            self._bin[at] = -1

    def _count_in(self, at: IntArray, sign: int) -> None:
        classes, ground = self.state.classes, self.state.ground
        bins, slots, of = self._bin[at], self._slot[at], classes.of[self._rows[at]]
        node, shared = ground.node[bins], slots >= 0
        cpu, memory = needs_at(classes, ground, of, bins)
        np.add.at(self._cpu, node, sign * cpu)
        np.add.at(self._memory, node, sign * memory)
        np.add.at(self._count, node, sign)
        np.add.at(self._gpus, bins[~shared], sign * classes.gpu_count[of[~shared]])
        milli = classes.gpu_milli[of[shared]]
        np.add.at(self._share, (bins[shared], slots[shared]), sign * milli)
