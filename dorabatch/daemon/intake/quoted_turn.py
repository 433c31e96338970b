"""At which turn a workload would come, and when it would start, if it were submitted.

Ranks what waits together with what is only asked about; stores nothing and holds
nothing.
"""

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import numpy as np

from dorabatch.daemon.cycle.queue_order import QueueOrder
from dorabatch.daemon.state.spec_units import claim_of_spec, demand_of_spec
from dorabatch.daemon.views.expected_starts import ExpectedStarts
from dorabatch.queue.board import Board
from dorabatch.queue.demand import PendingArrays, number_of
from dorabatch.queue.live_columns import PendingQueue
from dorabatch.queue.records import Container, ContainerId, WorkloadId
from dorabatch.queue.states import State
from dorabatch.resources.workload import WorkloadSpec

_LISTS = {
    "selector": "selectors",
    "restriction": "restrictions",
    "claim": "claims",
    "start_hold": "start_holds",
}
"""Columns that hold numbers, and the lists that those point into."""
_ID = 2**62
"""An id that no workload has; on a tie the newest goes last."""
_REPLICAS_SHOWN = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """The rank among `waiting` workloads; `start` in words, None: no forecast."""

    rank: int
    waiting: int
    start: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class QuotedTurns:
    """Turns of what is not submitted.

    `order` has claims of its own: what is only asked about must not mix with those
    that the cycle keeps.
    """

    board: Board
    order: QueueOrder
    starts: ExpectedStarts

    def of(self, spec: WorkloadSpec, user: str, workspace: str, now: datetime) -> Turn:
        """The turn that a user's workload would have."""
        waiting = self.board.pending.arrays()
        pending = _joined(waiting, _own(spec, user, workspace, now))
        order = self.order.rank(pending, now).ranking.order
        groups = pending.group[order]
        found, places = np.unique(groups, return_index=True)
        mine = int(places[found == _ID][0])
        start = self.starts.of(pending, order, now).get(_ID)
        return Turn(
            rank=int((places < mine).sum()) + 1,
            waiting=len(found),
            start=None if start is None else start.text(),
        )


def _own(spec: WorkloadSpec, user: str, workspace: str, now: datetime) -> PendingArrays:
    """The columns that the workload would have."""
    queue = PendingQueue()
    for replica in range(1, max(1, min(spec.replicas, _REPLICAS_SHOWN)) + 1):
        container = Container(
            container_id=ContainerId(_ID + replica),
            workload_id=WorkloadId(_ID),
            replica=replica,
            state=State.QUEUED,
            rev=1,
            version=1,
            attempt=0,
            queued_at=now,
        )
        queue.put(
            container,
            demand=demand_of_spec(spec, replica),
            claim=claim_of_spec(spec, user, workspace),
            submitted_at=now,
        )
    return queue.arrays()


def _joined(one: PendingArrays, more: PendingArrays) -> PendingArrays:
    """Both queues as one; what both have in a list keeps its one number."""
    lists: dict[str, Any] = {}
    columns: dict[str, Any] = {}
    for name in PendingArrays.__slots__:
        if name not in _LISTS.values():
            added = getattr(more, name)
            if name in _LISTS:
                listed = _LISTS[name]
                numbers = {item: at for at, item in enumerate(getattr(one, listed))}
                new = [number_of(numbers, item) for item in getattr(more, listed)]
                added = np.array(new, dtype=np.int64)[added]
                lists[listed] = tuple(numbers)
            columns[name] = np.concatenate([getattr(one, name), added])
    return replace(one, **columns, **lists)
