"""A place promised to a waiting request: what it takes, and what fits beside it.

Turns promises into masks that keep others off a node. It promises nothing itself.
"""

from dataclasses import dataclass, replace

import numpy as np

from dorabatch.placer.arrays.bins import needs_on
from dorabatch.placer.arrays.classes import Classes
from dorabatch.placer.arrays.free_room import Ask
from dorabatch.placer.arrays.types import (
    UNKNOWN_US,
    BoolArray,
    ClusterArrays,
    IntArray,
    Mask,
    RequestArrays,
    Reservation,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Promise:
    """A reservation, the row it ranks by, what it takes and what is over beside it.

    Amounts are GPUs by model, milli-CPUs, MiB of the node at the start.
    """

    row: int
    reservation: Reservation
    taken: IntArray
    beside: IntArray


def amounts_of(ask: Ask, node: int, room: IntArray) -> IntArray:
    """What an ask takes of `room` (GPUs by model, milli-CPUs, MiB) on a node.

    One accepted model with enough, else several; where there is not enough at all,
    every accepted model counts, so that nothing is promised twice.
    """
    taken = np.zeros_like(room)
    taken[-2:] = ask.cpu[node], ask.memory[node]
    if ask.count == 0:
        return taken
    free = np.where(ask.accepts, room[:-2], 0)
    if free.sum() < ask.count:
        taken[:-2] = np.where(ask.accepts, ask.count, 0)
        return taken
    missing = ask.count
    for model in np.argsort(-free, kind="stable").tolist():
        some = min(missing, max(int(free[model]), 0))
        taken[model] = some
        missing -= some
    return taken


def ends_before(end_us: int, promise: Promise) -> bool:
    """Whether what ends then is over before the promised start, as far as known."""
    start = promise.reservation.start_us
    return end_us <= start < UNKNOWN_US


def fits_beside(taken: IntArray, beside: IntArray) -> bool:
    """Whether all that is taken at all is over."""
    return bool(np.all((taken <= beside) | (taken <= 0)))


def class_fits(classes: Classes, promise: Promise, cluster: ClusterArrays) -> BoolArray:
    """fits[class] beside a promise on its node: `fits_beside` of its `amounts_of`."""
    cpu, memory = needs_on(classes, cluster, promise.reservation.node)
    *gpus, free_cpu, free_memory = promise.beside
    # What is taken of too little exceeds it; of enough it is never more than there is.
    free = np.where(classes.accepts, np.maximum(gpus, 0), 0).sum(axis=1)
    has_gpus = (free >= classes.gpu_count) | ~classes.accepts.any(axis=1)
    fits = has_gpus | (classes.gpu_count == 0)
    fits &= (cpu <= free_cpu) | (cpu <= 0)
    return np.asarray(fits & ((memory <= free_memory) | (memory <= 0)))


def with_masks(
    requests: RequestArrays,
    cluster: ClusterArrays,
    promises: list[Promise],
    bits: IntArray,
) -> tuple[RequestArrays, ClusterArrays]:
    """One more mask for each pair of a request's own mask and nodes kept from it."""
    width = len(promises)
    pairs, of = np.unique((requests.mask << width) + bits, return_inverse=True)
    masks = list(cluster.masks)
    numbers = np.zeros(len(pairs), dtype=np.int64)
    for at, pair in enumerate(pairs.tolist()):
        own, kept = pair >> width, pair & ((1 << width) - 1)
        if kept == 0:
            numbers[at] = own
            continue
        chosen = [one for bit, one in enumerate(promises) if kept >> bit & 1]
        base = masks[own - 1] if own else None
        base = base or Mask(reason="", allowed=np.ones(len(cluster), bool))
        allowed = base.allowed.copy()
        allowed[[one.reservation.node for one in chosen]] = False
        masks.append(
            Mask(
                reason=base.reason,
                allowed=allowed,
                unreserved=base.allowed if base.unreserved is None else base.unreserved,
                first=base.first,
                delays=base.delays + tuple(one.reservation.key for one in chosen),
            )
        )
        numbers[at] = len(masks)
    changed = replace(requests, mask=numbers[of.ravel()])
    return changed, replace(cluster, masks=tuple(masks))
