"""The bench's own books: every placement is recounted against the task list.

Applies a plan to the nodes, gives back what ends, and raises where a plan asks for
more than there is. It never chooses.
"""

from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from bench.placement_files import Tasks
from dorabatch.errors import invariant
from dorabatch.placer.arrays.types import (
    USED_UP,
    WHOLE_GPU_MILLI,
    ClusterArrays,
    Placement,
)


class Books:
    """What is free on the nodes, and who holds what."""

    def __init__(self, cluster: ClusterArrays, tasks: Tasks) -> None:
        self.cluster = replace(
            cluster,
            gpus_free=cluster.gpus_free.copy(),
            cpu_free_milli=cluster.cpu_free_milli.copy(),
            memory_free_mib=cluster.memory_free_mib.copy(),
            gpu_rest_milli=cluster.gpu_rest_milli.copy(),
        )
        self.tasks = tasks
        self.capacity_milli = int(cluster.gpus_total.sum()) * WHOLE_GPU_MILLI
        self.used_milli = 0
        self.placed = np.zeros(len(tasks), dtype=bool)
        self.held: dict[int, Placement] = {}

    def apply(self, placements: Iterable[Placement]) -> None:
        """Book placements after checking each against what is free."""
        for placement in placements:
            self._take(placement)
            self.held[placement.key] = placement
            self.placed[placement.key] = True

    def give_back(self, key: int) -> None:
        """Task `key` has ended."""
        placement = self.held.pop(key)
        cluster, node = self.cluster, placement.node
        cluster.cpu_free_milli[node] += self.tasks.cpu_milli[key]
        cluster.memory_free_mib[node] += self.tasks.memory_mib[key]
        milli = int(self.tasks.gpu_milli[key])
        self.used_milli -= sum(placement.gpus) * milli
        if placement.slot < 0:
            cluster.gpus_free[node] += np.array(placement.gpus, dtype=np.int64)
            return
        model = placement.gpus.index(1)
        slots = cluster.gpu_rest_milli[node, model]
        rest = max(int(slots[placement.slot]), 0) + milli
        if rest == WHOLE_GPU_MILLI:
            cluster.gpus_free[node, model] += 1
            rest = 0
        slots[placement.slot] = rest

    def _take(self, placement: Placement) -> None:
        cluster, tasks = self.cluster, self.tasks
        key, node = placement.key, placement.node
        gpus = np.array(placement.gpus, dtype=np.int64)
        invariant(not self.placed[key], f"task {key} is placed twice")
        invariant(int(gpus.sum()) == tasks.gpu_count[key], f"task {key}: wrong GPUs")
        refused = gpus[~tasks.accepts[key]].sum()
        invariant(int(refused) == 0, f"task {key}: a model it does not accept")
        cluster.cpu_free_milli[node] -= tasks.cpu_milli[key]
        cluster.memory_free_mib[node] -= tasks.memory_mib[key]
        milli = int(tasks.gpu_milli[key])
        if milli < WHOLE_GPU_MILLI and tasks.gpu_count[key]:
            self._take_share(placement, milli)
        else:
            cluster.gpus_free[node] -= gpus
        self.used_milli += int(gpus.sum()) * milli
        short = min(
            int(cluster.gpus_free[node].min()),
            int(cluster.cpu_free_milli[node]),
            int(cluster.memory_free_mib[node]),
        )
        invariant(short >= 0, f"task {key}: node {node} is over capacity")

    def _take_share(self, placement: Placement, milli: int) -> None:
        node, model = placement.node, placement.gpus.index(1)
        slots = self.cluster.gpu_rest_milli[node, model]
        rest = int(slots[placement.slot])
        invariant(rest != USED_UP, f"task {placement.key}: its GPU is full")
        if rest == 0:
            self.cluster.gpus_free[node, model] -= 1
            rest = WHOLE_GPU_MILLI
        invariant(rest >= milli, f"task {placement.key}: its GPU has {rest} left")
        slots[placement.slot] = (rest - milli) or USED_UP

    def percent(self) -> float:
        """Allocated GPUs in % of capacity."""
        return 100.0 * self.used_milli / self.capacity_milli
