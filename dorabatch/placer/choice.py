"""Why this node: what a placement leaves there, beside the runner-up.

Measures both after the fact, on the room there was; the choice itself is made
elsewhere and may look further (at the whole queue). Decides nothing.
"""

from dataclasses import dataclass

import numpy as np

from dorabatch.placer.arrays import (
    WHOLE_GPU_MILLI,
    ClusterArrays,
    IntArray,
    Placement,
    RequestArrays,
)
from dorabatch.placer.timeline import Ask, Room, ask_of, placement_ends
from dorabatch.placer.waiting import rows_of

EXPLAINED_MAX = 64
"""Placements of one cycle that are measured against a runner-up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What one node looks like with the request on it.

    gpus_left         whole GPUs that stay free
    cpu_left_milli, memory_left_mib
    gpus_stranded     of gpus_left, those for which the CPUs or memory left are less
                      than the node's own slice for a GPU
    opens_node        nothing ran there before
    """

    node: int
    gpus_left: int
    cpu_left_milli: int
    memory_left_mib: int
    gpus_stranded: int
    opens_node: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """A placement's node, the next best by the same terms, and how many could do.

    The runner-up is the node with fewest stranded GPUs, then one that is in use, then
    with fewest GPUs left, then the first; None where no other node had room.
    """

    key: int
    chosen: Terms
    runner_up: Terms | None
    candidates: int


def choices(
    requests: RequestArrays, cluster: ClusterArrays, placements: tuple[Placement, ...]
) -> tuple[Choice, ...]:
    """The first EXPLAINED_MAX placements, each on the room those before it left."""
    placements = placements[:EXPLAINED_MAX]
    if not placements:
        return ()
    keys = np.array([one.key for one in placements], dtype=np.int64)
    rows = rows_of(requests.key, keys)
    held = placement_ends(
        requests, rows, placements, np.zeros(len(requests), np.int64), cluster
    )
    room = Room(cluster, int(held.share_slot.max(initial=-1)) + 1)
    found = []
    for at, (row, placement) in enumerate(zip(rows.tolist(), placements, strict=True)):
        ask = ask_of(requests, row, cluster)
        found.append(_choice(placement, ask, cluster, room))
        room.take(held.take(np.array([at])))
    return tuple(found)


def _choice(
    placement: Placement, ask: Ask, cluster: ClusterArrays, room: Room
) -> Choice:
    able = np.flatnonzero(room.fits(ask))
    others = able[able != placement.node]
    nodes = np.concatenate([[placement.node], others]).astype(np.int64)
    left = _left(ask, nodes, placement, room)
    stranded = _stranded(nodes, left, cluster)
    opens = _untouched(nodes, cluster, room)
    table = np.column_stack([nodes, left, stranded, opens])
    runner_up = None
    if len(others):
        behind = table[1:]
        order = np.lexsort((behind[:, 0], behind[:, 1], behind[:, 5], behind[:, 4]))
        runner_up = _terms(behind[order[0]])
    return Choice(
        key=placement.key,
        chosen=_terms(table[0]),
        runner_up=runner_up,
        candidates=len(others) + 1,
    )


def _left(ask: Ask, nodes: IntArray, placement: Placement, room: Room) -> IntArray:
    """left[node, (GPUs, milli-CPUs, MiB)]; a share opens a GPU where none has room."""
    gpus = room.gpus[nodes].sum(axis=1) - ask.count
    if ask.count and ask.milli < WHOLE_GPU_MILLI:
        opened = (room.rest[nodes][:, ask.accepts] >= ask.milli).any(axis=(1, 2))
        gpus = gpus + opened
        model = int(np.argmax(placement.gpus))
        slots = room.rest[placement.node, model]
        gpus[0] = room.gpus[placement.node].sum() - (slots[placement.slot] == 0)
    left: IntArray = np.column_stack(
        [gpus, room.cpu[nodes] - ask.cpu[nodes], room.memory[nodes] - ask.memory[nodes]]
    )
    return left


def _stranded(nodes: IntArray, left: IntArray, cluster: ClusterArrays) -> IntArray:
    gpus = np.maximum(cluster.gpus_total[nodes].sum(axis=1), 1)
    cpu = np.maximum(cluster.cpu_total_milli[nodes] // gpus, 1)
    memory = np.maximum(cluster.memory_total_mib[nodes] // gpus, 1)
    served = np.minimum(left[:, 1] // cpu, left[:, 2] // memory)
    stranded: IntArray = np.maximum(left[:, 0] - np.maximum(served, 0), 0)
    return stranded


def _untouched(nodes: IntArray, cluster: ClusterArrays, room: Room) -> np.ndarray:
    return np.asarray(
        (room.gpus[nodes] == cluster.gpus_total[nodes]).all(axis=1)
        & (room.cpu[nodes] == cluster.cpu_total_milli[nodes])
        & (room.memory[nodes] == cluster.memory_total_mib[nodes])
    )


def _terms(row: IntArray) -> Terms:
    node, gpus, cpu, memory, stranded, opens = (int(value) for value in row)
    return Terms(
        node=node,
        gpus_left=gpus,
        cpu_left_milli=cpu,
        memory_left_mib=memory,
        gpus_stranded=stranded,
        opens_node=bool(opens),
    )
