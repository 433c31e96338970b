"""What one cycle decides on: the queue, what is held and the nodes, as arrays.

Pure: a snapshot is a value, frozen for its cycle; `cycle.take_snapshot` takes it. The
nodes' own arrays are kept from one look to the next, by the thread that plans with
them. Decides nothing.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from dorabatch.daemon.state.node_view import NodeView
from dorabatch.placer.arrays.types import (
    USED_UP,
    BoolArray,
    ClusterArrays,
    RequestArrays,
)
from dorabatch.queue.demand import HeldArrays, IntArray, PendingArrays


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """What one cycle decides on.

    `mask[pending]` is the request's `mask` in the cluster's masks.
    `held_node[held]` is the node's row of what is held, -1 for a node left out;
    `shared` has the device of each opened slot.
    """

    pending: PendingArrays
    held: HeldArrays
    held_node: IntArray
    shared: "SharedGpus"
    cluster: ClusterArrays
    mask: IntArray
    nodes: tuple[NodeView, ...]

    def requests(self, order: IntArray) -> RequestArrays:
        """The waiting containers `order` names, in that order, as requests."""
        waiting = self.pending
        accepts = accepts_table(waiting.selectors, self.cluster.models)
        count = len(order)
        return RequestArrays(
            key=waiting.key[order],
            group=waiting.group[order],
            gang=np.zeros(count, dtype=bool),
            gpu_count=waiting.gpu_count[order],
            gpu_milli=waiting.gpu_milli[order],
            accepts=accepts[waiting.selector[order]],
            cpu_milli=waiting.cpu_milli[order],
            memory_mib=waiting.memory_mib[order],
            affinity=waiting.affinity[order],
            mask=self.mask[order],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedGpus:
    """GPUs that shares are held of, each with its slot of `gpu_rest_milli`.

    slot_of[device] is (node, model, slot); device_of is the other way round.
    """

    slot_of: dict[str, tuple[int, int, int]]
    device_of: dict[tuple[int, int, int], str]
    rest_milli: dict[str, int]

    def slots(self, nodes: int, models: int) -> IntArray:
        """gpu_rest_milli[node, model, slot]."""
        width = 1 + max((place[2] for place in self.device_of), default=-1)
        rests = np.zeros((nodes, models, width), dtype=np.int64)
        for device, place in self.slot_of.items():
            rests[place] = self.rest_milli[device] or USED_UP
        return rests


def accepts_table(
    selectors: Sequence[tuple[str, ...] | None], models: Sequence[str]
) -> BoolArray:
    """accepts[selector, model]; a selector None accepts every model."""
    table = np.zeros((len(selectors), len(models)), dtype=bool)
    for row, wanted in enumerate(selectors):
        table[row] = [wanted is None or model in wanted for model in models]
    return table


def model_counts(sets: Sequence[tuple[str, ...]], models: Sequence[str]) -> IntArray:
    """count[set, model] of names in each set; names not among `models` are left out."""
    table = np.zeros((len(sets), len(models)), dtype=np.int64)
    column = {model: index for index, model in enumerate(models)}
    for row, names in enumerate(sets):
        for name in names:
            if name in column:
                table[row, column[name]] += 1
    return table


MILLI = 1000


def flags(values: Iterable[bool]) -> BoolArray:
    """The values as an array."""
    return np.fromiter(values, dtype=np.bool_)


class NodeArrays:
    """The nodes that can be planned with, as they were at the last look.

    `views` and the rows of `empty` (a cluster on which nothing runs) go together;
    `row_of` has a node's row by name.
    """

    def __init__(self) -> None:
        self._seen: list[NodeView] = []
        self.views: tuple[NodeView, ...] = ()
        self.row_of: dict[str, int] = {}
        self.empty = _empty_cluster((), ())

    def look(self, nodes: Sequence[NodeView]) -> None:
        """Take over what the nodes are now."""
        seen = list(nodes)
        if len(seen) == len(self._seen) and all(
            new is old for new, old in zip(seen, self._seen, strict=True)
        ):
            return
        before = {view.name: view for view in self._seen}
        same_hardware = len(seen) == len(self._seen) and all(
            _same_hardware(before.get(view.name), view) for view in seen
        )
        self._seen = seen
        self.views = tuple(view for view in seen if view.facts is not None)
        if same_hardware:
            self.empty = _with_states(self.empty, self.views)
            return
        self.row_of = {view.name: row for row, view in enumerate(self.views)}
        models = {gpu.model for view in self.views for gpu in view.all_gpus}
        self.empty = _empty_cluster(self.views, tuple(sorted(models)))


def _same_hardware(old: NodeView | None, new: NodeView) -> bool:
    if old is None or old.facts is None or new.facts is None:
        return old is not None and old.facts is new.facts
    if old.facts is new.facts:
        return True
    ours, theirs = old.facts, new.facts
    return (old.all_gpus, ours.cores, ours.memory_mib) == (
        new.all_gpus, theirs.cores, theirs.memory_mib,
    )  # fmt: skip


def _with_states(cluster: ClusterArrays, views: Sequence[NodeView]) -> ClusterArrays:
    """The same hardware in other states."""
    return replace(
        cluster,
        ready=flags(view.is_ready for view in views),
        enabled=flags(not view.settings.scheduling_disabled for view in views),
        allows_gpu=flags(view.settings.allows_gpu for view in views),
        allows_cpu=flags(view.settings.allows_cpu for view in views),
    )


def _empty_cluster(views: Sequence[NodeView], models: tuple[str, ...]) -> ClusterArrays:
    column = {model: index for index, model in enumerate(models)}
    gpus = np.zeros((len(views), len(models)), dtype=np.int64)
    cpu, memory = np.zeros(len(views), np.int64), np.zeros(len(views), np.int64)
    for row, view in enumerate(views):
        assert view.facts is not None
        for gpu in view.all_gpus:
            gpus[row, column[gpu.model]] += 1
        cpu[row] = len(view.facts.cores) * MILLI
        memory[row] = view.facts.memory_mib
    nobody = np.zeros(0, dtype=np.bool_)
    bare = ClusterArrays(
        names=tuple(view.name for view in views),
        models=models,
        ready=nobody,
        enabled=nobody,
        allows_gpu=nobody,
        allows_cpu=nobody,
        gpus_total=gpus,
        gpus_free=gpus,
        cpu_total_milli=cpu,
        cpu_free_milli=cpu,
        memory_total_mib=memory,
        memory_free_mib=memory,
        gpu_rest_milli=np.zeros((len(views), len(models), 0), dtype=np.int64),
    )
    return _with_states(bare, views)
