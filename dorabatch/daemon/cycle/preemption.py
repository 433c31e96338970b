"""Paid work before free work: stops the scavengers that the placer chose.

Sends them back to the queue. Never chooses: `placer.preempt` does.
"""

from collections.abc import Sequence

from dorabatch import log
from dorabatch.daemon.runs.node_keeper import Keepers
from dorabatch.daemon.runs.settle import stop_to_requeue
from dorabatch.daemon.state.services import Services
from dorabatch.db import Tx
from dorabatch.placer.plan.preempt import Victim
from dorabatch.queue import store
from dorabatch.queue.records import Container, ContainerId
from dorabatch.queue.states import LIVE


def give_way(
    services: Services, keepers: Keepers, victims: Sequence[Victim]
) -> list[Container]:
    """Stop the victims; they are queued again once they are gone."""
    if not victims:
        return []
    now = services.clock.now()

    def write(tx: Tx) -> list[Container]:
        stopped = []
        for one in victims:
            container = store.get_container(tx, ContainerId(one.key))
            # It may have ended since, or be charged again.
            if container.state in LIVE and services.credits.is_scavenger(container):
                reason = (
                    f"preempted for workload {one.claimant} (owner has credit); "
                    "requeued"
                )
                stopped.append(
                    stop_to_requeue(
                        tx, container, kind="preempt", reason=reason, now=now
                    )
                )
        return stopped

    stopped = services.writer.do(write)
    for container in stopped:
        keepers.conclude(container)
    log.event("preempted", stopped=len(stopped))
    return stopped
