"""The nodes as arrays, kept from cycle to cycle: only changed nodes are read again.

Copies what the fleet says of nodes with facts; knows nothing of what is held there.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np

from dorabatch.daemon.state.node_view import NodeState, NodeView
from dorabatch.placer.arrays.types import BoolArray, ClusterArrays

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
        models = {g.model for v in self.views if v.facts for g in v.facts.gpus}
        self.empty = _empty_cluster(self.views, tuple(sorted(models)))


def _same_hardware(old: NodeView | None, new: NodeView) -> bool:
    if old is None or old.facts is None or new.facts is None:
        return old is not None and old.facts is new.facts
    if old.facts is new.facts:
        return True
    ours, theirs = old.facts, new.facts
    return (ours.gpus, ours.cores, ours.memory_mib) == (
        theirs.gpus, theirs.cores, theirs.memory_mib,
    )  # fmt: skip


def _with_states(cluster: ClusterArrays, views: Sequence[NodeView]) -> ClusterArrays:
    """The same hardware in other states."""
    return replace(
        cluster,
        ready=flags(view.state is NodeState.READY for view in views),
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
        for gpu in view.facts.gpus:
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
