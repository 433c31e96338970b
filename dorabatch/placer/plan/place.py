"""place(): the whole waiting queue in rank order onto what is free.

Decides placements and says why the rest waits. It reads no clock, no database and
no node; the same input gives the same plan.
"""

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

import numpy as np

from dorabatch.placer.arrays.bins import (
    BinState,
    BinTable,
    Shapes,
    lay_bin_table,
    shapes_of,
)
from dorabatch.placer.arrays.booked import Booked
from dorabatch.placer.arrays.classes import classes_of
from dorabatch.placer.arrays.feasible import room_free
from dorabatch.placer.arrays.types import (
    ClusterArrays,
    Explanation,
    IntArray,
    Placement,
    Plan,
    RequestArrays,
    Waiting,
)
from dorabatch.placer.explain.impossible import refuse_bad_amounts
from dorabatch.placer.explain.whynot import WhyNot, explain_gang
from dorabatch.placer.plan.placement_policy import PlacementPolicy
from dorabatch.placer.plan.plan_memo import PlanMemo
from dorabatch.placer.plan.rank_order import in_rank_order

_NEW_PLACEMENT = partial(tuple.__new__, Placement)


def place(
    requests: RequestArrays,
    cluster: ClusterArrays,
    policy: PlacementPolicy | None = None,
    recent: RequestArrays | None = None,
    memo: PlanMemo | None = None,
) -> Plan:
    """Return where each request goes, or why it waits; requests are in rank order.

    `recent` are requests of the past that tell what demand to expect beside the
    queue itself; they are never placed.

    `memo`, passed to one call after another, saves planning the demand anew while it
    hardly changes; the same calls in the same order give the same plans.

    A request never waits because one of lower rank took its place. Raises Refused
    for amounts that make no sense (see verdict.can_ever_run).
    """
    policy = policy or PlacementPolicy()
    refuse_bad_amounts(requests, cluster)
    left: tuple[int, ...] = ()
    if len(requests) > policy.requests_max:
        left = tuple(requests.key[policy.requests_max :].tolist())
        requests = requests.take(np.arange(policy.requests_max))
    classes = classes_of(requests if recent is None else joined(requests, recent))
    layout = memo.layout(cluster) if memo is not None else None
    ground = lay_bin_table(classes, cluster, layout)
    state = BinState(ground, classes, cluster)
    shapes = shapes_of(ground, classes)
    booked = in_rank_order(requests, (state, shapes), cluster, policy, memo)
    waiting, explanations = _explain(requests, shapes, booked, cluster)
    return Plan(
        placements=_placements(requests, ground, booked, cluster),
        waiting=waiting,
        explanations=explanations,
        left=left,
    )


def joined(requests: RequestArrays, recent: RequestArrays) -> RequestArrays:
    """Both lists as one, `requests` first."""
    names = requests.__dataclass_fields__
    columns = {
        name: np.concatenate([getattr(requests, name), getattr(recent, name)])
        for name in names
    }
    return RequestArrays(**columns)


def cluster_after(cluster: ClusterArrays, state: BinState) -> ClusterArrays:
    """The cluster as the plan leaves it."""
    ground = state.ground
    owned = ground.model >= 0
    node, model = ground.node[owned], ground.model[owned]
    gpus_free = np.zeros_like(cluster.gpus_free)
    shape = (*cluster.gpus_free.shape, state.rest.shape[1])
    rest = np.zeros(shape, dtype=np.int64)
    gpus_free[node, model] = state.free[owned]
    rest[node, model] = state.rest[owned]
    cpu, memory = cluster.cpu_free_milli.copy(), cluster.memory_free_mib.copy()
    cpu[ground.node], memory[ground.node] = state.cpu, state.memory
    return replace(
        cluster,
        gpus_free=gpus_free,
        gpu_rest_milli=rest,
        cpu_free_milli=cpu,
        memory_free_mib=memory,
    )


def _placements(
    requests: RequestArrays,
    ground: BinTable,
    booked: Booked,
    cluster: ClusterArrays,
) -> tuple[Placement, ...]:
    rows = np.flatnonzero(booked.bin >= 0)
    bins = booked.bin[rows]
    of = booked.state.classes.of[rows]
    counts = booked.state.classes.gpu_count[of]
    # One tuple for every (model, count): most placements share a few.
    width, most = len(cluster.models), int(counts.max(initial=0))
    models = range(-1, width)
    tuples = [_by_model(m, c, width) for m in models for c in range(most + 1)]
    kind = (ground.model[bins] + 1) * (most + 1) + counts
    columns = (
        requests.key[rows].tolist(),
        ground.node[bins].tolist(),
        [tuples[which] for which in kind.tolist()],
        booked.slot[rows].tolist(),
    )
    with _many_made():
        made = list(map(_NEW_PLACEMENT, zip(*columns, strict=True)))
    for row, hold in booked.mixed.items():
        gpus = np.zeros(width, dtype=np.int64)
        for bin_, count in hold.gpus:
            gpus[ground.model[bin_]] += count
        at = int(np.searchsorted(rows, row))
        made[at] = made[at]._replace(gpus=tuple(gpus.tolist()))
    return tuple(made)


@contextmanager
def _many_made() -> Iterator[None]:
    """Look for no garbage meanwhile: for each 700 tuples made, tuples are searched."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _by_model(model: int, count: int, models: int) -> tuple[int, ...]:
    return tuple(count if at == model else 0 for at in range(models))


def _explain(
    requests: RequestArrays,
    shapes: Shapes,
    booked: Booked,
    cluster: ClusterArrays,
) -> tuple[Waiting, tuple[Explanation, ...]]:
    """One explanation per class that waits, and one per gang size of it."""
    rows = np.flatnonzero(booked.bin < 0)
    if len(rows) == 0:
        return Waiting(rows, rows), ()
    classes = booked.state.classes
    after = cluster_after(cluster, booked.state)
    why = WhyNot(classes, after, room_free(after))
    possible: list[bool] = [bool(row.any()) for row in shapes.usable]
    of = classes.of[rows]
    gang = requests.gang[rows]
    members = np.zeros(len(rows), dtype=np.int64)
    if gang.any():
        _, inverse, sizes = np.unique(
            requests.group[rows], return_inverse=True, return_counts=True
        )
        members = np.where(gang, sizes[inverse.ravel()], 0)
    return _share_explanations(
        requests.key[rows],
        of,
        members,
        lambda c: why(c, possible=possible[c]),
    )


def _share_explanations(
    keys: IntArray,
    of: IntArray,
    members: IntArray,
    explain: Callable[[int], Explanation],
) -> tuple[Waiting, tuple[Explanation, ...]]:
    span = int(members.max(initial=0)) + 1
    kind_of = of * span + members
    seen = np.bincount(kind_of) > 0
    kinds, why = np.flatnonzero(seen), np.cumsum(seen)[kind_of] - 1
    explanations = []
    for kind in kinds.tolist():
        single = explain(kind // span)
        size = kind % span
        explanations.append(explain_gang(size, single) if size else single)
    return Waiting(keys, why), tuple(explanations)
