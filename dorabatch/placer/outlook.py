"""What the demand looks like against the free room: shapes, shares, expectations.

Turns the demand (the queue itself, and recent requests where the caller has them)
into the fluid plan and the CPUs and memory a free GPU will ask for. Books nothing.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from dorabatch.placer.arrays import WHOLE_GPU_MILLI, BoolArray, FloatArray, IntArray
from dorabatch.placer.classes import distinct_rows
from dorabatch.placer.fluid import fluid_plan
from dorabatch.placer.ground import State
from dorabatch.placer.losses import LossTable
from dorabatch.placer.memo import PlanMemo, Tables, asked_of

CPU_UNIT = 1e4
MEMORY_UNIT = 40960.0
"""Milli-CPUs and MiB that weigh about as much as one GPU in the plan."""

CPU_STEP = 500
MEMORY_STEP = 2048
"""Milli-CPUs and MiB of one column of the tables."""

LATEST = 0.02
"""The least factor by which requests that may go anywhere take to a shape."""

MARGIN = 1.05
"""Whole nodes kept per whole node planned."""

SUIT = 0.1
"""Weight of suiting shapes against a GPU left unserved (1)."""

CPU_ONLY_SUIT = 0.3
"""The same for requests without GPUs, as a part of SUIT."""

CPU_ONLY_WORTH = 0.02
"""Worth of a CPU in GPUs: GPUs are the scarce resource, CPU requests still count."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlook:
    """The plan for the demand.

    shape[bin]; share[class, shape]: part of the class that belongs there
    cpu_mean[shape], cpu_spread[shape], memory_mean, memory_spread: per GPU to come
    share_below[milli]: part of share requests that fit a rest of `milli`
    kept[bin]: an empty node kept for requests that need a whole one
    by_cpu, by_memory: GPUs expected to stay idle for want of either
    """

    shape: IntArray
    share: FloatArray
    cpu_mean: FloatArray
    cpu_spread: FloatArray
    memory_mean: FloatArray
    memory_spread: FloatArray
    share_below: FloatArray
    kept: BoolArray
    by_cpu: LossTable
    by_memory: LossTable


class Shapes(NamedTuple):
    """Bins alike: shape[bin], first[shape] (one bin of each), need[class, shape,
    resource] in the plan's units (infinite: never there)."""

    shape: IntArray
    first: IntArray
    need: FloatArray


def look_ahead(
    state: State,
    shapes: Shapes,
    mix: tuple[IntArray, IntArray],
    memo: PlanMemo | None = None,
) -> Outlook:
    """Plan queued[class] as they are, and counts[class] as the mix of what follows.

    `mix` is (queued, counts). With `memo` an earlier plan serves while it holds.
    """
    queued, counts = mix
    shape, first, need = shapes
    room = _room(state, shape, len(first))
    gpu = state.classes.gpu_count * state.classes.gpu_milli / WHOLE_GPU_MILLI
    cpu = _cpu_asked(state, first)
    demand = _demand(gpu, queued, counts, float(room[:, 0].sum()))
    worth = np.maximum(gpu, CPU_ONLY_WORTH * cpu) + 1e-6
    usable: BoolArray = np.asarray(np.isfinite(need).all(axis=2), dtype=bool)
    asked = asked_of(state, first, usable) if memo is not None else None
    known = None
    if memo is not None and asked is not None:
        known = memo.recall(asked, demand * worth, room)
    if known is None:
        free = max(float(room[:, 0].sum()), 1.0)
        # One unit of x is one GPU's worth, so that all numbers are of like size.
        plan = fluid_plan(
            demand * worth,
            need / worth[:, None, None] / free,
            room / free,
            _dislike(state, first, gpu, cpu),
        )
        known = plan, _tables(state, plan / worth[:, None], need)
        if memo is not None and asked is not None:
            memo.keep(asked, demand * worth, room, known)
    plan, tables = known
    plan_now = plan * patience(plan, usable, room, gpu)
    served = plan_now.sum(axis=1, keepdims=True)
    even = usable / np.maximum(usable.sum(axis=1, keepdims=True), 1)
    share = np.where(served > 1e-6, plan_now / np.maximum(served, 1e-12), even)
    return Outlook(
        shape=shape,
        share=share,
        share_below=_share_below(state, counts),
        kept=_kept(state, shape, first, plan / worth[:, None]),
        by_cpu=tables.by_cpu,
        by_memory=tables.by_memory,
        **tables.expected,
    )


def patience(
    plan: FloatArray, usable: BoolArray, room: FloatArray, gpu: FloatArray
) -> FloatArray:
    """Factor[class, shape]: who may go anywhere comes late to what others need.

    1 less the part of a shape that is planned for GPU requests bound to few shapes.
    More of the few may come than was expected; the rest of the shape is still there
    for everybody in the end, since each plan counts what is left.
    """
    free = room[:, 0]
    reach = (usable @ free) / max(float(free.sum()), 1e-9)
    bound = ((1.0 - np.minimum(reach, 1.0)) * (gpu > 0)) @ plan
    late = 1.0 - np.minimum(bound / np.maximum(free, 1e-9), 1.0 - LATEST)
    return np.where(gpu[:, None] > 0, late[None, :], 1.0)


def _tables(state: State, plan: FloatArray, need: FloatArray) -> Tables:
    """What GPUs to come will ask for, and what is lost where less is left."""
    expected = _expectations(state, plan, need)
    most, cpus, memory = state.ground.total.max(axis=0).tolist()
    gpus = most + state.rest.shape[1]
    return Tables(
        expected=expected,
        by_cpu=LossTable(
            expected["cpu_mean"], expected["cpu_spread"], (gpus, cpus), CPU_STEP
        ),
        by_memory=LossTable(
            expected["memory_mean"],
            expected["memory_spread"],
            (gpus, memory),
            MEMORY_STEP,
        ),
    )


def _demand(
    gpu: FloatArray, queued: IntArray, counts: IntArray, free: float
) -> FloatArray:
    """demand[class]: the queue, and its like for the room beyond it."""
    now = float((queued * gpu).sum())
    part = min(1.0, free / now) if now > 0 else 1.0
    later = counts - queued
    if not (later * gpu).sum() > 0:
        later = counts
    asked = float((later * gpu).sum())
    more = (free - now * part) / asked if asked > 0 else 1.0
    return np.asarray(queued * part + later * more + 1e-9, dtype=np.float64)


def _dislike(
    state: State, first: IntArray, gpu: FloatArray, cpu: FloatArray
) -> FloatArray:
    """How badly CPUs per GPU asked suit CPUs per GPU owned; rich for CPU requests."""
    total = state.ground.total[first]
    owned = total[:, 1] / 1000.0 / np.maximum(total[:, 0], 0.5)
    owned = np.maximum(owned, 0.1)
    asked = np.maximum(cpu / np.maximum(gpu, 1e-3), 0.1)
    distance = np.abs(np.log(asked[:, None] / owned[None, :]))
    # Requests without GPUs go where CPUs are plenty.
    rich = np.abs(np.log(owned.max(initial=0.1) / owned))
    distance = np.where(gpu[:, None] > 0, distance, CPU_ONLY_SUIT * rich[None, :])
    return np.asarray(SUIT * distance, dtype=np.float64)


def _cpu_asked(state: State, first: IntArray) -> FloatArray:
    """cpu[class] in cores, the mean over shapes."""
    needs = [need[first] for need in state.ground.cpu_need]
    mean = np.array(needs).reshape(len(needs), len(first)).mean(axis=1)
    return np.asarray(mean / 1000.0)


def shapes_of(state: State) -> Shapes:
    """Sort bins by what an empty one has, and see which classes fit where."""
    ground, classes = state.ground, state.classes
    first, shape = _alike(np.column_stack([ground.model, ground.total]))
    gpu = classes.gpu_count * classes.gpu_milli / WHOLE_GPU_MILLI
    size = (len(classes), len(first))
    cpu = np.array([n[first] for n in ground.cpu_need]).reshape(size)
    memory = np.array([n[first] for n in ground.memory_need]).reshape(size)
    gpus = np.broadcast_to(gpu[:, None], size)
    need = np.stack([gpus, cpu / CPU_UNIT, memory / MEMORY_UNIT], axis=2)
    order = np.argsort(shape, kind="stable")
    starts = np.searchsorted(shape[order], np.arange(len(first)))
    usable = np.zeros(size, dtype=bool)
    if len(order):
        usable = np.logical_or.reduceat(ground.allowed[:, order], starts, axis=1)
    most = ground.total[first]
    usable &= most[:, 0] >= classes.gpu_count[:, None]
    usable &= (most[:, 1] >= cpu) & (most[:, 2] >= memory)
    need[~usable] = np.inf
    return Shapes(shape.astype(np.int64), first.astype(np.int64), need)


def _alike(rows: IntArray) -> tuple[IntArray, IntArray]:
    """first[kind] and kind[row] of equal rows, kinds in ascending order."""
    first, kind = distinct_rows(list(rows.T), len(rows))
    order = np.lexsort(rows[first].T[::-1])
    return first[order], np.argsort(order)[kind]


def _room(state: State, shape: IntArray, shapes: int) -> FloatArray:
    """room[shape, resource]: GPUs, CPUs and memory free, in the plan's units."""
    gpus = state.free * 1.0 + np.maximum(state.rest, 0).sum(axis=1) / WHOLE_GPU_MILLI
    return np.column_stack(
        [
            np.bincount(shape, weights=amount, minlength=shapes)
            for amount in (gpus, state.cpu / CPU_UNIT, state.memory / MEMORY_UNIT)
        ]
    )


def _expectations(
    state: State, plan: FloatArray, need: FloatArray
) -> dict[str, FloatArray]:
    """Mean and spread of CPUs and memory per GPU that will come to each shape."""
    gpu = state.classes.gpu_count * state.classes.gpu_milli / WHOLE_GPU_MILLI
    weight = np.where(gpu[:, None] > 0, plan * gpu[:, None], 0.0) + 1e-12
    total = weight.sum(axis=0)
    found: dict[str, FloatArray] = {}
    for name, resource, unit in (("cpu", 1, CPU_UNIT), ("memory", 2, MEMORY_UNIT)):
        per = np.where(np.isfinite(need[:, :, resource]), need[:, :, resource], 0.0)
        per = per * unit / np.maximum(gpu[:, None], 1e-3)
        per = np.where(gpu[:, None] > 0, per, 0.0)
        mean = (weight * per).sum(axis=0) / total
        variance = (weight * (per - mean) ** 2).sum(axis=0) / total
        found[f"{name}_mean"] = np.maximum(mean, 1.0)
        found[f"{name}_spread"] = np.sqrt(variance) + 1.0
    return found


def _kept(
    state: State, shape: IntArray, first: IntArray, plan: FloatArray
) -> BoolArray:
    """As many empty nodes of each shape, the last ones, as whole nodes are planned."""
    total = state.ground.total[:, 0]
    kept = np.zeros(len(shape), dtype=bool)
    untouched = (state.free == total) & (total > 1)
    for at, one in enumerate(first.tolist()):
        large = state.classes.gpu_count > total[one] // 2
        wanted = float(plan[large, at].sum())
        spare = np.flatnonzero(untouched & (shape == at))
        count = min(int(np.ceil(wanted * MARGIN)), len(spare))
        if total[one] > 1 and count:
            kept[spare[len(spare) - count :]] = True
    return kept


def _share_below(state: State, counts: IntArray) -> FloatArray:
    classes = state.classes
    share = (classes.gpu_count == 1) & (classes.gpu_milli < WHOLE_GPU_MILLI)
    millis = np.where(share, classes.gpu_milli, 0)
    hits = np.bincount(millis, weights=counts * share, minlength=WHOLE_GPU_MILLI + 1)
    below = np.cumsum(hits)
    return np.asarray(below / max(float(below[-1]), 1.0), dtype=np.float64)
