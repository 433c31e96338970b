"""Which nodes a workload keeps away from because they have refused to start it.

Written by the nodes' workers under a lock, and once a cycle by its thread, which says
what counts now; read by everybody. Lost at a restart: then a workload may be refused
there once more, which counts among its lost attempts. Refuses nothing itself.
"""

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import MappingProxyType

from dorabatch.queue.records import WorkloadId

DOUBLINGS_MAX = 6
"""So often is a wait doubled, and no more."""
_KEPT = timedelta(days=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Avoided:
    """A node has refused a workload `times` times, the last time for `reason`."""

    times: int
    until: datetime
    reason: str

    @property
    def words(self) -> str:
        """`has refused its start (...); tried there again from ... on`."""
        again = f"{self.until.astimezone():%H:%M:%S}"
        return f"refused its start ({self.reason}); tried there again at {again}"


class AvoidedNodes:
    """What is kept away from what; `now` has what counts: workload -> node names.

    `known` also has what is over but counts when a node refuses once more.
    """

    def __init__(self) -> None:
        self.known: dict[int, dict[str, Avoided]] = {}
        self._lock = threading.Lock()
        self.now: Mapping[int, frozenset[str]] = MappingProxyType({})

    def avoid(
        self,
        workload_id: WorkloadId,
        node: str,
        reason: str,
        *,
        seconds: float,
        now: datetime,
    ) -> None:
        """Keep a workload away from a node, twice as long each time."""
        with self._lock:
            mine = self.known.setdefault(workload_id, {})
            times = mine[node].times + 1 if node in mine else 1
            wait = seconds * 2 ** min(times - 1, DOUBLINGS_MAX)
            until = now + timedelta(seconds=wait)
            mine[node] = Avoided(times=times, until=until, reason=reason)
            self._take_stock(now)

    def look(self, now: datetime) -> None:
        """Forget what is long over; `now` has what counts at this moment."""
        with self._lock:
            self._take_stock(now)

    def of(self, workload_id: WorkloadId, node: str) -> Avoided | None:
        """Why a workload keeps away from a node; None: it does not."""
        if node not in self.now.get(workload_id, ()):
            return None
        return self.known.get(workload_id, {}).get(node)

    def _take_stock(self, now: datetime) -> None:
        for key, mine in list(self.known.items()):
            if all(one.until + _KEPT < now for one in mine.values()):
                del self.known[key]
        found = {
            key: frozenset(name for name, one in mine.items() if one.until > now)
            for key, mine in self.known.items()
        }
        self.now = {key: names for key, names in found.items() if names}
