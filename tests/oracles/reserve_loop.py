"""Reservations in plain loops: who is first, from when there is room, who delays it.

Slow and obvious; never used outside tests.
"""

from dataclasses import replace

from dorabatch.placer.arrays.free_room import Ends
from dorabatch.placer.arrays.types import (
    UNKNOWN_US,
    ClusterArrays,
    Placement,
    Plan,
    RequestArrays,
)
from tests.oracles.placer_loop import LoopBooks

Held = tuple[int, tuple[int, ...], int, int]
"""(end, GPUs by model, milli-CPUs, MiB) of one attempt on the node looked at."""


def held_on(node: int, ends: Ends) -> list[Held]:
    """What runs on a node; whole GPUs only."""
    return [
        (
            int(ends.end_us[row]),
            tuple(ends.gpus[row].tolist()),
            int(ends.cpu_milli[row]),
            int(ends.memory_mib[row]),
        )
        for row in range(len(ends))
        if ends.node[row] == node
    ]


def start_on(
    requests: RequestArrays,
    row: int,
    node: int,
    cluster: ClusterArrays,
    held: list[Held],
) -> int:
    """The first moment the request fits on the node; 0 = now, -1 = never.

    `cluster` is free of everything but `held`, which ends at the stated moments.
    """
    for when in sorted({0, *(end for end, *_ in held)}):
        books = LoopBooks(cluster)
        for end, gpus, cpu, memory in held:
            if end > when:
                books.cpu[node] -= cpu
                books.memory[node] -= memory
                for model, count in enumerate(gpus):
                    books.free[node][model] -= count
        if not books.reason(requests, row, node):
            return when
    return -1


def as_held(
    requests: RequestArrays,
    placements: list[Placement],
    node: int,
    cluster: ClusterArrays,
    planned: dict[int, int],
) -> list[Held]:
    """Placements on a node as if they ran."""
    row_of = {int(key): row for row, key in enumerate(requests.key.tolist())}
    books, found = LoopBooks(cluster), []
    for placement in placements:
        if placement.node == node:
            cpu, memory = books.needs(requests, row_of[placement.key], node)
            found.append((planned[placement.key], placement.gpus, cpu, memory))
    return found


def emptied(cluster: ClusterArrays) -> ClusterArrays:
    """The cluster with nothing on it."""
    return replace(
        cluster,
        gpus_free=cluster.gpus_total.copy(),
        cpu_free_milli=cluster.cpu_total_milli.copy(),
        memory_free_mib=cluster.memory_total_mib.copy(),
        gpu_rest_milli=cluster.gpu_rest_milli * 0,
    )


def broken_reservations(
    requests: RequestArrays,
    cluster: ClusterArrays,
    plan: Plan,
    ends: Ends,
    planned: dict[int, int],
) -> list[str]:
    """Reservations that are not the earliest possible, or that lower rank delays.

    Only the first reservation is judged for being the earliest: those behind it also
    have to leave its place alone. A gang's begins when its last member has room.
    """
    found, empty = [], emptied(cluster)
    rank = {int(key): row for row, key in enumerate(requests.key.tolist())}
    for number, one in enumerate(plan.reservations):
        row = rank[one.key]
        if one.key not in plan.waiting:
            found.append(f"{one.key}: has a reservation and does not wait")
        ahead = [p for p in plan.placements if rank[p.key] < row]
        starts = {}
        for node in range(len(cluster)):
            held = held_on(node, ends)
            held += as_held(requests, ahead, node, cluster, planned)
            starts[node] = start_on(requests, row, node, empty, held)
        possible = [when for when in starts.values() if when >= 0]
        is_alone = number == 0 and not requests.gang[row]
        if is_alone and one.start_us > max(min(possible), 0):
            found.append(f"{one.key}: {one.start_us}, could be {min(possible)}")
        held = held_on(one.node, ends)
        held += as_held(requests, list(plan.placements), one.node, cluster, planned)
        then = start_on(requests, row, one.node, empty, held)
        if then < 0 or then > one.start_us:
            found.append(f"{one.key}: delayed from {one.start_us} to {then}")
        if one.start_us >= UNKNOWN_US:
            found += _taken_at_unknown(requests, cluster, plan, one.key, one.node)
    return found


def _taken_at_unknown(
    requests: RequestArrays, cluster: ClusterArrays, plan: Plan, key: int, node: int
) -> list[str]:
    """Lower rank in what a request without a known start is short of."""
    rank = {int(k): row for row, k in enumerate(requests.key.tolist())}
    row = rank[key]
    books = LoopBooks(cluster)
    cpu, memory = books.needs(requests, row, node)
    found = []
    for placement in plan.placements:
        other = rank[placement.key]
        if placement.node != node:
            continue
        is_lower = other > row
        books.take(requests, other, placement)
        if not is_lower:
            continue
        gpus = sum(
            free
            for model, free in enumerate(books.free[node])
            if requests.accepts[row, model] and placement.gpus[model]
        )
        takes_gpus = any(
            count and requests.accepts[row, model]
            for model, count in enumerate(placement.gpus)
        )
        if takes_gpus and gpus < requests.gpu_count[row]:
            found.append(f"{placement.key}: takes GPUs that {key} is short of")
        mine = books.needs(requests, other, node)
        if mine[0] > 0 and books.cpu[node] < cpu:
            found.append(f"{placement.key}: takes CPUs that {key} is short of")
        if mine[1] > 0 and books.memory[node] < memory:
            found.append(f"{placement.key}: takes memory that {key} is short of")
    return found
