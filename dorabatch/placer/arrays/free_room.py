"""What is free of each node at one moment, what a request needs, what holds ends.

Adds and takes amounts; it never chooses a node and reads no clock.
"""

from dataclasses import dataclass, replace

import numpy as np

from dorabatch.placer.arrays.bins import cpu_needed, memory_needed, node_allowed
from dorabatch.placer.arrays.classes import Classes, classes_of
from dorabatch.placer.arrays.feasible import lacks_model
from dorabatch.placer.arrays.types import (
    WHOLE_GPU_MILLI,
    BoolArray,
    ClusterArrays,
    IntArray,
    Placement,
    RequestArrays,
    rows_of,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ends:
    """What holds a part of a node, one row an attempt.

    node[row], gpus[row, model] whole GPUs, cpu_milli[row], memory_mib[row]
    end_us[row]         when it is expected to end; UNKNOWN_US: nobody knows
    share_model[row], share_slot[row], share_milli[row]
                        a share of a GPU: the slot of `gpu_rest_milli`; -1, -1, 0 else
    """

    node: IntArray
    gpus: IntArray
    cpu_milli: IntArray
    memory_mib: IntArray
    end_us: IntArray
    share_model: IntArray
    share_slot: IntArray
    share_milli: IntArray

    def __len__(self) -> int:
        return len(self.node)

    def take(self, rows: IntArray | BoolArray) -> "Ends":
        """Some of the rows."""
        names = self.__dataclass_fields__
        return replace(self, **{name: getattr(self, name)[rows] for name in names})


def no_ends(models: int) -> Ends:
    """Nothing runs."""
    none = np.zeros(0, dtype=np.int64)
    empty = np.zeros((0, models), dtype=np.int64)
    return Ends(
        node=none, gpus=empty, cpu_milli=none, memory_mib=none, end_us=none,
        share_model=none, share_slot=none, share_milli=none,
    )  # fmt: skip


def joined_ends(first: Ends, second: Ends) -> Ends:
    """Both, `first` first."""
    names = first.__dataclass_fields__
    pairs = {name: (getattr(first, name), getattr(second, name)) for name in names}
    return Ends(**{name: np.concatenate(pair) for name, pair in pairs.items()})


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """One request's needs: cpu[node], memory[node] and nodes it may use at all."""

    count: int
    milli: int
    accepts: BoolArray
    cpu: IntArray
    memory: IntArray
    allowed: BoolArray


def ask_of(requests: RequestArrays, row: int, cluster: ClusterArrays) -> Ask:
    """The needs of one request."""
    return ask_of_class(classes_of(requests.take(np.array([row]))), 0, cluster)


def ask_of_class(classes: Classes, index: int, cluster: ClusterArrays) -> Ask:
    """The needs of any request of a class."""
    allowed = node_allowed(classes, cluster)[index]
    return Ask(
        count=int(classes.gpu_count[index]),
        milli=int(classes.gpu_milli[index]),
        accepts=classes.accepts[index],
        cpu=cpu_needed(classes, index, cluster),
        memory=memory_needed(classes, index, cluster),
        allowed=allowed & ~lacks_model(classes, index, cluster),
    )


def some_nodes(cluster: ClusterArrays, nodes: IntArray) -> ClusterArrays:
    """The cluster as if it had these nodes only."""
    arrays = {
        name: getattr(cluster, name)[nodes]
        for name in cluster.__dataclass_fields__
        if isinstance(getattr(cluster, name), np.ndarray)
    }
    masks = tuple(
        replace(
            mask,
            allowed=mask.allowed[nodes],
            unreserved=None if mask.unreserved is None else mask.unreserved[nodes],
            first=tuple((name, refused[nodes]) for name, refused in mask.first),
        )
        for mask in cluster.masks
    )
    names = tuple(cluster.names[node] for node in nodes.tolist())
    return replace(cluster, names=names, masks=masks, **arrays)


def placed_rows(requests: RequestArrays, placements: tuple[Placement, ...]) -> IntArray:
    """rows[i]: the request of placements[i]."""
    keys = np.array([one.key for one in placements], dtype=np.int64)
    return rows_of(requests.key, keys)


def less_placed(
    requests: RequestArrays, cluster: ClusterArrays, placements: tuple[Placement, ...]
) -> ClusterArrays:
    """The cluster as placements leave it."""
    if not placements:
        return cluster
    rows, late = placed_rows(requests, placements), np.zeros(len(requests), np.int64)
    held = placement_ends(requests, rows, placements, late, cluster)
    room = FreeRoom(cluster, int(held.share_slot.max(initial=-1)) + 1)
    room.take(held)
    return room.as_cluster(cluster)


def placement_ends(
    requests: RequestArrays,
    rows: IntArray,
    placements: tuple[Placement, ...],
    end_us: IntArray,
    cluster: ClusterArrays,
) -> Ends:
    """Placements as if they ran: rows[i] is the request of placements[i]."""
    node = np.array([p.node for p in placements], dtype=np.int64)
    slot = np.array([p.slot for p in placements], dtype=np.int64)
    gpus = np.array([p.gpus for p in placements], dtype=np.int64)
    gpus = gpus.reshape(len(placements), len(cluster.models))
    is_share = slot >= 0
    model = gpus.argmax(axis=1) if gpus.size else np.zeros(len(node), dtype=np.int64)
    cpu, memory = np.zeros_like(node), np.zeros_like(node)
    classes = classes_of(requests.take(rows))
    for index in range(len(classes)):
        mine = classes.of == index
        cpu[mine] = cpu_needed(classes, index, cluster)[node[mine]]
        memory[mine] = memory_needed(classes, index, cluster)[node[mine]]
    return Ends(
        node=node,
        gpus=np.where(is_share[:, None], 0, gpus),
        cpu_milli=cpu,
        memory_mib=memory,
        end_us=end_us[rows],
        share_model=np.where(is_share, model, -1),
        share_slot=slot,
        share_milli=np.where(is_share, requests.gpu_milli[rows], 0),
    )


class FreeRoom:
    """What is free of each node at one moment, and taking from it."""

    __slots__ = ("cpu", "gpus", "memory", "rest")

    def __init__(self, cluster: ClusterArrays, slots: int = 0) -> None:
        self.gpus = cluster.gpus_free.copy()
        self.cpu = cluster.cpu_free_milli.copy()
        self.memory = cluster.memory_free_mib.copy()
        known = cluster.gpu_rest_milli
        width = max(slots, known.shape[2])
        self.rest = np.zeros((*self.gpus.shape, width), dtype=np.int64)
        self.rest[:, :, : known.shape[2]] = known

    def take(self, held: Ends) -> None:
        """Take what the rows hold."""
        np.subtract.at(self.gpus, held.node, held.gpus)
        np.subtract.at(self.cpu, held.node, held.cpu_milli)
        np.subtract.at(self.memory, held.node, held.memory_mib)
        for row in np.flatnonzero(held.share_slot >= 0).tolist():
            place = held.node[row], held.share_model[row], held.share_slot[row]
            rest = int(self.rest[place])
            if rest == 0:
                self.gpus[place[:2]] -= 1
                rest = WHOLE_GPU_MILLI
            left = max(rest, 0) - int(held.share_milli[row])
            self.rest[place] = left or -1

    def give(self, held: Ends) -> None:
        """Give back what the rows hold; a GPU is whole again with its last share."""
        np.add.at(self.gpus, held.node, held.gpus)
        np.add.at(self.cpu, held.node, held.cpu_milli)
        np.add.at(self.memory, held.node, held.memory_mib)
        for row in np.flatnonzero(held.share_slot >= 0).tolist():
            place = held.node[row], held.share_model[row], held.share_slot[row]
            rest = max(int(self.rest[place]), 0) + int(held.share_milli[row])
            if rest >= WHOLE_GPU_MILLI:
                self.gpus[place[:2]] += 1
                rest = 0
            self.rest[place] = rest

    def fits(self, ask: Ask) -> BoolArray:
        """fits[node]: whether the node has room for the ask."""
        good = ask.allowed & (self.cpu >= ask.cpu) & (self.memory >= ask.memory)
        if ask.count == 0:
            return good
        enough = self.gpus[:, ask.accepts].sum(axis=1) >= ask.count
        if ask.milli < WHOLE_GPU_MILLI:
            enough |= (self.rest[:, ask.accepts] >= ask.milli).any(axis=(1, 2))
        return np.asarray(good & enough, dtype=bool)

    def as_cluster(self, cluster: ClusterArrays) -> ClusterArrays:
        """The cluster with this much free."""
        return replace(
            cluster,
            gpus_free=self.gpus,
            gpu_rest_milli=self.rest,
            cpu_free_milli=self.cpu,
            memory_free_mib=self.memory,
        )
