"""One mask per refusal reason: refused[node] for one class of requests.

Says why a node will not do; the first reason in REASONS order is the one counted.
It never scores, chooses or books.
"""

from dataclasses import dataclass

import numpy as np

from dorabatch.placer.arrays.bins import cpu_needed, memory_needed
from dorabatch.placer.arrays.classes import Classes
from dorabatch.placer.arrays.types import (
    WHOLE_GPU_MILLI,
    BoolArray,
    ClusterArrays,
    IntArray,
)

NODE_NOT_READY = "NodeNotReady"
SCHEDULING_DISABLED = "SchedulingDisabled"
NOT_ALLOWED = "NotAllowed"
GPU_MODEL = "GpuModel"
GPUS = "Gpus"
CPUS = "Cpus"
MEMORY = "Memory"
PORT = "Port"
START_REFUSED = "StartRefused"
RESERVED = "Reserved"
PASSING = (NODE_NOT_READY, SCHEDULING_DISABLED, PORT, START_REFUSED, RESERVED)
"""Reasons that pass: an empty node that is in use again has none of them."""

Refusals = tuple[tuple[str, BoolArray], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeRoom:
    """GPUs, CPUs and memory to measure a request against, per node.

    gpus[model, node], rest_milli[model, node] (largest rest of a shared GPU),
    cpu_milli[node], memory_mib[node]
    """

    gpus: IntArray
    rest_milli: IntArray
    cpu_milli: IntArray
    memory_mib: IntArray


def room_free(cluster: ClusterArrays) -> NodeRoom:
    """What is free now."""
    return NodeRoom(
        gpus=np.ascontiguousarray(cluster.gpus_free.T),
        rest_milli=cluster.gpu_rest_milli.max(axis=2, initial=0).T,
        cpu_milli=cluster.cpu_free_milli,
        memory_mib=cluster.memory_free_mib,
    )


def room_total(cluster: ClusterArrays) -> NodeRoom:
    """What there would be if every node were empty."""
    return NodeRoom(
        gpus=cluster.gpus_owned,
        rest_milli=np.broadcast_to(np.int64(0), cluster.gpus_owned.shape),
        cpu_milli=cluster.cpu_total_milli,
        memory_mib=cluster.memory_total_mib,
    )


def not_ready(cluster: ClusterArrays) -> BoolArray:
    """The node does not answer or is not healthy."""
    return ~cluster.ready


def scheduling_disabled(cluster: ClusterArrays) -> BoolArray:
    """The node takes nothing new."""
    return ~cluster.enabled


def not_allowed(classes: Classes, index: int, cluster: ClusterArrays) -> BoolArray:
    """The node does not take this sort of request (with or without GPUs)."""
    if classes.gpu_count[index] > 0:
        return ~cluster.allows_gpu
    return ~cluster.allows_cpu


def masked(classes: Classes, index: int, cluster: ClusterArrays) -> Refusals:
    """The request's own node list, CPU models or port, each with its reason."""
    which = int(classes.mask[index])
    if which == 0:
        return ()
    mask = cluster.masks[which - 1]
    own = mask.allowed if mask.unreserved is None else mask.unreserved
    return (*mask.first, (mask.reason, ~own))


def reserved(
    classes: Classes, index: int, cluster: ClusterArrays
) -> tuple[str, BoolArray] | None:
    """Nodes kept for requests of higher rank that this class would delay."""
    which = int(classes.mask[index])
    mask = cluster.masks[which - 1] if which else None
    if mask is None or mask.unreserved is None:
        return None
    return RESERVED, mask.unreserved & ~mask.allowed


def lacks_model(classes: Classes, index: int, cluster: ClusterArrays) -> BoolArray:
    """The node has no GPU of an accepted model."""
    if classes.gpu_count[index] == 0:
        return np.zeros(len(cluster), dtype=bool)
    owned = cluster.gpus_owned[classes.accepts[index]]
    return np.asarray(owned.sum(axis=0) == 0, dtype=bool)


def gpus_usable(classes: Classes, index: int, room: NodeRoom) -> IntArray:
    """GPUs of accepted models on each node that the class could take."""
    accepted = classes.accepts[index]
    whole: IntArray = room.gpus[accepted].sum(axis=0)
    milli = int(classes.gpu_milli[index])
    if milli == WHOLE_GPU_MILLI:
        return whole
    opened = room.rest_milli[accepted].max(axis=0, initial=0) >= milli
    return np.asarray(whole + opened, dtype=np.int64)


def lacks_gpus(classes: Classes, index: int, room: NodeRoom) -> BoolArray:
    """Too few GPUs of the accepted models."""
    usable = gpus_usable(classes, index, room)
    return np.asarray(usable < classes.gpu_count[index], dtype=bool)


def lacks_cpus(
    classes: Classes, index: int, cluster: ClusterArrays, room: NodeRoom
) -> BoolArray:
    """Too few CPUs."""
    return room.cpu_milli < cpu_needed(classes, index, cluster)


def lacks_memory(
    classes: Classes, index: int, cluster: ClusterArrays, room: NodeRoom
) -> BoolArray:
    """Too little memory."""
    return room.memory_mib < memory_needed(classes, index, cluster)


def refusals(
    classes: Classes, index: int, cluster: ClusterArrays, room: NodeRoom
) -> Refusals:
    """Every (reason, refused[node]) of class `index`, in the order counted."""
    return (
        *lasting_refusals(classes, index, cluster),
        *present_refusals(classes, index, cluster, room),
    )


def present_refusals(
    classes: Classes, index: int, cluster: ClusterArrays, room: NodeRoom
) -> Refusals:
    """What depends on amounts and on what is kept for others."""
    kept = reserved(classes, index, cluster)
    return (
        (GPUS, lacks_gpus(classes, index, room)),
        (CPUS, lacks_cpus(classes, index, cluster, room)),
        (MEMORY, lacks_memory(classes, index, cluster, room)),
        *(() if kept is None else (kept,)),
    )


def lasting_refusals(classes: Classes, index: int, cluster: ClusterArrays) -> Refusals:
    """What does not depend on amounts: the same for all classes of one sort."""
    return (
        (NODE_NOT_READY, not_ready(cluster)),
        (SCHEDULING_DISABLED, scheduling_disabled(cluster)),
        (NOT_ALLOWED, not_allowed(classes, index, cluster)),
        *masked(classes, index, cluster),
        (GPU_MODEL, lacks_model(classes, index, cluster)),
    )
