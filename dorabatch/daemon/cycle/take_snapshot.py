"""The board and the fleet -> the placer's arrays, frozen for one cycle.

Copies; decides nothing and writes nothing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType

import numpy as np

from dorabatch.daemon.state.node_view import NodeView
from dorabatch.daemon.state.snapshot import (
    NodeArrays,
    SharedGpus,
    Snapshot,
    flags,
    model_counts,
)
from dorabatch.placer.arrays.feasible import PORT, START_REFUSED
from dorabatch.placer.arrays.types import Affinity, ClusterArrays, Mask
from dorabatch.queue.board import Board
from dorabatch.queue.demand import HeldArrays, IntArray, PendingArrays, Restriction

MILLI = 1000
NODE_LIST = "NodeList"
CPU_MODEL = "CpuModel"
_REASONS = (NODE_LIST, CPU_MODEL, PORT, START_REFUSED)
_NONE: frozenset[str] = frozenset()


def take_snapshot(
    board: Board,
    nodes: Sequence[NodeView],
    known: NodeArrays | None = None,
    avoided: Mapping[int, frozenset[str]] = MappingProxyType({}),
) -> Snapshot:
    """Everything a cycle needs, as it stands now; `known` spares work from before.

    avoided[workload] are the nodes that it keeps away from now.
    """
    # Waiting first, held second: the board holds a container before it lets it wait no
    # more, so what gets a place meanwhile is in one of them, and its place not free.
    pending = board.pending.arrays()
    held = board.held.arrays()
    known = known or NodeArrays()
    known.look(nodes)
    masks, mask = _masks(pending, known.views, board, avoided)
    asking = np.isin(pending.affinity, (Affinity.DISTRIBUTE, Affinity.FILL))
    groups = np.unique(pending.group[asking])
    cluster, held_node, shared = _less_held(known, board, held, groups)
    return Snapshot(
        pending=pending,
        held=held,
        held_node=held_node,
        shared=shared,
        cluster=replace(cluster, masks=masks),
        mask=mask,
        nodes=known.views,
    )


def cluster_arrays(nodes: Sequence[NodeView], board: Board) -> ClusterArrays:
    """The nodes' totals and what no attempt holds of them."""
    known, held = NodeArrays(), board.held.arrays()
    known.look(nodes)
    return _less_held(known, board, held, np.unique(held.group))[0]


def _less_held(
    known: NodeArrays, board: Board, held: HeldArrays, groups: IntArray
) -> tuple[ClusterArrays, IntArray, SharedGpus]:
    """The nodes less what is held and the GPUs that get nothing now.

    Siblings of the workloads in `groups` only.
    """
    cluster = known.empty
    row_of = np.array([known.row_of.get(n, -1) for n in held.nodes], dtype=np.int64)
    node = row_of[held.node] if len(held) else np.zeros(0, dtype=np.int64)
    here = np.flatnonzero(node >= 0)
    at = node[here]
    by_set = model_counts(held.model_sets, cluster.models)
    whole = here[held.device[here] == 0]
    gpus = cluster.gpus_total.copy()
    np.subtract.at(gpus, node[whole], by_set[held.models[whole]])
    shared = _shared_gpus(held, node, cluster.models)
    for place in shared.device_of:
        gpus[place[:2]] -= 1
    _keep_out(gpus, shared, known, board)
    cpu = cluster.cpu_total_milli - np.bincount(
        at, weights=held.cpu_milli[here], minlength=len(cluster)
    ).astype(np.int64)
    memory = cluster.memory_total_mib - np.bincount(
        at, weights=held.memory_mib[here], minlength=len(cluster)
    ).astype(np.int64)
    free = replace(
        cluster,
        gpus_free=np.maximum(gpus, 0),
        cpu_free_milli=np.maximum(cpu, 0),
        memory_free_mib=np.maximum(memory, 0),
        gpu_rest_milli=shared.slots(*gpus.shape),
        siblings=_siblings(held.group[here], at, groups),
    )
    return free, node, shared


def _keep_out(
    gpus: IntArray, shared: SharedGpus, known: NodeArrays, board: Board
) -> None:
    """Take away GPUs that get nothing now; one that is held counts as held already."""
    column = {model: index for index, model in enumerate(known.empty.models)}
    for row, view in enumerate(known.views):
        if not view.kept_out or view.facts is None:
            continue
        holds = (container.hold for container in board.on_node(view.name))
        held = {uuid for hold in holds if hold for uuid in hold.gpus}
        for gpu in view.all_gpus:
            if gpu.uuid in view.kept_out - held:
                gpus[row, column[gpu.model]] -= 1
        for uuid in view.kept_out & shared.rest_milli.keys():
            shared.rest_milli[uuid] = 0


def _shared_gpus(held: HeldArrays, node: IntArray, models: Sequence[str]) -> SharedGpus:
    column = {model: index for index, model in enumerate(models)}
    slot_of: dict[str, tuple[int, int, int]] = {}
    rests: dict[str, int] = {}
    opened: dict[tuple[int, int], int] = {}
    rows = np.flatnonzero((held.device > 0) & (node >= 0))
    for row in rows[np.argsort(held.device[rows], kind="stable")].tolist():
        device = held.devices[held.device[row]]
        model = column.get(held.model_sets[held.models[row]][0])
        if model is None:
            continue
        if device not in slot_of:
            pair = int(node[row]), model
            slot_of[device] = (*pair, opened.get(pair, 0))
            opened[pair] = opened.get(pair, 0) + 1
            rests[device] = MILLI
        rests[device] = max(rests[device] - int(held.gpu_milli[row]), 0)
    device_of = {place: device for device, place in slot_of.items()}
    return SharedGpus(slot_of=slot_of, device_of=device_of, rest_milli=rests)


def _siblings(
    group: IntArray, node: IntArray, groups: IntArray
) -> dict[tuple[int, int], int]:
    wanted = np.isin(group, groups)
    if not wanted.any():
        return {}
    pairs, counts = np.unique(
        np.column_stack([group[wanted], node[wanted]]), axis=0, return_counts=True
    )
    return {
        (workload, row): count
        for (workload, row), count in zip(pairs.tolist(), counts.tolist(), strict=True)
    }


def _masks(
    pending: PendingArrays,
    nodes: Sequence[NodeView],
    board: Board,
    avoided: Mapping[int, frozenset[str]],
) -> tuple[tuple[Mask, ...], IntArray]:
    """(all masks, mask[pending]: 0 where every node will do)."""
    restrictions = pending.restrictions
    ports: dict[str, frozenset[str]] = {}
    numbers: dict[tuple[int, frozenset[str]], int] = {}
    masks: list[Mask] = []

    def number(index: int, away: frozenset[str]) -> int:
        restriction = restrictions[index]
        if restriction == Restriction() and not away:
            return 0
        if restriction.ports and not ports:
            ports.update({one.name: held_ports(board, one.name) for one in nodes})
        if (index, away) not in numbers:
            masks.append(mask_of(restriction, nodes, ports, away))
            numbers[index, away] = len(masks)
        return numbers[index, away]

    # Only what something waiting names: the list of all ever seen may be long.
    named = np.unique(pending.restriction)
    usual = np.zeros(len(restrictions), dtype=np.int64)
    usual[named] = [number(index, _NONE) for index in named.tolist()]
    found = usual[pending.restriction]
    for workload, away in avoided.items():
        for row in np.flatnonzero(pending.group == workload).tolist():
            found[row] = number(int(pending.restriction[row]), away)
    return tuple(masks), found


def mask_of(
    restriction: Restriction,
    nodes: Sequence[NodeView],
    ports: Mapping[str, frozenset[str]] = MappingProxyType({}),
    avoided: frozenset[str] = _NONE,
) -> Mask:
    """Which nodes will do and why others will not.

    ports[node] are published there, `avoided` have refused to start it.
    """
    reasons = [
        restricts(restriction, view, ports.get(view.name, _NONE))
        or (START_REFUSED if view.name in avoided else None)
        for view in nodes
    ]
    allowed = flags(reason is None for reason in reasons)
    named = [name for name in _REASONS if name in reasons]
    refused = [(name, flags(name == reason for reason in reasons)) for name in named]
    return Mask(
        reason=named[-1] if named else _REASONS[0],
        allowed=allowed,
        first=tuple(refused[:-1]),
    )


def held_ports(board: Board, node: str) -> frozenset[str]:
    """Ports that attempts on a node publish."""
    holds = (held.hold for held in board.on_node(node))
    return frozenset(port for hold in holds if hold for port in hold.ports)


def restricts(
    restriction: Restriction, view: NodeView, ports: frozenset[str]
) -> str | None:
    """The reason why a node is out of bounds, or None."""
    if restriction.nodes and view.name not in restriction.nodes:
        return NODE_LIST
    model = view.facts.cpu_model if view.facts else ""
    if restriction.cpu_models and model not in restriction.cpu_models:
        return CPU_MODEL
    if ports.intersection(restriction.ports):
        return PORT
    return None
