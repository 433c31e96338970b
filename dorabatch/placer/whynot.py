"""Why a request waits: masks counted per reason, and one plain sentence.

Reads the same masks the placement obeys; it never changes or retries anything.
"""

from dataclasses import replace

import numpy as np

from dorabatch.placer.arrays import (
    WHOLE_GPU_MILLI,
    BoolArray,
    ClusterArrays,
    Explanation,
    FloatArray,
    IntArray,
)
from dorabatch.placer.classes import Classes
from dorabatch.placer.feasible import (
    CPUS,
    GPU_MODEL,
    GPUS,
    MEMORY,
    NODE_NOT_READY,
    NOT_ALLOWED,
    RESERVED,
    SCHEDULING_DISABLED,
    Room,
    gpus_usable,
    masked,
    refusals,
    room_total,
)
from dorabatch.placer.ground import cpu_needed, memory_needed

RANK = "Rank"
GANG = "Gang"
NO_NODES = "NoNodes"
_PASSING = (NODE_NOT_READY, SCHEDULING_DISABLED, RESERVED)


def explain_waiting(
    classes: Classes,
    index: int,
    cluster: ClusterArrays,
    room: Room,
    *,
    possible: bool = False,
) -> Explanation:
    """Why class `index` is not placed on `cluster`, of which `room` is free now.

    `possible` says that some node would do if it were empty; else that is looked at.
    """
    never = None if possible else explain_never(classes, index, cluster)
    found = refusals(classes, index, cluster, room)
    counts, left = _first_reasons(found, len(cluster))
    if never is not None:
        return Explanation(
            reason=never.reason, counts=counts, sentence=never.sentence, never=True
        )
    if left.any():
        sentence = "room was kept for workloads of higher rank"
        return Explanation(reason=RANK, counts=counts, sentence=sentence)
    which = int(classes.mask[index])
    delays = cluster.masks[which - 1].delays if which else ()
    busy = _busy(classes, index, (cluster, room), (found, counts))
    return replace(busy, delays=delays)


def explain_never(
    classes: Classes, index: int, cluster: ClusterArrays
) -> Explanation | None:
    """Why class `index` fits no node even if all were empty; None if one would do."""
    if len(cluster) == 0:
        sentence = "there are no nodes; see dnode list"
        return Explanation(reason=NO_NODES, counts={}, sentence=sentence, never=True)
    found = [
        pair
        for pair in refusals(classes, index, cluster, room_total(cluster))
        if pair[0] not in _PASSING
    ]
    counts, left = _first_reasons(tuple(found), len(cluster))
    if left.any():
        return None
    reason = _furthest(found, counts)
    sentence = _never_sentence(classes, index, cluster, reason)
    return Explanation(reason=reason, counts=counts, sentence=sentence, never=True)


def explain_gang(members: int, sample: Explanation) -> Explanation:
    """Why a gang waits: its members start together or not at all."""
    sentence = f"{members} replicas must start together; {sample.sentence}"
    if sample.reason == RANK:
        sentence = f"{members} replicas must start together and not all fit now"
    return Explanation(
        reason=GANG,
        counts=sample.counts,
        sentence=sentence,
        never=sample.never,
        delays=sample.delays,
    )


def _first_reasons(
    found: tuple[tuple[str, BoolArray], ...], nodes: int
) -> tuple[dict[str, int], BoolArray]:
    """Count nodes by their first reason; return also the nodes with none."""
    left = np.ones(nodes, dtype=bool)
    counts: dict[str, int] = {}
    for reason, refused in found:
        hit = left & refused
        many = int(np.count_nonzero(hit))
        if many:
            counts[reason] = counts.get(reason, 0) + many
            left ^= hit
    return counts, left


def _furthest(
    found: list[tuple[str, BoolArray]] | tuple[tuple[str, BoolArray], ...],
    counts: dict[str, int],
) -> str:
    """The last reason any node stopped at: what stands in the way most closely."""
    hit = [reason for reason, _ in found if reason in counts]
    return hit[-1] if hit else RANK


def asked_words(classes: Classes, index: int, models: tuple[str, ...]) -> str:
    """The ask in words: `2 x V100 or T4`, `0.5 of a T4`, `4 CPUs`."""
    count, milli = int(classes.gpu_count[index]), int(classes.gpu_milli[index])
    if count == 0:
        return f"{int(classes.cpu_milli[index]) / 1000:g} CPUs"
    named = [
        name for name, good in zip(models, classes.accepts[index], strict=True) if good
    ]
    kind = "GPU of any model" if len(named) == len(models) else " or ".join(named)
    if milli < WHOLE_GPU_MILLI:
        return f"{milli / 1000:g} of a {kind or 'GPU'}"
    return f"{count} x {kind or 'GPU'}"


def _never_sentence(
    classes: Classes, index: int, cluster: ClusterArrays, reason: str
) -> str:
    ask = asked_words(classes, index, cluster.models)
    fits = _base(classes, index, cluster)
    if reason == GPU_MODEL:
        return _model_sentence(classes, index, cluster)
    if reason == GPUS:
        usable = gpus_usable(classes, index, room_total(cluster))
        best = int(np.argmax(np.where(fits, usable, -1)))
        return (
            f"can never run here: needs {ask}; the largest node for it, "
            f"{cluster.names[best]}, has {int(usable[best])}"
        )
    if reason == CPUS:
        largest = int(cluster.cpu_total_milli[fits].max(initial=0))
        need = int(cpu_needed(classes, index, cluster)[fits].min(initial=2**62))
        return (
            f"can never run here: needs {need / 1000:g} CPUs beside {ask}; the "
            f"largest such node has {largest / 1000:g}"
        )
    if reason == MEMORY:
        largest = int(cluster.memory_total_mib[fits].max(initial=0))
        need = int(memory_needed(classes, index, cluster)[fits].min(initial=2**62))
        return (
            f"can never run here: needs {need} MiB of memory beside {ask}; the "
            f"largest such node has {largest} MiB"
        )
    if reason == NOT_ALLOWED:
        sort = "with GPUs" if classes.gpu_count[index] else "without GPUs"
        return f"can never run here: no node takes workloads {sort}"
    return f"can never run here: no node passes {reason} for {ask}"


def _model_sentence(classes: Classes, index: int, cluster: ClusterArrays) -> str:
    named = masked(classes, index, cluster)
    may_use = np.ones(len(cluster), dtype=bool) if named is None else ~named[1]
    totals = cluster.gpus_total[may_use].sum(axis=0)
    known = [
        name for name, total in zip(cluster.models, totals, strict=True) if total > 0
    ]
    nobody = "no node" if named is None else "none of the nodes it may use"
    if not known:
        return f"can never run here: {nobody} has a GPU"
    wanted = [
        f"'{name}'"
        for name, good in zip(cluster.models, classes.accepts[index], strict=True)
        if good
    ]
    words = " or ".join(wanted)
    has = f"GPU model {words}" if words else "an accepted GPU model"
    return f"{nobody} has {has} (known: {', '.join(known)})"


def _base(classes: Classes, index: int, cluster: ClusterArrays) -> BoolArray:
    """Nodes left by the masks that do not depend on amounts."""
    left = np.ones(len(cluster), dtype=bool)
    for reason, refused in refusals(classes, index, cluster, room_total(cluster)):
        if reason in (GPUS, CPUS, MEMORY, *_PASSING):
            continue
        left &= ~refused
    return left


def _busy(
    classes: Classes,
    index: int,
    ground: tuple[ClusterArrays, Room],
    refused_by: tuple[tuple[tuple[str, BoolArray], ...], dict[str, int]],
) -> Explanation:
    (cluster, free), (found, counts) = ground, refused_by
    reason = _furthest(found, counts)
    ask = asked_words(classes, index, cluster.models)
    nodes = len(cluster)
    if reason == RESERVED:
        return _reserved(classes, index, cluster, counts)
    left = np.ones(nodes, dtype=bool)
    for name, refused in found:
        if name == reason:
            break
        left &= ~refused
    if reason == GPUS:
        sentence = _gpus_sentence(classes, index, cluster, (left, free))
    elif reason in (CPUS, MEMORY):
        sentence = _amount_sentence(classes, index, cluster, (reason, left, free))
    else:
        words = ", ".join(f"{name} {hit}" for name, hit in counts.items())
        sentence = f"needs {ask}; none of {nodes} nodes takes it now: {words}"
    return Explanation(reason=reason, counts=counts, sentence=sentence)


def _reserved(
    classes: Classes, index: int, cluster: ClusterArrays, counts: dict[str, int]
) -> Explanation:
    """There is room, but only where it is kept; the caller names for whom."""
    ask = asked_words(classes, index, cluster.models)
    kept = counts[RESERVED]
    where = "one node is" if kept == 1 else f"{kept} nodes are"
    return Explanation(
        reason=RESERVED,
        counts=counts,
        sentence=f"needs {ask}; {where} kept for workloads of higher rank, which it "
        "would delay",
    )


def _gpus_sentence(
    classes: Classes,
    index: int,
    cluster: ClusterArrays,
    where: tuple[BoolArray, Room],
) -> str:
    left, room = where
    ask = asked_words(classes, index, cluster.models)
    usable: IntArray = gpus_usable(classes, index, room)
    best = int(np.argmax(np.where(left, usable, -1)))
    owners = int(np.count_nonzero(left))
    has = "has such GPUs" if owners == 1 else "have such GPUs"
    if classes.gpu_milli[index] < WHOLE_GPU_MILLI:
        return (
            f"needs {ask}; {owners} of {len(cluster)} nodes {has}, none has that "
            "much of one GPU free now"
        )
    return (
        f"needs {ask}; {owners} of {len(cluster)} nodes {has}, none has "
        f"{int(classes.gpu_count[index])} free now (best: {cluster.names[best]} with "
        f"{int(usable[best])} free)"
    )


def _amount_sentence(
    classes: Classes,
    index: int,
    cluster: ClusterArrays,
    where: tuple[str, BoolArray, Room],
) -> str:
    reason, left, room = where
    ask = asked_words(classes, index, cluster.models)
    with_gpus = "have the GPUs" if classes.gpu_count[index] else "are open to it"
    owners = int(np.count_nonzero(left))
    cpus = reason == CPUS
    unit, noun = ("", "CPUs") if cpus else (" MiB", "memory")
    scale = 1e-3 if cpus else 1.0
    needed = cpu_needed if cpus else memory_needed
    amount = room.cpu_milli if cpus else room.memory_mib
    free: FloatArray = np.asarray(amount * scale, dtype=np.float64)
    asked = needed(classes, index, cluster)
    need: FloatArray = np.asarray(asked * scale, dtype=np.float64)
    best = int(np.argmax(np.where(left, free - need, -np.inf)))
    return (
        f"needs {ask} with {need[best]:g}{unit} {noun}; {owners} of {len(cluster)} "
        f"nodes {with_gpus} now, none has the {noun} free (best: "
        f"{cluster.names[best]} with {free[best]:g}{unit})"
    )
