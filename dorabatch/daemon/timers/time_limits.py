"""Running longer than allowed: ends containers whose maxRunTime is over.

Looks at running containers only; decides nothing else about them.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from dorabatch.clock import Clock
from dorabatch.daemon.runs.node_keeper import Keepers
from dorabatch.daemon.runs.settle import end_containers
from dorabatch.daemon.state.spec_units import spec_of
from dorabatch.db import Tx, Writer
from dorabatch.queue import store
from dorabatch.queue.board import Board
from dorabatch.queue.records import Container
from dorabatch.queue.states import Outcome, State


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeLimits:
    """Looks after the time limits of what runs in one zone."""

    board: Board
    writer: Writer
    clock: Clock
    keepers: Keepers

    def end_overdue(self) -> int:
        """Stop what ran too long; how many containers."""
        now = self.clock.now()
        stopped = 0
        for node in self.board.nodes_in_use():
            for container in self.board.on_node(node):
                limit = self._overdue_limit(container, now)
                if limit is not None:
                    self._stop(container, limit, now)
                    stopped += 1
        return stopped

    def _overdue_limit(self, container: Container, now: datetime) -> int | None:
        """The limit in seconds that a container has passed, or None."""
        if container.state is not State.RUNNING or container.started_at is None:
            return None
        workload = self.board.workloads[container.workload_id]
        limit = spec_of(workload).config.run_seconds_max
        if limit is None or now - container.started_at < timedelta(seconds=limit):
            return None
        return limit

    def _stop(self, container: Container, limit: int, now: datetime) -> None:
        def write(tx: Tx) -> list[Container]:
            current = store.get_container(tx, container.container_id)
            if current.state is not State.RUNNING:
                return []
            return end_containers(
                tx,
                [current],
                outcome=Outcome.TIMEOUT,
                reason=f"ran longer than its maxRunTime of {limit} s",
                now=now,
            )

        for changed in self.writer.do(write):
            self.keepers.conclude(changed)
