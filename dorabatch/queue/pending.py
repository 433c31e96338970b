"""What waits, as arrays that grow and shrink with each change.

The cycle reads copies of these columns and never the queue's rows: adding or taking
out one container costs the same however many wait. Decides nothing.
"""

import threading
from datetime import datetime
from typing import TypeVar

import numpy as np

from dorabatch.queue.demand import Claim, Demand, PendingArrays, Restriction
from dorabatch.queue.records import Container, ContainerId

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
    "claim",
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
        self._claims: dict[Claim, int] = {}

    def __len__(self) -> int:
        return self._count

    def put(
        self,
        container: Container,
        *,
        demand: Demand,
        claim: Claim,
        submitted_at: datetime,
    ) -> None:
        """Add a container, or change the one that waits already."""
        key, ready_at = container.container_id, container.ready_at
        with self._lock:
            row = self._row_of.get(key)
            if row is None:
                row = self._new_row(key)
            self._columns[:, row] = (
                key,
                container.workload_id,
                container.replica,
                demand.gpu_count,
                demand.gpu_milli,
                _number(self._selectors, demand.gpu_models),
                demand.cpu_milli,
                demand.memory_mib,
                demand.affinity,
                _number(self._restrictions, demand.restriction),
                _number(self._claims, claim),
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
            if last == 0:
                # Nothing refers to them any more: the list of all ever seen ends.
                self._claims.clear()

    def arrays(self) -> PendingArrays:
        """A copy of what waits now."""
        with self._lock:
            copied = self._columns[:, : self._count].copy()
            selectors = tuple(self._selectors)
            restrictions = tuple(self._restrictions)
            claims = tuple(self._claims)
        return PendingArrays(
            **dict(zip(_COLUMNS, copied, strict=True)),
            selectors=selectors,
            restrictions=restrictions,
            claims=claims,
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
