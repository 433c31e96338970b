"""Shares of a GPU joined: into opened GPUs, else with each other to one new GPU.

Best fit, largest first. It sees one shape of node at a time and ranks nothing.
"""

from typing import NamedTuple

import numpy as np

from dorabatch.placer.arrays import WHOLE_GPU_MILLI, IntArray
from dorabatch.placer.room import Items, Room


class Joined(NamedTuple):
    """group[share]: number of the new GPU it shares, or -1.

    bin[share], slot[share]: the opened GPU it goes to, or -1;
    cpu, memory, used (thousandths of the GPU): lists per new GPU.
    """

    group: IntArray
    bin: IntArray
    slot: IntArray
    cpu: list[int]
    memory: list[int]
    used: list[int]


class Rests:
    """Things with a rest, found by the smallest rest that is enough."""

    __slots__ = ("_bits", "_by_rest")

    def __init__(self) -> None:
        self._by_rest: list[list[int]] = [[] for _ in range(WHOLE_GPU_MILLI + 1)]
        self._bits = 0

    def add(self, rest: int, what: int) -> None:
        """Keep `what` with a rest of more than 0."""
        if rest > 0:
            self._by_rest[rest].append(what)
            self._bits |= 1 << rest

    def pop(self, size: int) -> tuple[int, int] | None:
        """Take (rest, what) with the smallest rest of at least `size`."""
        above = self._bits >> size
        if not above:
            return None
        rest = size + (above & -above).bit_length() - 1
        what = self._by_rest[rest].pop()
        if not self._by_rest[rest]:
            self._bits &= ~(1 << rest)
        return rest, what


def join_shares(room: Room, rests: IntArray, items: Items, milli: IntArray) -> Joined:
    """Give each share a place in an opened GPU or a part of a new one.

    rests[bin of room, slot] of opened GPUs; items[i] asks for milli[i].
    """
    count = len(milli)
    group, bins, slots = (np.full(count, -1, dtype=np.int64) for _ in range(3))
    joined = Joined(group, bins, slots, [], [], [])
    found = Rests()
    where, slot = np.nonzero(rests > 0)
    for number, rest in enumerate(rests[where, slot].tolist()):
        found.add(rest, -1 - number)
    sizes, cpus, mibs = milli.tolist(), items.cpu.tolist(), items.memory.tolist()
    for share in np.lexsort((-items.cpu, -milli)).tolist():
        size, cpu, mib = sizes[share], cpus[share], mibs[share]
        hit = found.pop(size)
        if hit is not None and hit[1] < 0:
            at = int(where[-1 - hit[1]])
            if room.cpu[at] < cpu or room.memory[at] < mib:
                hit = None
            else:
                room.cpu[at] -= cpu
                room.memory[at] -= mib
                bins[share], slots[share] = room.bin[at], slot[-1 - hit[1]]
                found.add(hit[0] - size, hit[1])
                continue
        if hit is None:
            hit = WHOLE_GPU_MILLI, len(joined.cpu)
            for column in (joined.cpu, joined.memory, joined.used):
                column.append(0)
        rest, what = hit
        group[share] = what
        joined.cpu[what] += cpu
        joined.memory[what] += mib
        joined.used[what] += size
        found.add(rest - size, what)
    return joined
