"""Why this node: what a placement leaves there, beside the runner-up.

Measures both after the fact, on the room there was; the choice itself is made
elsewhere and may look further (at the whole queue). Decides nothing.
"""

from dataclasses import dataclass

import numpy as np

from dorabatch.placer.arrays.classes import classes_of
from dorabatch.placer.arrays.free_room import (
    Ask,
    Ends,
    FreeRoom,
    ask_of_class,
    placement_ends,
)
from dorabatch.placer.arrays.types import (
    WHOLE_GPU_MILLI,
    ClusterArrays,
    IntArray,
    Placement,
    RequestArrays,
    rows_of,
)

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
class NodeChoice:
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
) -> tuple[NodeChoice, ...]:
    """The first EXPLAINED_MAX placements, each on the room those before it left."""
    placements = placements[:EXPLAINED_MAX]
    if not placements:
        return ()
    keys = np.array([one.key for one in placements], dtype=np.int64)
    rows = rows_of(requests.key, keys)
    held = placement_ends(
        requests, rows, placements, np.zeros(len(requests), np.int64), cluster
    )
    scene = _Scene(cluster, FreeRoom(cluster, int(held.share_slot.max(initial=-1)) + 1))
    classes = classes_of(requests.take(rows))
    asks = [ask_of_class(classes, index, cluster) for index in range(len(classes))]
    found = []
    for at, of in enumerate(classes.of.tolist()):
        found.append(_choice(placements[at], asks[of], scene))
        scene.take(held.take(np.array([at])))
    return tuple(found)


class _Scene:
    """The room as placements take it: gpus[node] wholly free, untouched[node]."""

    __slots__ = ("cluster", "gpus", "room", "untouched")

    def __init__(self, cluster: ClusterArrays, room: FreeRoom) -> None:
        self.cluster = cluster
        self.room = room
        self.gpus: IntArray = room.gpus.sum(axis=1)
        self.untouched = np.asarray(
            (room.gpus == cluster.gpus_total).all(axis=1)
            & (room.cpu == cluster.cpu_total_milli)
            & (room.memory == cluster.memory_total_mib)
        )

    def take(self, held: Ends) -> None:
        """Take what one placement holds."""
        self.room.take(held)
        self.gpus[held.node] = self.room.gpus[held.node].sum(axis=1)
        self.untouched[held.node] = False


def _choice(placement: Placement, ask: Ask, scene: _Scene) -> NodeChoice:
    able = np.flatnonzero(scene.room.fits(ask))
    others = able[able != placement.node]
    nodes = np.concatenate([[placement.node], others]).astype(np.int64)
    left = _left(ask, nodes, placement, scene)
    stranded = _stranded(nodes, left, scene.cluster)
    table = np.stack([nodes, *left, stranded, scene.untouched[nodes]])
    runner_up = None
    if len(others):
        behind = np.arange(1, len(nodes))
        for column in table[[4, 5, 1]]:
            behind = behind[column[behind] == column[behind].min()]
        runner_up = _terms(table[:, behind[0]])
    return NodeChoice(
        key=placement.key,
        chosen=_terms(table[:, 0]),
        runner_up=runner_up,
        candidates=len(others) + 1,
    )


def _left(
    ask: Ask, nodes: IntArray, placement: Placement, scene: _Scene
) -> tuple[IntArray, IntArray, IntArray]:
    """GPUs, milli-CPUs, MiB left; a share opens a GPU where none has room."""
    room = scene.room
    gpus = scene.gpus[nodes] - ask.count
    if ask.count and ask.milli < WHOLE_GPU_MILLI:
        opened = (room.rest[nodes][:, ask.accepts] >= ask.milli).any(axis=(1, 2))
        gpus = gpus + opened
        model = int(np.argmax(placement.gpus))
        slots = room.rest[placement.node, model]
        gpus[0] = scene.gpus[placement.node] - (slots[placement.slot] == 0)
    cpu, memory = room.cpu - ask.cpu, room.memory - ask.memory
    return gpus, cpu[nodes], memory[nodes]


def _stranded(
    nodes: IntArray,
    left: tuple[IntArray, IntArray, IntArray],
    cluster: ClusterArrays,
) -> IntArray:
    cpu, memory = (np.maximum(part[nodes], 1) for part in cluster.gpu_slice)
    served = np.minimum(left[1] // cpu, left[2] // memory)
    stranded: IntArray = np.maximum(left[0] - np.maximum(served, 0), 0)
    return stranded


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
