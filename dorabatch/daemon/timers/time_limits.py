"""Running longer than allowed: ends containers whose maxRunTime is over.

Looks at running containers only; decides nothing else about them.
"""

from datetime import datetime, timedelta

from dorabatch.daemon.runs.node_keeper import Keepers
from dorabatch.daemon.runs.settle import end_containers
from dorabatch.daemon.state.services import Services
from dorabatch.daemon.state.spec_units import spec_of
from dorabatch.db import Tx
from dorabatch.queue import store
from dorabatch.queue.records import Container
from dorabatch.queue.states import Outcome, State


def end_overdue(services: Services, keepers: Keepers) -> int:
    """Stop what ran too long; how many containers."""
    now = services.clock.now()
    stopped = 0
    for node in services.board.nodes_in_use():
        for container in services.board.on_node(node):
            limit = overdue_limit(services, container, now)
            if limit is not None:
                _stop(services, keepers, container, limit, now)
                stopped += 1
    return stopped


def overdue_limit(
    services: Services, container: Container, now: datetime
) -> int | None:
    """The limit in seconds that a container has passed, or None."""
    if container.state is not State.RUNNING or container.started_at is None:
        return None
    workload = services.board.workloads[container.workload_id]
    limit = spec_of(workload).config.run_seconds_max
    if limit is None or now - container.started_at < timedelta(seconds=limit):
        return None
    return limit


def _stop(
    services: Services,
    keepers: Keepers,
    container: Container,
    limit: int,
    now: datetime,
) -> None:
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

    for changed in services.writer.do(write):
        keepers.conclude(changed)
