"""What the demand looks like against the free room: shapes, shares, expectations.

Turns the demand (the queue itself, and recent requests where the caller has them)
into the fluid plan and the CPUs and memory a free GPU will ask for. Books nothing.
"""

from dataclasses import dataclass

import numpy as np

from dorabatch.placer.arrays.bins import BinState, Shapes
from dorabatch.placer.arrays.types import (
    WHOLE_GPU_MILLI,
    BoolArray,
    FloatArray,
    IntArray,
)
from dorabatch.placer.plan.fluid import fluid_plan
from dorabatch.placer.plan.losses import LossTable
from dorabatch.placer.plan.plan_memo import PlanMemo, Tables, asked_of

CPU_UNIT = 1e4
MEMORY_UNIT = 40960.0
"""Milli-CPUs and MiB that weigh about as much as one GPU in the plan."""

BEHIND = 0.05
"""As how much of the free room all counts that ranks behind it."""

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
class DemandOutlook:
    """The plan for the demand.

    shapes: bins alike; share[class, shape]: part of the class that belongs there
    cpu_mean[shape], cpu_spread[shape], memory_mean, memory_spread: per GPU to come
    share_below[milli]: part of share requests that fit a rest of `milli`
    kept[bin]: an empty node kept for requests that need a whole one
    by_cpu, by_memory: GPUs expected to stay idle for want of either
    """

    shapes: Shapes
    share: FloatArray
    cpu_mean: FloatArray
    cpu_spread: FloatArray
    memory_mean: FloatArray
    memory_spread: FloatArray
    share_below: FloatArray
    kept: BoolArray
    by_cpu: LossTable
    by_memory: LossTable

    @property
    def shape(self) -> IntArray:
        """shape[bin]."""
        return self.shapes.shape


def queue_of(state: BinState, of: IntArray) -> FloatArray:
    """queued[class] of requests of classes of[i], in rank order.

    Those that the free GPUs are enough for get them; what ranks behind counts little.
    """
    gpus = state.classes.gpu_count * state.classes.gpu_milli
    free = state.free.sum() * WHOLE_GPU_MILLI + np.maximum(state.rest, 0).sum()
    asked = np.cumsum(gpus[of])
    behind = max(int(asked[-1]) - int(free), 1) if len(of) else 1
    weight = np.where(asked <= free, 1.0, min(BEHIND * free / behind, 1.0))
    queued = np.bincount(of, weight, len(state.classes))
    return np.asarray(queued, dtype=np.float64)


def look_ahead(
    state: BinState,
    shapes: Shapes,
    mix: tuple[FloatArray, IntArray],
    memo: PlanMemo | None = None,
) -> DemandOutlook:
    """Plan queued[class] as they are, and counts[class] as the mix of what follows.

    `mix` is (queued, counts). With `memo` an earlier plan serves while it holds.
    """
    queued, counts = mix
    room = _room(state, shapes)
    gpu = state.classes.gpu_count * state.classes.gpu_milli / WHOLE_GPU_MILLI
    cpu = shapes.cpu.mean(axis=1) / 1000.0
    demand = _demand(gpu, queued, counts, float(room[:, 0].sum()))
    worth = np.maximum(gpu, CPU_ONLY_WORTH * cpu) + 1e-6
    usable = shapes.usable
    asked = asked_of(state, shapes) if memo is not None else None
    known = None
    if memo is not None and asked is not None:
        known = memo.recall(asked, demand * worth, room)
    if known is None:
        dislike = _dislike(state, shapes.first, gpu, cpu)
        plan = _planned(shapes, gpu, (demand, worth, room), dislike)
        known = plan, _tables(state, shapes, plan / worth[:, None], gpu)
        if memo is not None and asked is not None:
            memo.keep(asked, demand * worth, room, known)
    plan, tables = known
    plan_now = plan * patience(plan, usable, room, gpu)
    served = plan_now.sum(axis=1, keepdims=True)
    even = usable / np.maximum(usable.sum(axis=1, keepdims=True), 1)
    share = np.where(served > 1e-6, plan_now / np.maximum(served, 1e-12), even)
    return DemandOutlook(
        shapes=shapes,
        share=share,
        share_below=_share_below(state, counts),
        kept=_kept(state, shapes, plan / worth[:, None]),
        by_cpu=tables.by_cpu,
        by_memory=tables.by_memory,
        **tables.expected,
    )


def _planned(
    shapes: Shapes,
    gpu: FloatArray,
    amounts: tuple[FloatArray, FloatArray, FloatArray],
    dislike: FloatArray,
) -> FloatArray:
    """plan[class, shape] in GPUs' worth, for (demand, worth, room)."""
    demand, worth, room = amounts
    free = float(room[:, 0].sum())
    if free == 0.0:
        # Nothing to plan: CPU requests go wherever CPUs are left.
        return np.zeros_like(dislike)
    # One unit is one GPU's worth, so that all numbers are of like size.
    need = _need(shapes, gpu) / worth[:, None, None] / free
    return fluid_plan(demand * worth, need, room / free, dislike)


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


def _need(shapes: Shapes, gpu: FloatArray) -> FloatArray:
    """need[class, shape, resource] in the plan's units (infinite: never there)."""
    gpus = np.broadcast_to(gpu[:, None], shapes.cpu.shape)
    need = [gpus, shapes.cpu / CPU_UNIT, shapes.memory / MEMORY_UNIT]
    return np.where(shapes.usable[:, :, None], np.stack(need, axis=2), np.inf)


def _tables(
    state: BinState, shapes: Shapes, plan: FloatArray, gpu: FloatArray
) -> Tables:
    """What GPUs to come will ask for, and what is lost where less is left."""
    expected = _expectations(shapes, plan, gpu)
    gpus, cpus, memory = state.ground.total.max(axis=0).tolist()
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
    gpu: FloatArray, queued: FloatArray, counts: IntArray, free: float
) -> FloatArray:
    """demand[class]: the queue, and its like for the room beyond it."""
    now = float((queued * gpu).sum())
    part = min(1.0, free / now) if now > 0 else 1.0
    later = counts - queued
    if not (later * gpu).sum() > 0:
        later = counts.astype(np.float64)
    asked = float((later * gpu).sum())
    more = (free - now * part) / asked if asked > 0 else 1.0
    return np.asarray(queued * part + later * more + 1e-9, dtype=np.float64)


def _dislike(
    state: BinState, first: IntArray, gpu: FloatArray, cpu: FloatArray
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


def _room(state: BinState, shapes: Shapes) -> FloatArray:
    """room[shape, resource]: GPUs, CPUs and memory free, in the plan's units."""
    gpus = state.free + np.maximum(state.rest, 0).sum(axis=1) / WHOLE_GPU_MILLI
    cpu, memory = state.cpu / CPU_UNIT, state.memory / MEMORY_UNIT
    return np.column_stack([shapes.sums(amount) for amount in (gpus, cpu, memory)])


def _expectations(
    shapes: Shapes, plan: FloatArray, gpu: FloatArray
) -> dict[str, FloatArray]:
    """Mean and spread of CPUs and memory per GPU that will come to each shape."""
    with_gpus = gpu > 0
    gpu, usable = gpu[with_gpus, None], shapes.usable[with_gpus]
    weight = plan[with_gpus] * gpu + 1e-12
    total = weight.sum(axis=0)
    found: dict[str, FloatArray] = {}
    for name, asked in (("cpu", shapes.cpu), ("memory", shapes.memory)):
        per = np.where(usable, asked[with_gpus], 0.0) / np.maximum(gpu, 1e-3)
        mean = (weight * per).sum(axis=0) / np.maximum(total, 1e-12)
        variance = (weight * (per - mean) ** 2).sum(axis=0) / np.maximum(total, 1e-12)
        found[f"{name}_mean"] = np.maximum(mean, 1.0)
        found[f"{name}_spread"] = np.sqrt(variance) + 1.0
    return found


def _kept(state: BinState, shapes: Shapes, plan: FloatArray) -> BoolArray:
    """As many empty nodes of each shape, the last ones, as whole nodes are planned."""
    total = state.ground.total[:, 0]
    most = total[shapes.first]
    large = 2 * state.classes.gpu_count[:, None] > most
    wanted = np.ceil((plan * large).sum(axis=0) * MARGIN) * (most > 1)
    untouched = (state.free == total)[shapes.order]
    shape = shapes.shape[shapes.order]
    # spare[i]: untouched bins of the shape from here to its last.
    past = np.cumsum(untouched[::-1])[::-1]
    after = np.append(past[shapes.start], 0)[1:]
    spare = past - after[shape]
    kept = np.zeros(len(total), dtype=bool)
    kept[shapes.order] = untouched & (spare <= wanted[shape])
    return kept


def _share_below(state: BinState, counts: IntArray) -> FloatArray:
    classes = state.classes
    share = (classes.gpu_count == 1) & (classes.gpu_milli < WHOLE_GPU_MILLI)
    millis = np.where(share, classes.gpu_milli, 0)
    hits = np.bincount(millis, weights=counts * share, minlength=WHOLE_GPU_MILLI + 1)
    below = np.cumsum(hits)
    return np.asarray(below / max(float(below[-1]), 1.0), dtype=np.float64)
