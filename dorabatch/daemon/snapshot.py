"""The board and the fleet -> the placer's arrays, frozen for one cycle.

Copies; decides nothing and writes nothing. Also says which devices of a node are free
when a placement is turned into a hold.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from dorabatch.daemon.fleet import NodeView
from dorabatch.daemon.known_nodes import KnownNodes, flags
from dorabatch.placer.arrays import (
    USED_UP,
    Affinity,
    BoolArray,
    ClusterArrays,
    Mask,
    RequestArrays,
)
from dorabatch.queue.board import Board
from dorabatch.queue.demand import IntArray, PendingArrays, Restriction
from dorabatch.queue.held import HeldArrays
from dorabatch.queue.records import Hold

MILLI = 1000
_NO_PORTS: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """What one cycle decides on.

    `restriction_masks[restriction]` is the request's `mask` in the cluster's masks.
    `held_node[held]` is the node's row of what is held, -1 for a node left out;
    `shared` has the device of each opened slot.
    """

    pending: PendingArrays
    held: HeldArrays
    held_node: IntArray
    shared: "SharedGpus"
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


def take_snapshot(
    board: Board, nodes: Sequence[NodeView], known: KnownNodes | None = None
) -> Snapshot:
    """Everything a cycle needs, as it stands now; `known` spares work from before."""
    pending, held = board.pending.arrays(), board.held.arrays()
    known = known or KnownNodes()
    known.look(nodes)
    masks, numbers = _masks(pending, known.views, board)
    asking = np.isin(pending.affinity, (Affinity.DISTRIBUTE, Affinity.FILL))
    groups = np.unique(pending.group[asking])
    cluster, held_node, shared = _less_held(known, held, groups)
    return Snapshot(
        pending=pending,
        held=held,
        held_node=held_node,
        shared=shared,
        cluster=replace(cluster, masks=masks),
        restriction_masks=numbers,
        nodes=known.views,
    )


def accepts_table(
    selectors: Sequence[tuple[str, ...] | None], models: Sequence[str]
) -> BoolArray:
    """accepts[selector, model]; a selector None accepts every model."""
    table = np.zeros((len(selectors), len(models)), dtype=bool)
    for row, wanted in enumerate(selectors):
        table[row] = [wanted is None or model in wanted for model in models]
    return table


def cluster_arrays(nodes: Sequence[NodeView], board: Board) -> ClusterArrays:
    """The nodes' totals and what no attempt holds of them."""
    known, held = KnownNodes(), board.held.arrays()
    known.look(nodes)
    return _less_held(known, held, np.unique(held.group))[0]


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


def _less_held(
    known: KnownNodes, held: HeldArrays, groups: IntArray
) -> tuple[ClusterArrays, IntArray, SharedGpus]:
    """The nodes less what is held; siblings of the workloads in `groups` only."""
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


def model_counts(sets: Sequence[tuple[str, ...]], models: Sequence[str]) -> IntArray:
    """count[set, model] of names in each set; names not among `models` are left out."""
    table = np.zeros((len(sets), len(models)), dtype=np.int64)
    column = {model: index for index, model in enumerate(models)}
    for row, names in enumerate(sets):
        for name in names:
            if name in column:
                table[row, column[name]] += 1
    return table


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
    pending: PendingArrays, nodes: Sequence[NodeView], board: Board
) -> tuple[tuple[Mask, ...], IntArray]:
    masks: list[Mask] = []
    restrictions = pending.restrictions
    numbers = np.zeros(len(restrictions), dtype=np.int64)
    ports: dict[str, frozenset[str]] = {}
    # Only what something waiting names: the list of all ever seen may be long.
    for index in np.unique(pending.restriction).tolist():
        restriction = restrictions[index]
        if restriction == Restriction():
            continue
        if restriction.ports and not ports:
            ports = {view.name: held_ports(board, view.name) for view in nodes}
        allowed = flags(
            restricts(restriction, view, ports.get(view.name, frozenset())) is None
            for view in nodes
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

    `gpus` by model and `cores`, lowest number first; `shared` GPUs with the thousandths
    that are left of each; `ports` that are in use.
    """

    def __init__(self, view: NodeView, holds: Sequence[Hold]) -> None:
        assert view.facts is not None
        self.shared: dict[str, int] = {}
        for hold in holds:
            if hold.gpu_milli < MILLI:
                (uuid,) = hold.gpus
                self.shared[uuid] = self.shared.get(uuid, MILLI) - hold.gpu_milli
        used = {uuid for hold in holds for uuid in hold.gpus}
        self.gpus: dict[str, list[str]] = {}
        for gpu in sorted(view.facts.gpus, key=lambda gpu: gpu.minor):
            if gpu.uuid not in used:
                self.gpus.setdefault(gpu.model, []).append(gpu.uuid)
        pinned = {core for hold in holds for core in hold.cores}
        self.cores = [c for c in sorted(view.facts.cores) if c not in pinned]
        self.ports = {port for hold in holds for port in hold.ports}

    def take_whole(
        self, wanted: Sequence[tuple[str, int]]
    ) -> list[tuple[str, str]] | None:
        """(uuid, model) of whole GPUs; None, and nothing taken, where one lacks."""
        if any(len(self.gpus.get(model, ())) < count for model, count in wanted):
            return None
        taken = []
        for model, count in wanted:
            free = self.gpus[model]
            taken += [(uuid, model) for uuid in free[:count]]
            del free[:count]
        return taken

    def take_share(self, model: str, milli: int, uuid: str | None) -> str | None:
        """A share of the GPU with this uuid, or of one nobody uses; None: not free."""
        free = self.gpus.get(model, [])
        if uuid is None and free:
            uuid = free[0]
        if uuid in free:
            free.remove(uuid)
            self.shared[uuid] = MILLI
        if uuid is None or self.shared.get(uuid, 0) < milli:
            return None
        self.shared[uuid] -= milli
        return uuid
