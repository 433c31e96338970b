"""The board: what is live, in memory, equal to the database after each commit.

Written by the writer's thread after each commit, read by everybody. Records are frozen,
so nobody sees half a record, and what holds a place is never seen without it: it is
held before it waits no more, and stays where it is while it changes. Knows no SQL and
no node.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable

from dorabatch.queue.demand import Claim, Demand
from dorabatch.queue.live_columns import HeldTable, PendingQueue
from dorabatch.queue.records import Container, ContainerId, Workload, WorkloadId
from dorabatch.queue.states import HOLDING, State


def plain_claim(workload: Workload) -> Claim:
    """The claim of somebody who said nothing about their turn."""
    return Claim(user=workload.submitter.user, workspace=workload.workspace)


class Board:
    """Live workloads and containers with the indexes that questions need."""

    def __init__(
        self,
        *,
        ended_max: int,
        demand_of: Callable[[Workload, int], Demand],
        claim_of: Callable[[Workload], Claim] = plain_claim,
    ) -> None:
        self.pending = PendingQueue()
        self.held = HeldTable()
        self.demand_of = demand_of
        self.claim_of = claim_of
        self.workloads: dict[WorkloadId, Workload] = {}
        self.containers: dict[ContainerId, Container] = {}
        self.replicas: dict[WorkloadId, dict[int, ContainerId]] = {}
        self.live_names: dict[tuple[str, str], WorkloadId] = {}
        self.holding: dict[str, dict[ContainerId, Container]] = {}
        self.revision = 0
        self._watchers: dict[WorkloadId, tuple[Callable[[], None], ...]] = {}
        self._ended: OrderedDict[WorkloadId, None] = OrderedDict()
        self._ended_max = ended_max

    def apply(self, changes: Iterable[object]) -> None:
        """Take over what a commit changed, in its order; then tell who watches."""
        watched = set()
        for change in changes:
            if isinstance(change, Container):
                self._apply_container(change)
            elif isinstance(change, Workload):
                self._apply_workload(change)
            else:
                continue
            if change.workload_id in self._watchers:
                watched.add(change.workload_id)
        self.revision += 1
        for key in watched:
            for tell in self._watchers.get(key, ()):
                tell()

    def watch(self, workload_id: WorkloadId, tell: Callable[[], None]) -> None:
        """Have `tell` called after each change of a workload, by the writer's thread.

        Only the API's thread begins and ends to watch.
        """
        others = self._watchers.get(workload_id, ())
        self._watchers[workload_id] = (*others, tell)

    def unwatch(self, workload_id: WorkloadId, tell: Callable[[], None]) -> None:
        """Call it no more."""
        others = tuple(one for one in self._watchers[workload_id] if one is not tell)
        self._watchers[workload_id] = others
        if not others:
            del self._watchers[workload_id]

    def containers_of(self, workload_id: WorkloadId) -> list[Container]:
        """The workload's containers that are not removed, by replica number."""
        ids = self.replicas.get(workload_id, {})
        if len(ids) == 1:
            # By far the most frequent case, asked for every line of a long list.
            container = self.containers[next(iter(ids.values()))]
            return [] if container.removed else [container]
        found = (self.containers[ids[replica]] for replica in sorted(ids))
        return [container for container in found if not container.removed]

    def on_node(self, node: str) -> list[Container]:
        """Containers that hold something on a node."""
        return list(self.holding.get(node, {}).values())

    def nodes_in_use(self) -> set[str]:
        """Names of the nodes on which something is held."""
        return {name for name, held in list(self.holding.items()) if held}

    def _apply_workload(self, workload: Workload) -> None:
        key = workload.workload_id
        before = self.workloads.get(key)
        self.workloads[key] = workload
        if before is not None and _asks_otherwise(before, workload):
            for container_id in self.replicas.get(key, {}).values():
                if self.containers[container_id].state is State.QUEUED:
                    self._put_pending(self.containers[container_id])
        name = (workload.workspace, workload.name)
        if workload.ended_at is None:
            self.live_names[name] = key
            self._ended.pop(key, None)
            return
        if self.live_names.get(name) == key:
            del self.live_names[name]
        self._ended[key] = None
        self._ended.move_to_end(key)
        while len(self._ended) > self._ended_max:
            oldest, _ = self._ended.popitem(last=False)
            self._forget(oldest)

    def _apply_container(self, container: Container) -> None:
        key = container.container_id
        before = self.containers.get(key)
        self.containers[key] = container
        self.replicas.setdefault(container.workload_id, {})[container.replica] = key
        if container.state is State.QUEUED:
            self._put_pending(container)
        hold = container.hold if container.state in HOLDING else None
        if hold is not None:
            self.holding.setdefault(hold.node, {})[key] = container
            workload = self.workloads[container.workload_id]
            self.held.put(container, self.claim_of(workload))
        else:
            self.held.drop(key)
        was = before.hold if before is not None else None
        if was is not None and (hold is None or hold.node != was.node):
            self.holding.get(was.node, {}).pop(key, None)
        if container.state is not State.QUEUED:
            self.pending.drop(key)

    def _put_pending(self, container: Container) -> None:
        workload = self.workloads[container.workload_id]
        self.pending.put(
            container,
            demand=self.demand_of(workload, container.replica),
            claim=self.claim_of(workload),
            submitted_at=workload.submitted_at,
            start_hold=workload.start_hold,
            depends=bool(workload.dependency),
        )

    def _forget(self, workload_id: WorkloadId) -> None:
        self.workloads.pop(workload_id, None)
        for key in self.replicas.pop(workload_id, {}).values():
            self.containers.pop(key, None)
            self.held.drop(key)


def _asks_otherwise(before: Workload, after: Workload) -> bool:
    """Whether what waits for a workload has to be put into the queue anew."""
    return _asked(before) != _asked(after)


def _asked(workload: Workload) -> tuple[object, ...]:
    return workload.spec_json, workload.start_hold, workload.dependency
