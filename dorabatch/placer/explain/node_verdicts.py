"""Node by node: what keeps a request off each, and what is missing where least is.

Reads the same masks as the placement, in the same order; places nothing.
"""

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from dorabatch.placer.arrays.bins import cpu_needed, memory_needed
from dorabatch.placer.arrays.classes import Classes, classes_of
from dorabatch.placer.arrays.feasible import (
    PASSING,
    RESERVED,
    NodeRoom,
    gpus_usable,
    refusals,
    room_free,
    room_total,
)
from dorabatch.placer.arrays.types import (
    WHOLE_GPU_MILLI,
    ClusterArrays,
    IntArray,
    RequestArrays,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeVerdict:
    """The first reason of one node ("" where the request fits), with its numbers.

    gpus, cpu_milli, memory_mib: (free for the request, needed by it); gpu_milli: of a
    share (largest part of one GPU that is free, needed), of whole GPUs (0, 0).
    """

    node: int
    reason: str
    gpus: tuple[int, int]
    cpu_milli: tuple[int, int]
    memory_mib: tuple[int, int]
    gpu_milli: tuple[int, int] = (0, 0)


def node_verdicts(
    request: RequestArrays, cluster: ClusterArrays, reserved: Collection[int] = ()
) -> tuple[NodeVerdict, ...]:
    """What each node says to the one request; `reserved` are nodes kept from it."""
    classes = classes_of(request)
    reasons = np.full(len(cluster), "", dtype=object)
    room = room_free(cluster)
    for reason, refused in refusals(classes, 0, cluster, room):
        reasons[refused & (reasons == "")] = reason
    for node in reserved:
        reasons[node] = reasons[node] or RESERVED
    needs = _needs(classes, cluster)
    free = gpus_usable(classes, 0, room), room.cpu_milli, room.memory_mib
    table = [
        column.tolist() for pair in zip(free, needs, strict=True) for column in pair
    ]
    table += [column.tolist() for column in _parts(classes, room)]
    return tuple(
        NodeVerdict(
            node=node,
            reason=reason,
            gpus=(amounts[0], amounts[1]),
            cpu_milli=(amounts[2], amounts[3]),
            memory_mib=(amounts[4], amounts[5]),
            gpu_milli=(amounts[6], amounts[7]),
        )
        for node, (reason, *amounts) in enumerate(
            zip(reasons.tolist(), *table, strict=True)
        )
    )


def closest(
    request: RequestArrays,
    cluster: ClusterArrays,
    verdicts: tuple[NodeVerdict, ...],
) -> NodeVerdict | None:
    """The node on which least is missing now; None where no empty node would do.

    A node that would do at once if it were ready, in use or not kept comes first.
    """
    classes = classes_of(request)
    able = np.ones(len(cluster), dtype=bool)
    for reason, refused in refusals(classes, 0, cluster, room_total(cluster)):
        if reason not in PASSING:
            able &= ~refused
    missing = np.array(
        [missing_amounts(one) for one in verdicts], dtype=np.int64
    ).reshape(-1, 3)
    blocked = np.array([one.reason in PASSING for one in verdicts], dtype=bool)
    candidates = np.flatnonzero(able)
    if len(candidates) == 0:
        return None
    roomy = blocked & (missing.sum(axis=1) == 0)
    columns = (missing[:, 2], missing[:, 1], blocked, missing[:, 0], ~roomy)
    order = np.lexsort(tuple(column[candidates] for column in columns))
    return verdicts[int(candidates[order[0]])]


def missing_amounts(one: NodeVerdict) -> tuple[int, int, int]:
    """(GPUs, milli-CPUs, MiB) that would have to come free on the node."""
    pairs = one.gpus, one.cpu_milli, one.memory_mib
    gpus, cpu, memory = (max(need - free, 0) for free, need in pairs)
    return gpus, cpu, memory


def _needs(
    classes: Classes, cluster: ClusterArrays
) -> tuple[IntArray, IntArray, IntArray]:
    count = np.full(len(cluster), int(classes.gpu_count[0]), dtype=np.int64)
    return count, cpu_needed(classes, 0, cluster), memory_needed(classes, 0, cluster)


def _parts(classes: Classes, room: NodeRoom) -> tuple[IntArray, IntArray]:
    """(largest free part of an accepted GPU, part needed) per node; whole GPUs: 0."""
    accepted, milli = classes.accepts[0], int(classes.gpu_milli[0])
    none = np.zeros(len(room.cpu_milli), dtype=np.int64)
    if milli == WHOLE_GPU_MILLI or classes.gpu_count[0] == 0:
        return none, none
    whole = room.gpus[accepted].sum(axis=0) > 0
    rest = room.rest_milli[accepted].max(axis=0, initial=0)
    return np.where(whole, WHOLE_GPU_MILLI, rest), none + milli
