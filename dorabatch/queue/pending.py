"""What waits, as arrays that grow and shrink with each change.

The cycle reads copies of these columns and never the queue's rows: adding or taking
out one container costs the same however many wait. Decides nothing.
"""

import threading
from datetime import datetime
from typing import TypeVar

import numpy as np

from dorabatch.queue.demand import Demand, PendingArrays, Restriction
from dorabatch.queue.records import ContainerId

_T = TypeVar("_T")

_COLUMNS = (
    "key",
    "group",
    "replica",
    "gpu_count",
    "gpu_milli",
    "selector",
    "cpu_milli",
    "memory_mib",
    "affinity",
    "restriction",
    "submitted_us",
    "ready_us",
)
_FIRST_CAPACITY = 1024


class PendingQueue:
    """The waiting containers by columns; row order carries no meaning."""

    def __init__(self) -> None:
        self._columns = np.zeros((len(_COLUMNS), _FIRST_CAPACITY), dtype=np.int64)
        self._count = 0
        # The writer changes the columns while the cycle copies them.
        self._lock = threading.Lock()
        self._row_of: dict[ContainerId, int] = {}
        self._selectors: dict[tuple[str, ...] | None, int] = {None: 0}
        self._restrictions: dict[Restriction, int] = {Restriction(): 0}

    def __len__(self) -> int:
        return self._count

    def put(
        self,
        key: ContainerId,
        *,
        group: int,
        replica: int,
        demand: Demand,
        submitted_at: datetime,
        ready_at: datetime | None,
    ) -> None:
        """Add a container, or change the one that waits already."""
        with self._lock:
            row = self._row_of.get(key)
            if row is None:
                row = self._new_row(key)
            self._columns[:, row] = (
                key,
                group,
                replica,
                demand.gpu_count,
                demand.gpu_milli,
                _number(self._selectors, demand.gpu_models),
                demand.cpu_milli,
                demand.memory_mib,
                demand.affinity,
                _number(self._restrictions, demand.restriction),
                _microseconds(submitted_at),
                _microseconds(ready_at) if ready_at else 0,
            )

    def drop(self, key: ContainerId) -> None:
        """Take a container out; nothing happens when it does not wait."""
        with self._lock:
            row = self._row_of.pop(key, None)
            if row is None:
                return
            last = self._count - 1
            if row != last:
                self._columns[:, row] = self._columns[:, last]
                self._row_of[ContainerId(int(self._columns[0, row]))] = row
            self._count = last

    def arrays(self) -> PendingArrays:
        """A copy of what waits now."""
        with self._lock:
            copied = self._columns[:, : self._count].copy()
            selectors = tuple(self._selectors)
            restrictions = tuple(self._restrictions)
        return PendingArrays(
            **dict(zip(_COLUMNS, copied, strict=True)),
            selectors=selectors,
            restrictions=restrictions,
        )

    def _new_row(self, key: ContainerId) -> int:
        if self._count == self._columns.shape[1]:
            wider = np.zeros((len(_COLUMNS), 2 * self._count), dtype=np.int64)
            wider[:, : self._count] = self._columns
            self._columns = wider
        row = self._count
        self._row_of[key] = row
        self._count += 1
        return row


def _number(numbers: dict[_T, int], value: _T) -> int:
    return numbers.setdefault(value, len(numbers))


def _microseconds(moment: datetime) -> int:
    return int(moment.timestamp()) * 1_000_000 + moment.microsecond
