"""Why a request fits no node even if all were empty, in one sentence.

Refuses amounts that make no sense. Looks at totals and at what nodes take at all;
never at what is free now.
"""

from typing import NamedTuple

import numpy as np

from dorabatch.errors import Refused
from dorabatch.placer.arrays.bins import cpu_needed, memory_needed
from dorabatch.placer.arrays.classes import Classes, classes_of
from dorabatch.placer.arrays.feasible import (
    CPUS,
    GPU_MODEL,
    GPUS,
    MEMORY,
    NOT_ALLOWED,
    PASSING,
    Refusals,
    gpus_usable,
    lacks_model,
    lasting_refusals,
    masked,
    not_allowed,
    refusals,
    room_total,
)
from dorabatch.placer.arrays.types import (
    SHARE,
    WHOLE_GPU_MILLI,
    BoolArray,
    ClusterArrays,
    Explanation,
    IntArray,
    RequestArrays,
)
from dorabatch.placer.explain.words import asked_words, cpu_words, either, listed

NO_NODES = "NoNodes"
_HERE = "can never run here"
_OWN_WORDS = {
    "NodeList": "none of the nodes that it names is in this zone; see dnode list",
    "CpuModel": "no node that it may use has such a CPU; see dnode show",
}
"""What a request's own restrictions say of a zone where no node meets them."""


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


def explain_never(
    classes: Classes, index: int, cluster: ClusterArrays
) -> Explanation | None:
    """Why class `index` fits no node even if all were empty; None if one would do."""
    if len(cluster) == 0:
        sentence = "there are no nodes; see dnode list"
        return Explanation(reason=NO_NODES, counts={}, sentence=sentence, never=True)
    found = refusals(classes, index, cluster, room_total(cluster))
    counted = first_reasons(_lasting(found), len(cluster))
    if counted.left.any():
        return None
    if counted.reason in (GPUS, CPUS, MEMORY):
        reason, sentence = _too_large(classes, index, cluster, counted)
    else:
        reason, sentence = _nowhere(classes, index, cluster)
    return Explanation(
        reason=reason, counts=counted.counts, sentence=sentence, never=True
    )


def _lasting(found: Refusals) -> Refusals:
    return tuple(pair for pair in found if pair[0] not in PASSING)


def _too_large(
    classes: Classes, index: int, cluster: ClusterArrays, counted: Counted
) -> tuple[str, str]:
    """(reason, sentence) where nodes take it but none is large enough."""
    reason, ask = counted.reason, asked_words(classes, index, cluster.models)
    takes = first_reasons(
        _lasting(lasting_refusals(classes, index, cluster)), len(cluster)
    ).left
    if reason == GPUS:
        usable = gpus_usable(classes, index, room_total(cluster))
        best = nearest(takes, usable)
        return reason, (
            f"{_HERE}: needs {ask}; the largest node for it, {cluster.names[best]}, "
            f"has {int(usable[best])}"
        )
    if reason == CPUS:
        total, need = cluster.cpu_total_milli, cpu_needed(classes, index, cluster)
        best = nearest(counted.before, total - need)
        wants, has = cpu_words(int(need[best])), f"{int(total[best]) / 1000:g}"
    else:
        total, need = cluster.memory_total_mib, memory_needed(classes, index, cluster)
        best = nearest(counted.before, total - need)
        wants, has = f"{int(need[best])} MiB of memory", f"{int(total[best])} MiB"
    if reason == MEMORY or classes.gpu_count[index]:
        wants += f" beside {ask}"
    where = f"the largest such node, {cluster.names[best]}, has {has}"
    return reason, f"{_HERE}: needs {wants}; {where}"


def nearest(among: BoolArray, spare: IntArray) -> int:
    """The first of these nodes with most to spare."""
    return int(np.where(among, spare, np.iinfo(np.int64).min).argmax())


def _nowhere(classes: Classes, index: int, cluster: ClusterArrays) -> tuple[str, str]:
    """(reason, sentence) where no node takes it, whatever its size."""
    own = first_reasons(_lasting(masked(classes, index, cluster)), len(cluster))
    if not own.left.any():
        words = _OWN_WORDS.get(own.reason, f"no node passes {own.reason}")
        return own.reason, f"{_HERE}: {words}"
    owners = own.left & ~lacks_model(classes, index, cluster)
    if not owners.any():
        return GPU_MODEL, _model_sentence(classes, index, cluster, own.left)
    closed = [
        cluster.names[node]
        for node in np.flatnonzero(owners & not_allowed(classes, index, cluster))
    ]
    sort = "with GPUs" if classes.gpu_count[index] else "without GPUs"
    if len(closed) == len(cluster):
        return NOT_ALLOWED, f"{_HERE}: no node takes workloads {sort}"
    return NOT_ALLOWED, (
        f"{_HERE}: {listed(closed)} could run it but "
        f"{'takes' if len(closed) == 1 else 'take'} no workloads {sort}; an admin may "
        "change that (allow of the Node)"
    )


def _model_sentence(
    classes: Classes, index: int, cluster: ClusterArrays, may_use: BoolArray
) -> str:
    totals = cluster.gpus_total[may_use].sum(axis=0)
    known = [
        name for name, total in zip(cluster.models, totals, strict=True) if total > 0
    ]
    nobody = "no node" if may_use.all() else "none of the nodes it may use"
    if not known:
        return f"{_HERE}: {nobody} has a GPU"
    wanted = [
        f"'{name}'"
        for name, good in zip(cluster.models, classes.accepts[index], strict=True)
        if good
    ]
    has = f"GPU model {either(wanted)}" if wanted else "an accepted GPU model"
    return f"{_HERE}: {nobody} has {has} (they have: {listed(known)})"


AMOUNT = "Amount"


def can_ever_run(
    requests: RequestArrays, cluster: ClusterArrays
) -> tuple[Explanation | None, ...]:
    """Return, per request, None or why it can never run on these nodes.

    Nodes that are not ready or disabled count as if they were well: they return.
    """
    problems = [bad_amount(requests, row, cluster) for row in range(len(requests))]
    sound = np.array(
        [row for row, bad in enumerate(problems) if bad is None], dtype=int
    )
    classes = classes_of(requests.take(sound))
    verdicts = [explain_never(classes, c, cluster) for c in range(len(classes))]
    found = list(problems)
    for row, of in zip(sound.tolist(), classes.of.tolist(), strict=True):
        found[row] = verdicts[of]
    return tuple(found)


def bad_amount(
    requests: RequestArrays, row: int, cluster: ClusterArrays
) -> Explanation | None:
    """Say which amount of one request makes no sense, if any."""
    count, milli = int(requests.gpu_count[row]), int(requests.gpu_milli[row])
    cpu, memory = int(requests.cpu_milli[row]), int(requests.memory_mib[row])
    problem = ""
    if count < 0:
        problem = f"asks for {count} GPUs; ask for 0 or more"
    elif not 1 <= milli <= WHOLE_GPU_MILLI:
        problem = f"asks for {milli} thousandths of a GPU; ask for 1 to 1000"
    elif milli < WHOLE_GPU_MILLI and count != 1:
        problem = f"asks for a share of {count} GPUs; a share is of exactly 1 GPU"
    elif cpu < 0 and (cpu != SHARE or count == 0):
        problem = f"asks for {cpu} thousandths of a CPU; ask for 0 or more"
    elif memory < 0 and memory != SHARE:
        problem = f"asks for {memory} MiB of memory; ask for 0 or more"
    elif count == 0 and cpu <= 0:
        problem = "asks for no GPU and no CPU; ask for at least one of them"
    elif not 0 <= int(requests.mask[row]) <= len(cluster.masks):
        problem = f"names mask {requests.mask[row]}; there are {len(cluster.masks)}"
    if not problem:
        return None
    return Explanation(reason=AMOUNT, counts={}, sentence=problem, never=True)


def refuse_bad_amounts(requests: RequestArrays, cluster: ClusterArrays) -> None:
    """Raise Refused for the first request whose amounts make no sense."""
    count, milli = requests.gpu_count, requests.gpu_milli
    cpu, memory = requests.cpu_milli, requests.memory_mib
    share = milli < WHOLE_GPU_MILLI
    suspect = (count < 0) | (milli < 1) | (milli > WHOLE_GPU_MILLI)
    suspect |= share & (count != 1)
    suspect |= (cpu < 0) & ((cpu != SHARE) | (count == 0))
    suspect |= (memory < 0) & (memory != SHARE)
    suspect |= (count == 0) & (cpu <= 0)
    suspect |= (requests.mask < 0) | (requests.mask > len(cluster.masks))
    for row in np.flatnonzero(suspect)[:1].tolist():
        problem = bad_amount(requests, row, cluster)
        sentence = problem.sentence if problem else "asks for nothing possible"
        raise Refused(f"request {int(requests.key[row])}: {sentence}")
