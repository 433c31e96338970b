"""The fluid plan of an earlier call, for as long as it still holds.

A caller that plans every second passes the same PlanMemo each time. It keeps numbers
only, never a request or a node; without it every call plans anew.
"""

from typing import NamedTuple

import numpy as np

from dorabatch.placer.arrays.bins import BinState, Shapes
from dorabatch.placer.arrays.layout import Layout, layout_of
from dorabatch.placer.arrays.types import BoolArray, ClusterArrays, FloatArray, IntArray
from dorabatch.placer.plan.losses import LossTable

ROOM_DRIFT = 0.07
"""Part of a resource's room that may lie on other shapes than when planned."""

ROOM_LEFT = 0.6
"""Part of the room planned for that must still be there; and the reverse."""

MIX_DRIFT = 0.15
"""Part of the demand (in GPUs' worth) that may have moved between classes."""


class Tables(NamedTuple):
    """What is derived from a plan and changes as slowly: see Outlook and Planned."""

    expected: dict[str, FloatArray]
    by_cpu: LossTable
    by_memory: LossTable


class _KeptPlan(NamedTuple):
    """A plan: fraction[class, shape] of each class's amount, and what it was for."""

    rows: dict[bytes, int]
    amounts: FloatArray
    usable: BoolArray
    fraction: FloatArray
    shapes: IntArray
    room: FloatArray
    tables: Tables


class PlanMemo:
    """The last plan and the layout of the nodes, or nothing yet."""

    __slots__ = ("_hardware", "_kept", "_layout")

    def __init__(self) -> None:
        self._kept: _KeptPlan | None = None
        self._layout: Layout | None = None
        self._hardware: tuple[IntArray, ...] = ()

    def layout(self, cluster: ClusterArrays) -> Layout:
        """The nodes as bins: laid out anew only where the hardware is another."""
        now = cluster.gpus_total, cluster.cpu_total_milli, cluster.memory_total_mib
        same = len(self._hardware) > 0 and all(map(np.array_equal, self._hardware, now))
        if self._layout is None or not same:
            self._layout = layout_of(cluster)
            self._hardware = tuple(column.copy() for column in now)
        return self._layout

    def recall(
        self, asked: "Asked", amounts: FloatArray, room: FloatArray
    ) -> tuple[FloatArray, Tables] | None:
        """plan[class, shape] for amounts[class] as before, where that still holds."""
        kept = self._kept
        if kept is None or not np.array_equal(kept.shapes, asked.shapes):
            return None
        if _has_moved(kept.room, room):
            return None
        at = np.array([kept.rows.get(name, -1) for name in asked.names], dtype=np.int64)
        known = at >= 0
        sum_now = max(float(amounts.sum()), 1e-9)
        before = np.zeros(len(amounts))
        before[known] = kept.amounts[at[known]] / max(float(kept.amounts.sum()), 1e-9)
        moved = np.abs(amounts / sum_now - before).sum()
        gone = 1.0 - float(before.sum())
        if moved + gone > MIX_DRIFT or (kept.usable[at] != asked.usable)[known].any():
            return None
        even = asked.usable / np.maximum(asked.usable.sum(axis=1, keepdims=True), 1)
        fraction = np.where(known[:, None], kept.fraction[at], even)
        return amounts[:, None] * fraction, kept.tables

    def keep(
        self,
        asked: "Asked",
        amounts: FloatArray,
        room: FloatArray,
        made: tuple[FloatArray, Tables],
    ) -> None:
        """Remember a plan that was just made."""
        plan, tables = made
        self._kept = _KeptPlan(
            rows={name: row for row, name in enumerate(asked.names)},
            amounts=amounts,
            usable=asked.usable,
            fraction=plan / np.maximum(amounts, 1e-12)[:, None],
            shapes=asked.shapes,
            room=room,
            tables=tables,
        )


def _has_moved(before: FloatArray, now: FloatArray) -> bool:
    """Whether room[shape, resource] grew, shrank or shifted too much."""
    had, has = before.sum(axis=0) + 1e-9, now.sum(axis=0) + 1e-9
    if (np.minimum(had, has) < ROOM_LEFT * np.maximum(had, has)).any():
        return True
    moved = np.abs(before / had - now / has).sum(axis=0)
    return bool((moved > ROOM_DRIFT).any())


class Asked(NamedTuple):
    """What must be the same for a plan to hold.

    names[class] identifies a class; usable[class, shape]; shapes[shape, (model,
    GPUs, CPUs, MiB)].
    """

    names: list[bytes]
    usable: BoolArray
    shapes: IntArray


def asked_of(state: BinState, shapes: Shapes) -> Asked:
    """Describe the classes and shapes of a call."""
    classes, ground = state.classes, state.ground
    columns = np.column_stack(
        [
            classes.gpu_count,
            classes.gpu_milli,
            classes.cpu_milli,
            classes.memory_mib,
            classes.accepts,
        ]
    ).astype(np.int64)
    first = shapes.first
    kinds = np.column_stack([ground.model[first], ground.total[first]])
    return Asked([row.tobytes() for row in columns], shapes.usable, kinds)
