"""Which restartable attempts to move where, so that a large request can start.

Advice only: it books nothing, and nobody acts on it by itself. Every move is planned
by place(), on what is free after the moves before it.
"""

from dataclasses import dataclass, replace

import numpy as np

from dorabatch.placer.arrays.free_room import (
    Ask,
    Ends,
    FreeRoom,
    ask_of,
    no_ends,
    placement_ends,
)
from dorabatch.placer.arrays.types import (
    BoolArray,
    ClusterArrays,
    IntArray,
    Mask,
    Placement,
    RequestArrays,
)
from dorabatch.placer.plan.place import place
from dorabatch.placer.plan.placement_policy import PlacementPolicy

MOVES_MAX = 32
"""Moves of one advice, in all."""

WAITING_MAX = 16
"""Waiting requests that are looked at, best rank first."""

_PACK = PlacementPolicy(name="best-fit", reservations=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class DefragMove:
    """One attempt of `key` (of workload `group`) leaves a node for another."""

    key: int
    group: int
    source: int
    target: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Gain:
    """What some moves bring: `node` has room, for `starts` or as a whole node.

    starts: (key, group) of the waiting request that can start there; None where the
    gain is an empty node. gpus counts the node's free GPUs by model afterwards.
    """

    moves: tuple[DefragMove, ...]
    node: int
    gpus: tuple[int, ...]
    starts: tuple[int, int] | None = None


def advise(
    cluster: ClusterArrays,
    movable: RequestArrays,
    held: Ends,
    waiting: RequestArrays,
    busy: IntArray,
) -> tuple[Gain, ...]:
    """Gains in the order in which they are to be made; each needs those before it.

    held[i] is what movable[i] holds now; waiting is in rank order and does not fit;
    busy[node] counts all attempts on a node, movable or not.
    """
    board = _Board(cluster, movable, held, busy)
    gains = []
    for row in range(min(len(waiting), WAITING_MAX)):
        ask = ask_of(waiting, row, board.cluster)
        gain = board.make_room(ask, waiting, row)
        if gain is not None:
            gains.append(gain)
    gains += board.empty_nodes()
    return tuple(gains)


class _Board:
    """The cluster as the gains so far leave it."""

    def __init__(
        self,
        cluster: ClusterArrays,
        movable: RequestArrays,
        held: Ends,
        busy: IntArray,
    ) -> None:
        self.cluster = cluster
        self.movable = movable
        self.held = replace(held, node=held.node.copy())
        self.busy = busy.copy()
        self.settled = np.zeros(len(movable), dtype=bool)
        self.moves_left = MOVES_MAX

    def make_room(self, ask: Ask, waiting: RequestArrays, row: int) -> Gain | None:
        """Fewest moves after which the request fits on one node."""
        options = []
        for node in np.flatnonzero(ask.allowed).tolist():
            leaving = self._leaving(ask, node)
            if leaving is not None and 0 < len(leaving) <= self.moves_left:
                options.append((len(leaving), node, leaving))
        for _, node, leaving in sorted(options, key=lambda one: one[:2]):
            targets = self._targets(leaving, node, None)
            if targets is None:
                continue
            moves = self._move(leaving, targets)
            starts = int(waiting.key[row]), int(waiting.group[row])
            gain = self._gain(moves, node, starts)
            self._start(waiting, row, node)
            return gain
        return None

    def empty_nodes(self) -> list[Gain]:
        """Nodes that movable attempts can leave for others already in use."""
        gains = []
        share = np.bincount(self.held.node[~self.settled], minlength=len(self.cluster))
        whole = (share > 0) & (share == self.busy)
        whole &= self.cluster.gpus_total.sum(axis=1) > 0
        gpus = self.cluster.gpus_total.sum(axis=1) - self.cluster.gpus_free.sum(axis=1)
        order = np.lexsort((np.arange(len(share)), gpus, share))
        for node in order.tolist():
            if not whole[node]:
                continue
            leaving = np.flatnonzero((self.held.node == node) & ~self.settled)
            if len(leaving) != self.busy[node] or len(leaving) > self.moves_left:
                continue
            used = self.busy > 0
            targets = self._targets(leaving, node, used)
            if targets is not None:
                gains.append(self._gain(self._move(leaving, targets), node, None))
        return gains

    def _leaving(self, ask: Ask, node: int) -> IntArray | None:
        """The fewest movable attempts of a node without which the request fits."""
        here = np.flatnonzero((self.held.node == node) & ~self.settled)
        whole = here[self.held.share_slot[here] < 0]
        room = FreeRoom(self.cluster)
        free = np.array(
            [*room.gpus[node], room.cpu[node], room.memory[node]], dtype=np.int64
        )
        freed = np.column_stack(
            [self.held.gpus, self.held.cpu_milli, self.held.memory_mib]
        )
        useful = freed[:, :-2][:, ask.accepts].sum(axis=1)
        order = whole[np.lexsort((whole, -useful[whole]))]
        chosen: list[int] = []
        for row in order.tolist():
            if _enough(ask, free, node):
                break
            free = free + freed[row]
            chosen.append(row)
        if not _enough(ask, free, node):
            return None
        for row in reversed(chosen.copy()):
            if _enough(ask, free - freed[row], node):
                free = free - freed[row]
                chosen.remove(row)
        return np.array(chosen, dtype=np.int64)

    def _targets(
        self, leaving: IntArray, node: int, only: BoolArray | None
    ) -> tuple[Placement, ...] | None:
        """A place elsewhere for each of the leaving, or None."""
        away = np.ones(len(self.cluster), dtype=bool) if only is None else only.copy()
        away[node] = False
        requests = self.movable.take(leaving)
        masks, numbers = list(self.cluster.masks), []
        for own in requests.mask.tolist():
            base = masks[own - 1].allowed if own else np.ones_like(away)
            masks.append(Mask(reason="Defrag", allowed=base & away))
            numbers.append(len(masks))
        requests = replace(requests, mask=np.array(numbers, dtype=np.int64))
        plan = place(requests, replace(self.cluster, masks=tuple(masks)), _PACK)
        return plan.placements if len(plan.placements) == len(leaving) else None

    def _move(
        self, leaving: IntArray, targets: tuple[Placement, ...]
    ) -> tuple[DefragMove, ...]:
        target_of = {one.key: one for one in targets}
        moves = []
        room = FreeRoom(self.cluster)
        room.give(self.held.take(leaving))
        chosen = tuple(target_of[int(self.movable.key[row])] for row in leaving)
        ends = placement_ends(
            self.movable, leaving, chosen, self.held.end_us, self.cluster
        )
        room.take(ends)
        for row, placement in zip(leaving.tolist(), chosen, strict=True):
            source = int(self.held.node[row])
            moves.append(
                DefragMove(
                    key=placement.key,
                    group=int(self.movable.group[row]),
                    source=source,
                    target=placement.node,
                )
            )
            self.busy[source] -= 1
            self.busy[placement.node] += 1
            self.held.node[row] = placement.node
        self.settled[leaving] = True
        self.moves_left -= len(moves)
        self.cluster = room.as_cluster(self.cluster)
        return tuple(moves)

    def _start(self, waiting: RequestArrays, row: int, node: int) -> None:
        """Take the room that the waiting request gets."""
        allowed = np.zeros(len(self.cluster), dtype=bool)
        allowed[node] = True
        masks = (*self.cluster.masks, Mask(reason="Defrag", allowed=allowed))
        request = replace(waiting.take(np.array([row])), mask=np.array([len(masks)]))
        plan = place(request, replace(self.cluster, masks=masks), _PACK)
        ends = no_ends(len(self.cluster.models))
        if plan.placements:
            late = np.zeros(len(waiting), dtype=np.int64)
            ends = placement_ends(
                waiting, np.array([row]), plan.placements, late, self.cluster
            )
        room = FreeRoom(self.cluster)
        room.take(ends)
        self.busy[node] += len(ends)
        self.cluster = room.as_cluster(self.cluster)

    def _gain(
        self, moves: tuple[DefragMove, ...], node: int, starts: tuple[int, int] | None
    ) -> Gain:
        free = tuple(int(count) for count in self.cluster.gpus_free[node])
        return Gain(moves=moves, node=node, gpus=free, starts=starts)


def _enough(ask: Ask, free: IntArray, node: int) -> bool:
    gpus = int(free[:-2][ask.accepts].sum())
    is_enough = gpus >= ask.count and free[-2] >= ask.cpu[node]
    return bool(is_enough and free[-1] >= ask.memory[node])
