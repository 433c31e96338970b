"""Why a request waits: masks counted per reason, and one plain sentence.

Reads the same masks the placement obeys; it never changes or retries anything.
"""

from dataclasses import replace
from typing import NamedTuple

import numpy as np

from dorabatch.placer.arrays import (
    WHOLE_GPU_MILLI,
    BoolArray,
    ClusterArrays,
    Explanation,
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
    Refusals,
    Room,
    gpus_usable,
    lacks_cpus,
    lacks_memory,
    lasting_refusals,
    masked,
    refusals,
    reserved,
    room_total,
)
from dorabatch.placer.ground import cpu_needed, memory_needed

RANK = "Rank"
GANG = "Gang"
NO_NODES = "NoNodes"
_PASSING = (NODE_NOT_READY, SCHEDULING_DISABLED, RESERVED)


class Counted(NamedTuple):
    """Nodes counted by the first reason that refused them.

    reason: the last that any node stopped at ("": none); before[node], left[node]:
    what no reason before that one refused, and what none refused at all.
    """

    counts: dict[str, int]
    reason: str
    before: BoolArray
    left: BoolArray

    def and_then(self, found: Refusals) -> "Counted":
        """Counted on by further reasons."""
        counts, reason = dict(self.counts), self.reason
        before, left = self.before, self.left
        for name, refused in found:
            hit = left & refused
            many = int(np.count_nonzero(hit))
            if many:
                counts[name] = counts.get(name, 0) + many
                reason, before, left = name, left, left ^ hit
        return Counted(counts, reason, before, left)


def first_reasons(found: Refusals, nodes: int) -> Counted:
    """Count so many nodes by their first reason."""
    every = np.ones(nodes, dtype=bool)
    return Counted({}, "", every, every).and_then(found)


class WhyNot:
    """Why classes are not placed on a cluster, one after another.

    What does not depend on amounts is counted once for all classes of a sort.
    """

    def __init__(self, classes: Classes, cluster: ClusterArrays, room: Room) -> None:
        """Raise nothing; `room` is what is free now."""
        self._classes, self._cluster, self._room = classes, cluster, room
        self._lasting: dict[tuple[bool, int, bytes], Counted] = {}

    def __call__(self, index: int, *, possible: bool = False) -> Explanation:
        """The explanation of class `index`.

        `possible` says that some node would do if it were empty; else that is looked
        at.
        """
        classes, cluster = self._classes, self._cluster
        never = None if possible else explain_never(classes, index, cluster)
        usable = gpus_usable(classes, index, self._room)
        found = self._counted(index, usable)
        if never is not None:
            return replace(never, counts=found.counts)
        if found.left.any():
            sentence = "room was kept for workloads of higher rank"
            return Explanation(reason=RANK, counts=found.counts, sentence=sentence)
        which = int(classes.mask[index])
        return Explanation(
            reason=found.reason,
            counts=found.counts,
            sentence=self._sentence(index, found, usable),
            delays=cluster.masks[which - 1].delays if which else (),
        )

    def _counted(self, index: int, usable: IntArray) -> Counted:
        classes, cluster, room = self._classes, self._cluster, self._room
        count = int(classes.gpu_count[index])
        accepts = classes.accepts[index].tobytes()
        sort = count > 0, int(classes.mask[index]), accepts
        if sort not in self._lasting:
            lasting = lasting_refusals(classes, index, cluster)
            self._lasting[sort] = first_reasons(lasting, len(cluster))
        kept = reserved(classes, index, cluster)
        return self._lasting[sort].and_then(
            (
                (GPUS, usable < count),
                (CPUS, lacks_cpus(classes, index, cluster, room)),
                (MEMORY, lacks_memory(classes, index, cluster, room)),
                *(() if kept is None else (kept,)),
            )
        )

    def _sentence(self, index: int, found: Counted, usable: IntArray) -> str:
        """What is asked for, how many nodes come near, and the best of them."""
        classes, cluster = self._classes, self._cluster
        needs = f"needs {asked_words(classes, index, cluster.models)}"
        if found.reason == RESERVED:
            return _reserved_sentence(needs, found.counts[RESERVED])
        if found.reason == GPUS:
            ask = int(classes.gpu_count[index]), int(classes.gpu_milli[index])
            return _gpus_sentence(needs, ask, cluster, (found.before, usable))
        if found.reason in (CPUS, MEMORY):
            where = found.reason, found.before, self._room
            return _amount_sentence(needs, (classes, index), cluster, where)
        words = ", ".join(f"{name} {hit}" for name, hit in found.counts.items())
        return f"{needs}; none of {len(cluster)} nodes takes it now: {words}"


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
    counted = first_reasons(tuple(found), len(cluster))
    if counted.left.any():
        return None
    return Explanation(
        reason=counted.reason,
        counts=counted.counts,
        sentence=_never_sentence(classes, index, cluster, counted.reason),
        never=True,
    )


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


def _reserved_sentence(needs: str, kept: int) -> str:
    """There is room, but only where it is kept; the caller names for whom."""
    where = "one node is" if kept == 1 else f"{kept} nodes are"
    return f"{needs}; {where} kept for workloads of higher rank, which it would delay"


def _gpus_sentence(
    needs: str,
    ask: tuple[int, int],
    cluster: ClusterArrays,
    where: tuple[BoolArray, IntArray],
) -> str:
    """Of `ask` (GPUs, milli) too few are free on the nodes that have such GPUs."""
    (count, milli), (near, usable) = ask, where
    owners = int(np.count_nonzero(near))
    has = "has such GPUs" if owners == 1 else "have such GPUs"
    nodes = f"{needs}; {owners} of {len(cluster)} nodes {has}"
    if milli < WHOLE_GPU_MILLI:
        return f"{nodes}, none has that much of one GPU free now"
    best = int(np.where(near, usable, -1).argmax())
    return (
        f"{nodes}, none has {count} free now (best: {cluster.names[best]} with "
        f"{int(usable[best])} free)"
    )


def _amount_sentence(
    needs: str,
    which: tuple[Classes, int],
    cluster: ClusterArrays,
    where: tuple[str, BoolArray, Room],
) -> str:
    """CPUs or memory are short on the nodes that have all that comes before."""
    (classes, index), (reason, near, room) = which, where
    with_gpus = "have the GPUs" if classes.gpu_count[index] else "are open to it"
    cpus = reason == CPUS
    unit, noun, scale = ("", "CPUs", 1e-3) if cpus else (" MiB", "memory", 1.0)
    asked = (cpu_needed if cpus else memory_needed)(classes, index, cluster)
    free = room.cpu_milli if cpus else room.memory_mib
    best = int(np.where(near, free - asked, np.iinfo(np.int64).min).argmax())
    return (
        f"{needs} with {asked[best] * scale:g}{unit} {noun}; "
        f"{int(np.count_nonzero(near))} of {len(cluster)} nodes {with_gpus} now, none "
        f"has the {noun} free (best: {cluster.names[best]} with "
        f"{free[best] * scale:g}{unit})"
    )
