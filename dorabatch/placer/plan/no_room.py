"""Classes of requests known to have no room, until something comes free.

Lets a cycle leave out of the search what the cycle before found no place for. It never
makes a request wait that has room: a class is tried again wherever a node gained.
"""

from dataclasses import dataclass, replace

import numpy as np

from dorabatch.placer.arrays.classes import Classes, classes_of
from dorabatch.placer.arrays.feasible import refusals, room_free
from dorabatch.placer.arrays.free_room import less_placed, some_nodes
from dorabatch.placer.arrays.types import (
    BoolArray,
    ClusterArrays,
    Explanation,
    IntArray,
    Plan,
    RequestArrays,
    Waiting,
    rows_of,
)
from dorabatch.placer.explain.whynot import RANK, WhyNot
from dorabatch.placer.plan.place import joined, place
from dorabatch.placer.plan.placement_policy import PlacementPolicy

GAINED_MAX = 0.1
"""Part of the nodes; where more gained something, everything is tried again."""

_FREE = ("gpus_free", "cpu_free_milli", "memory_free_mib")
_OPEN = ("ready", "enabled", "allows_gpu", "allows_cpu")
_FIXED = ("gpus_total", "cpu_total_milli", "memory_total_mib")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Known:
    """The cluster as a plan left it, and the classes it found no room for."""

    cluster: ClusterArrays
    dead: dict[bytes, Explanation]


class NoRoomMemory:
    """What one cycle knows of the one before."""

    def __init__(self) -> None:
        self._known: _Known | None = None

    def forget(self) -> None:
        """Try everything again."""
        self._known = None

    def place(
        self,
        requests: RequestArrays,
        cluster: ClusterArrays,
        policy: PlacementPolicy,
        recent: RequestArrays | None,
    ) -> Plan:
        """place(), without looking for room where there is none.

        What is left out still counts as demand. Of what may have room,
        `policy.requests_max` are looked at; as those that found none are left out the
        next time, a longer queue gets its turn in later cycles.
        """
        classes = classes_of(requests)
        keys = _class_keys(classes, cluster)
        dead = self._dead(classes, keys, cluster)
        gone = np.array([why is not None for why in dead], dtype=bool)
        idle = gone[classes.of] & ~requests.gang
        live = np.flatnonzero(~idle)
        rows, left = live[: policy.requests_max], live[policy.requests_max :]
        nobody = np.zeros(0, dtype=np.int64)
        plan = Plan(placements=(), waiting=Waiting(nobody, nobody), explanations=())
        if len(rows):
            demand = requests.take(np.flatnonzero(idle)) if idle.any() else None
            if recent is not None:
                demand = recent if demand is None else joined(demand, recent)
            plan = place(requests.take(rows), cluster, policy, demand)
        plan = _with_idle(plan, requests, classes.of, idle, dead)
        plan = replace(plan, left=tuple(requests.key[left].tolist()))
        self._note(requests, classes, keys, cluster, plan)
        return plan

    def _dead(
        self, classes: Classes, keys: list[bytes], cluster: ClusterArrays
    ) -> list[Explanation | None]:
        """The explanation of each class that still has no room, else None."""
        nothing: list[Explanation | None] = [None] * len(classes)
        known = self._known
        if known is None or not _comparable(known.cluster, cluster):
            return nothing
        gained = np.flatnonzero(_gained(known.cluster, cluster))
        if len(gained) > GAINED_MAX * len(cluster):
            return nothing
        same = len(gained) == 0 and _equal(known.cluster, cluster)
        near = some_nodes(cluster, gained)
        explain = WhyNot(classes, cluster, room_free(cluster))
        found = nothing
        for index, key in enumerate(keys):
            why = known.dead.get(key)
            if why is None or not _refused(classes, index, near):
                continue
            found[index] = why if same else explain(index)
        return found

    def _note(
        self,
        requests: RequestArrays,
        classes: Classes,
        keys: list[bytes],
        cluster: ClusterArrays,
        plan: Plan,
    ) -> None:
        waits = np.full(len(classes), -1, dtype=np.int64)
        at = _why_of_rows(plan, requests)
        single = (at >= 0) & ~requests.gang
        waits[classes.of[single]] = at[single]
        dead = {
            keys[index]: plan.explanations[why]
            for index, why in enumerate(waits.tolist())
            if why >= 0 and plan.explanations[why].reason != RANK
        }
        self._known = _Known(
            cluster=less_placed(requests, cluster, plan.placements), dead=dead
        )


def _class_keys(classes: Classes, cluster: ClusterArrays) -> list[bytes]:
    """A class by what it asks for, whatever its number is; masks by their contents."""
    columns = np.column_stack(
        [
            classes.gpu_count,
            classes.gpu_milli,
            classes.cpu_milli,
            classes.memory_mib,
            classes.accepts.astype(np.int64),
        ]
    ).astype(np.int64)
    texts = [b""]
    for mask in cluster.masks:
        open_to = b"" if mask.unreserved is None else mask.unreserved.tobytes()
        words = f"{mask.reason} {mask.delays} {[name for name, _ in mask.first]}"
        refused = b"".join(refused.tobytes() for _, refused in mask.first)
        texts.append(words.encode() + mask.allowed.tobytes() + open_to + refused)
    return [
        row.tobytes() + texts[mask]
        for row, mask in zip(columns, classes.mask.tolist(), strict=True)
    ]


def _with_idle(
    plan: Plan,
    requests: RequestArrays,
    of: IntArray,
    idle: BoolArray,
    dead: list[Explanation | None],
) -> Plan:
    """The plan with what was left out, explained; keys in rank order."""
    if not idle.any():
        return plan
    explanations = list(plan.explanations)
    number = np.zeros(len(dead), dtype=np.int64)
    for index, why in enumerate(dead):
        if why is not None:
            number[index] = len(explanations)
            explanations.append(why)
    waits = _why_of_rows(plan, requests)
    waits[idle] = number[of[idle]]
    waiting = Waiting(requests.key, waits).take(waits >= 0)
    return replace(plan, waiting=waiting, explanations=tuple(explanations))


def _why_of_rows(plan: Plan, requests: RequestArrays) -> IntArray:
    """why[row]: the explanation of each request, -1 where it does not wait."""
    waiting = Waiting.of(plan.waiting)
    why = np.full(len(requests), -1, dtype=np.int64)
    why[rows_of(requests.key, waiting.key)] = waiting.why
    return why


def _comparable(before: ClusterArrays, now: ClusterArrays) -> bool:
    """Same nodes, same models, same hardware."""
    if before.names != now.names or before.models != now.models:
        return False
    return all(
        np.array_equal(getattr(before, name), getattr(now, name)) for name in _FIXED
    )


def _gained(before: ClusterArrays, now: ClusterArrays) -> BoolArray:
    """gained[node]: something came free there, or it is open again."""
    found = np.zeros(len(now), dtype=bool)
    for name in _FREE:
        more = getattr(now, name) > getattr(before, name)
        found |= more if more.ndim == 1 else more.any(axis=1)
    for name in _OPEN:
        found |= getattr(now, name) & ~getattr(before, name)
    return found | (_rests(now) > _rests(before)).any(axis=1)


def _rests(cluster: ClusterArrays) -> IntArray:
    """The largest rest of a shared GPU by node and model."""
    rests: IntArray = cluster.gpu_rest_milli.max(axis=2, initial=0)
    return rests


def _equal(before: ClusterArrays, now: ClusterArrays) -> bool:
    names = (*_FREE, *_OPEN)
    return np.array_equal(_rests(before), _rests(now)) and all(
        np.array_equal(getattr(before, name), getattr(now, name)) for name in names
    )


def _refused(classes: Classes, index: int, near: ClusterArrays) -> bool:
    """Whether every one of these nodes refuses the class."""
    if len(near) == 0:
        return True
    left = np.ones(len(near), dtype=bool)
    for _, refused in refusals(classes, index, near, room_free(near)):
        left &= ~refused
    return not left.any()
