"""Why a request waits: masks counted per reason, and one plain sentence.

Reads the same masks the placement obeys; it never changes or retries anything.
"""

from dataclasses import replace

import numpy as np

from dorabatch.placer.arrays.bins import cpu_needed, memory_needed
from dorabatch.placer.arrays.classes import Classes
from dorabatch.placer.arrays.feasible import (
    CPUS,
    GPU_MODEL,
    GPUS,
    MEMORY,
    RESERVED,
    NodeRoom,
    gpus_usable,
    lasting_refusals,
    present_refusals,
)
from dorabatch.placer.arrays.types import (
    WHOLE_GPU_MILLI,
    BoolArray,
    ClusterArrays,
    Explanation,
    IntArray,
)
from dorabatch.placer.explain.impossible import (
    Counted,
    explain_never,
    first_reasons,
    nearest,
)
from dorabatch.placer.explain.words import asked_words, cpu_words

RANK = "Rank"
GANG = "Gang"
_AMOUNTS = (GPU_MODEL, GPUS, CPUS, MEMORY, RESERVED)


class WhyNot:
    """Why classes are not placed on a cluster, one after another.

    What does not depend on amounts is counted once for all classes of a sort.
    """

    def __init__(
        self, classes: Classes, cluster: ClusterArrays, room: NodeRoom
    ) -> None:
        """Raise nothing; `room` is what is free now."""
        self._classes, self._cluster, self._room = classes, cluster, room
        self._lasting: dict[tuple[bool, int, bytes], Counted] = {}
        self._owned: dict[bytes, IntArray] = {}

    def __call__(self, index: int, *, possible: bool = False) -> Explanation:
        """The explanation of class `index`.

        `possible` says that some node would do if it were empty; else that is looked
        at.
        """
        classes, cluster = self._classes, self._cluster
        never = None if possible else explain_never(classes, index, cluster)
        found = self._counted(index)
        if never is not None:
            return replace(never, counts=found.counts)
        if found.left.any():
            sentence = "room was kept for workloads of higher rank"
            return Explanation(reason=RANK, counts=found.counts, sentence=sentence)
        which = int(classes.mask[index])
        return Explanation(
            reason=found.reason,
            counts=found.counts,
            sentence=self._sentence(index, found),
            delays=cluster.masks[which - 1].delays if which else (),
        )

    def _counted(self, index: int) -> Counted:
        classes, cluster, room = self._classes, self._cluster, self._room
        accepts = classes.accepts[index].tobytes()
        sort = bool(classes.gpu_count[index] > 0), int(classes.mask[index]), accepts
        if sort not in self._lasting:
            lasting = lasting_refusals(classes, index, cluster)
            self._lasting[sort] = first_reasons(lasting, len(cluster))
        present = present_refusals(classes, index, cluster, room)
        return self._lasting[sort].and_then(present)

    def _sentence(self, index: int, found: Counted) -> str:
        """What is asked for, how many nodes come near, and the best of them."""
        classes, cluster = self._classes, self._cluster
        needs = f"needs {asked_words(classes, index, cluster.models)}"
        if found.reason == RESERVED:
            return _reserved_sentence(needs, found.counts[RESERVED])
        if found.reason == GPUS:
            return f"{needs}; {self._gpus_words(index, found)}"
        if found.reason in (CPUS, MEMORY):
            return f"{needs}{self._amount_words(index, found)}"
        words = ", ".join(f"{name} {hit}" for name, hit in found.counts.items())
        return f"{needs}; none of {len(cluster)} nodes takes it now: {words}"

    def _gpus_words(self, index: int, found: Counted) -> str:
        """On the nodes that have such GPUs too few of them are free."""
        classes, room = self._classes, self._room
        count, milli = int(classes.gpu_count[index]), int(classes.gpu_milli[index])
        nodes = self._nodes(found, "such GPUs")
        if milli < WHOLE_GPU_MILLI:
            parts = room.rest_milli[classes.accepts[index]].max(axis=0, initial=0)
            best = nearest(found.before, parts)
            return (
                f"{nodes}, none has that much of one GPU free now (best: "
                f"{self._cluster.names[best]} with {parts[best] / 1000:g})"
            )
        usable = gpus_usable(classes, index, room)
        best = _best(found.before, self._owns(index) >= count, usable)
        return (
            f"{nodes}, none has {count} free now (best: {self._cluster.names[best]} "
            f"with {int(usable[best])} free)"
        )

    def _owns(self, index: int) -> IntArray:
        """GPUs of accepted models that each node has."""
        accepts = self._classes.accepts[index]
        key = accepts.tobytes()
        if key not in self._owned:
            self._owned[key] = self._cluster.gpus_owned[accepts].sum(axis=0)
        return self._owned[key]

    def _amount_words(self, index: int, found: Counted) -> str:
        """CPUs or memory are short on the nodes that have all that comes before."""
        classes, cluster, room = self._classes, self._cluster, self._room
        if found.reason == CPUS:
            need, free = cpu_needed(classes, index, cluster), room.cpu_milli
            total, noun = cluster.cpu_total_milli, "CPUs"
        else:
            need, free = memory_needed(classes, index, cluster), room.memory_mib
            total, noun = cluster.memory_total_mib, "memory"
        best = _best(found.before, total >= need, free - need)
        name, has = cluster.names[best], int(free[best])
        with_gpus = classes.gpu_count[index] > 0
        if found.reason == CPUS:
            wants = f" with {cpu_words(int(need[best]))}" if with_gpus else ""
            best_words = f"{name} with {has / 1000:g}"
        else:
            wants = f" with {int(need[best])} MiB memory"
            best_words = f"{name} with {has} MiB"
        owns = "the GPUs" if with_gpus else "the CPUs" if noun == "memory" else ""
        nodes = self._nodes(found, owns)
        return f"{wants}; {nodes} now, none has the {noun} free (best: {best_words})"

    def _nodes(self, found: Counted, owns: str) -> str:
        """`2 of 5 nodes are open to it and have such GPUs`."""
        many = int(np.count_nonzero(found.before))
        is_, has = ("is", "has") if many == 1 else ("are", "have")
        restricted = not owns or any(name not in _AMOUNTS for name in found.counts)
        words = [f"{is_} open to it"] * restricted + [f"{has} {owns}"] * bool(owns)
        return f"{many} of {len(self._cluster)} nodes {' and '.join(words)}"


def _best(near: BoolArray, large: BoolArray, spare: IntArray) -> int:
    """Of the near nodes the one with most to spare, of those large enough if any."""
    able = near & large
    return nearest(able if able.any() else near, spare)


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


def _reserved_sentence(needs: str, kept: int) -> str:
    """There is room, but only where it is kept; the caller names for whom."""
    where = "one node is" if kept == 1 else f"{kept} nodes are"
    return f"{needs}; {where} kept for workloads of higher rank, which it would delay"
