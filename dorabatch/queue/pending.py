"""What waits, as arrays that grow and shrink with each change.

The cycle reads copies of these columns and never the queue's rows: adding or taking
out one container costs the same however many wait. Decides nothing.
"""

import threading
from datetime import datetime

from dorabatch.queue.columns import Columns, number_of
from dorabatch.queue.demand import Claim, Demand, PendingArrays, Restriction
from dorabatch.queue.records import Container, ContainerId
from dorabatch.units import microseconds_of

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
    "tried",
    "trial_stops",
)


class PendingQueue:
    """The waiting containers by columns; row order carries no meaning."""

    def __init__(self) -> None:
        self._columns = Columns(_COLUMNS)
        # The writer changes the columns while the cycle copies them.
        self._lock = threading.Lock()
        self._selectors: dict[tuple[str, ...] | None, int] = {None: 0}
        self._restrictions: dict[Restriction, int] = {Restriction(): 0}
        self._claims: dict[Claim, int] = {}

    def __len__(self) -> int:
        return len(self._columns)

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
            self._columns.put(
                (
                    key,
                    container.workload_id,
                    container.replica,
                    demand.gpu_count,
                    demand.gpu_milli,
                    number_of(self._selectors, demand.gpu_models),
                    demand.cpu_milli,
                    demand.memory_mib,
                    demand.affinity,
                    number_of(self._restrictions, demand.restriction),
                    number_of(self._claims, claim),
                    microseconds_of(submitted_at),
                    microseconds_of(ready_at) if ready_at else 0,
                    container.tried,
                    container.trial_stops,
                )
            )

    def drop(self, key: ContainerId) -> None:
        """Take a container out; nothing happens when it does not wait."""
        with self._lock:
            self._columns.drop(key)
            if len(self._columns) == 0:
                # Nothing refers to them any more: the list of all ever seen ends.
                self._claims.clear()

    def arrays(self) -> PendingArrays:
        """A copy of what waits now."""
        with self._lock:
            columns = self._columns.copy()
            selectors = tuple(self._selectors)
            restrictions = tuple(self._restrictions)
            claims = tuple(self._claims)
        return PendingArrays(
            **columns,
            selectors=selectors,
            restrictions=restrictions,
            claims=claims,
        )
