"""The board and the fleet -> the placer's arrays, frozen for one cycle.

Copies; decides nothing and writes nothing. Also says which devices of a node are free
when a placement is turned into a hold.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from dorabatch.daemon.fleet import NodeState, NodeView
from dorabatch.placer.arrays import BoolArray, ClusterArrays, Mask, RequestArrays
from dorabatch.queue.board import Board
from dorabatch.queue.demand import IntArray, PendingArrays, Restriction
from dorabatch.queue.records import Hold

MILLI = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """What one cycle decides on.

    `restriction_masks[restriction]` is the request's `mask` in the cluster's masks.
    """

    pending: PendingArrays
    cluster: ClusterArrays
    restriction_masks: IntArray
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
            mask=self.restriction_masks[waiting.restriction[order]],
        )


def take_snapshot(board: Board, nodes: Sequence[NodeView]) -> Snapshot:
    """Everything a cycle needs, as it stands now."""
    pending = board.pending.arrays()
    usable = tuple(view for view in nodes if view.facts is not None)
    masks, numbers = _masks(pending, usable, board)
    return Snapshot(
        pending=pending,
        cluster=cluster_arrays(usable, board, masks),
        restriction_masks=numbers,
        nodes=usable,
    )


def accepts_table(
    selectors: Sequence[tuple[str, ...] | None], models: Sequence[str]
) -> BoolArray:
    """accepts[selector, model]; a selector None accepts every model."""
    table = np.zeros((len(selectors), len(models)), dtype=bool)
    for row, wanted in enumerate(selectors):
        table[row] = [wanted is None or model in wanted for model in models]
    return table


def cluster_arrays(
    nodes: Sequence[NodeView], board: Board, masks: tuple[Mask, ...] = ()
) -> ClusterArrays:
    """The nodes' totals and what no attempt holds of them."""
    models = tuple(sorted({g.model for v in nodes if v.facts for g in v.facts.gpus}))
    column = {model: index for index, model in enumerate(models)}
    count = len(nodes)
    gpus = np.zeros((count, len(models)), dtype=np.int64)
    gpus_held = np.zeros_like(gpus)
    cpu, memory = np.zeros(count, dtype=np.int64), np.zeros(count, dtype=np.int64)
    cpu_held, memory_held = np.zeros_like(cpu), np.zeros_like(memory)
    siblings: dict[tuple[int, int], int] = {}
    for row, view in enumerate(nodes):
        assert view.facts is not None
        for gpu in view.facts.gpus:
            gpus[row, column[gpu.model]] += 1
        cpu[row] = len(view.facts.cores) * MILLI
        memory[row] = view.facts.memory_mib
        for held in board.on_node(view.name):
            hold = held.hold
            assert hold is not None
            for model in hold.gpu_models:
                if model in column:
                    gpus_held[row, column[model]] += 1
            cpu_held[row] += hold.cpu_milli
            memory_held[row] += hold.memory_mib
            pair = (int(held.workload_id), row)
            siblings[pair] = siblings.get(pair, 0) + 1
    return ClusterArrays(
        names=tuple(view.name for view in nodes),
        models=models,
        ready=_flags(view.state is NodeState.READY for view in nodes),
        enabled=_flags(not view.settings.scheduling_disabled for view in nodes),
        allows_gpu=_flags(view.settings.allows_gpu for view in nodes),
        allows_cpu=_flags(view.settings.allows_cpu for view in nodes),
        gpus_total=gpus,
        gpus_free=np.maximum(gpus - gpus_held, 0),
        cpu_total_milli=cpu,
        cpu_free_milli=np.maximum(cpu - cpu_held, 0),
        memory_total_mib=memory,
        memory_free_mib=np.maximum(memory - memory_held, 0),
        gpu_rest_milli=np.zeros((count, len(models), 0), dtype=np.int64),
        siblings=siblings,
        masks=masks,
    )


def _flags(values: Iterable[bool]) -> BoolArray:
    return np.fromiter(values, dtype=np.bool_)


def _masks(
    pending: PendingArrays, nodes: Sequence[NodeView], board: Board
) -> tuple[tuple[Mask, ...], IntArray]:
    masks: list[Mask] = []
    restrictions = pending.restrictions
    numbers = np.zeros(len(restrictions), dtype=np.int64)
    ports = {view.name: held_ports(board, view.name) for view in nodes}
    # Only what something waiting names: the list of all ever seen may be long.
    for index in np.unique(pending.restriction).tolist():
        restriction = restrictions[index]
        if restriction == Restriction():
            continue
        allowed = _flags(
            restricts(restriction, view, ports[view.name]) is None for view in nodes
        )
        masks.append(Mask(reason=_mask_reason(restriction), allowed=allowed))
        numbers[index] = len(masks)
    return tuple(masks), numbers


def _mask_reason(restriction: Restriction) -> str:
    if restriction.nodes:
        return "NodeList"
    return "CpuModel" if restriction.cpu_models else "Port"


def held_ports(board: Board, node: str) -> frozenset[str]:
    """Ports that attempts on a node publish."""
    holds = (held.hold for held in board.on_node(node))
    return frozenset(port for hold in holds if hold for port in hold.ports)


def restricts(
    restriction: Restriction, view: NodeView, ports: frozenset[str]
) -> str | None:
    """The reason why a node is out of bounds, or None."""
    if restriction.nodes and view.name not in restriction.nodes:
        return "NodeList"
    model = view.facts.cpu_model if view.facts else ""
    if restriction.cpu_models and model not in restriction.cpu_models:
        return "CpuModel"
    if ports.intersection(restriction.ports):
        return "Port"
    return None


class FreeDevices:
    """What holds leave of a node, taken from while a plan is committed.

    `gpus` by model and `cores`, lowest number first; `ports` that are in use.
    """

    def __init__(self, view: NodeView, holds: Sequence[Hold]) -> None:
        assert view.facts is not None
        used = {uuid for hold in holds for uuid in hold.gpus}
        self.gpus: dict[str, list[str]] = {}
        for gpu in sorted(view.facts.gpus, key=lambda gpu: gpu.minor):
            if gpu.uuid not in used:
                self.gpus.setdefault(gpu.model, []).append(gpu.uuid)
        pinned = {core for hold in holds for core in hold.cores}
        self.cores = [c for c in sorted(view.facts.cores) if c not in pinned]
        self.ports = {port for hold in holds for port in hold.ports}
