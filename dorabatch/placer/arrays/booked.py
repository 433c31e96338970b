"""What a walk has booked, as arrays by request row.

Remembers where each row went, rebuilds its hold and counts what rows of lower rank
would give back; it never books on the nodes.
"""

from typing import NamedTuple

import numpy as np

from dorabatch.placer.arrays.bins import BinHold, BinState, needs_at
from dorabatch.placer.arrays.types import WHOLE_GPU_MILLI, IntArray


class Booked:
    """bin[row] and slot[row] (-1: none); holds over several models apart."""

    __slots__ = ("bin", "mixed", "slot", "state")

    def __init__(self, state: BinState, rows: int) -> None:
        self.state = state
        self.bin: IntArray = np.full(rows, -1, dtype=np.int64)
        self.slot: IntArray = np.full(rows, -1, dtype=np.int64)
        self.mixed: dict[int, BinHold] = {}

    def put(self, row: int, hold: BinHold) -> None:
        """Note one hold."""
        self.bin[row], self.slot[row] = hold.bin, hold.slot
        if len(hold.gpus) > 1 or hold.gpus[0][0] != hold.bin:
            self.mixed[row] = hold

    def put_many(self, rows: IntArray, bins: IntArray, slots: IntArray) -> None:
        """Note many holds, each of one model."""
        self.bin[rows], self.slot[rows] = bins, slots

    def pop(self, row: int) -> BinHold:
        """Forget a row; return what it held."""
        hold = self.hold(row)
        self.mixed.pop(row, None)
        self.bin[row] = self.slot[row] = -1
        return hold

    def hold(self, row: int) -> BinHold:
        """What a booked row holds."""
        if row in self.mixed:
            return self.mixed[row]
        state = self.state
        index, bin_ = int(state.classes.of[row]), int(self.bin[row])
        return BinHold(
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


FEW = 16
"""So few rows are left out one by one, without arrays."""


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
        "_by_node",
        "_cpu",
        "_gpus",
        "_held",
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
        self._held = np.ones(len(self._rows), dtype=bool)
        self._by_node: tuple[IntArray, IntArray] | None = None
        # By bin; what belongs to the whole node by node.
        self._gpus: IntArray = np.zeros_like(self.state.free)
        self._share = np.zeros_like(self.state.rest)
        nodes = int(self.state.ground.node.max(initial=-1)) + 1
        self._cpu, self._memory = np.zeros((2, nodes), dtype=np.int64)
        self._next = 0
        self._count_in(np.arange(len(self._rows)), 1)

    def move_to(self, row: int) -> list[int]:
        """Leave out the rows up to this one, and say on which bins they are.

        Rows are passed once.
        """
        end = int(self._rows.searchsorted(row, side="right"))
        passed = self._leave_out(np.arange(self._next, end))
        self._next = max(self._next, end)
        return passed

    def drop(self, rows: list[int]) -> list[int]:
        """Leave out rows that were given back, and say from which bins."""
        return self._leave_out(self._rows.searchsorted(rows))

    def rows_on(self, bin_: int) -> list[int]:
        """The rows on the node of a bin, the lowest rank first."""
        node = self.state.ground.node
        if self._by_node is None:
            nodes, many = node[self._bin], len(self._rows)
            # No two are equal, so that a sort need not be stable.
            order = np.argsort(nodes * many + np.arange(many))
            self._by_node = order, nodes[order]
        order, nodes = self._by_node
        first, last = np.searchsorted(nodes, [node[bin_], node[bin_] + 1])
        at = order[first:last]
        return [int(row) for row in self._rows[at[self._held[at]]][::-1]]

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

    def given_back_at(self, bin_: int) -> tuple[int, int, int, int]:
        """As `given_back`, for one bin."""
        state, node = self.state, self.state.ground.node.item(bin_)
        rests: list[int] = state.rest[bin_].tolist()
        shares: list[int] = self._share[bin_].tolist()
        sums = [max(rest, 0) + share for rest, share in zip(rests, shares, strict=True)]
        free = state.free.item(bin_) + self._gpus.item(bin_)
        for rest, all_ in zip(rests, sums, strict=True):
            free += rest != 0 and all_ == WHOLE_GPU_MILLI
        cpu = state.cpu.item(bin_) + self._cpu.item(node)
        memory = state.memory.item(bin_) + self._memory.item(node)
        return free, max(sums, default=0), cpu, memory

    def _leave_out(self, at: IntArray) -> list[int]:
        at = at[self._held[at]]
        self._held[at] = False
        if len(at) > FEW:
            self._count_in(at, -1)
        else:
            for place in at.tolist():
                self._count_out(place)
        bins: list[int] = self._bin[at].tolist()
        return bins

    def _count_out(self, place: int) -> None:
        """As `_count_in` of one row with sign -1."""
        classes, ground = self.state.classes, self.state.ground
        bin_, slot = self._bin.item(place), self._slot.item(place)
        kind, node = classes.of.item(self._rows.item(place)), ground.node.item(bin_)
        self._cpu[node] -= ground.cpu_need[kind].item(bin_)
        self._memory[node] -= ground.memory_need[kind].item(bin_)
        if slot < 0:
            self._gpus[bin_] -= classes.gpu_count.item(kind)
        else:
            self._share[bin_, slot] -= classes.gpu_milli.item(kind)

    def _count_in(self, at: IntArray, sign: int) -> None:
        classes, ground = self.state.classes, self.state.ground
        bins, slots, of = self._bin[at], self._slot[at], classes.of[self._rows[at]]
        node, shared = ground.node[bins], slots >= 0
        cpu, memory = needs_at(classes, ground, of, bins)
        np.add.at(self._cpu, node, sign * cpu)
        np.add.at(self._memory, node, sign * memory)
        np.add.at(self._gpus, bins[~shared], sign * classes.gpu_count[of[~shared]])
        milli = classes.gpu_milli[of[shared]]
        np.add.at(self._share, (bins[shared], slots[shared]), sign * milli)
