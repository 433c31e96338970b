"""What one cycle decides on: the queue, what is held and the nodes, as arrays.

Values only, frozen for the cycle; `capture` takes them.
"""

from collections.abc import Sequence
from dataclasses import dataclass

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
