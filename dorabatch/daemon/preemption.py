"""Paid work before free work: stops the scavengers that the placer chose.

Says which attempts run free, keeps their places for the claimants while they stop, and
sends them back to the queue. Never chooses: `placer.preempt` does.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from dorabatch import log
from dorabatch.daemon.billing.gate import Gate
from dorabatch.daemon.keeper import Keepers
from dorabatch.daemon.services import Services
from dorabatch.daemon.settle import stop_to_requeue
from dorabatch.daemon.snapshot import Snapshot
from dorabatch.db import Tx
from dorabatch.placer.arrays import BoolArray, RequestArrays
from dorabatch.placer.preempt import Running, Victim, keep_off
from dorabatch.placer.timeline import Ends
from dorabatch.queue import store
from dorabatch.queue.records import Container, ContainerId
from dorabatch.queue.states import LIVE


def scavengers_of(services: Services, snapshot: Snapshot) -> BoolArray:
    """is_free[held]: runs free because credit is used up, or did and stops now."""
    desk, known = services.credits, services.board.containers
    keys = snapshot.held.key.tolist()
    if not desk.has_scavengers():
        return np.zeros(len(keys), dtype=bool)
    held = (known.get(ContainerId(key)) for key in keys)
    return np.array([one is not None and desk.is_scavenger(one) for one in held])


def keep_for_claimants(
    snapshot: Snapshot, gate: Gate, scavengers: BoolArray
) -> tuple[Snapshot, RequestArrays]:
    """The gate's requests, the free ones kept off nodes where scavengers stop.

    Else a scavenger might take the first part of what a claimant waits for.
    """
    requests = snapshot.requests(gate.order)
    stops = scavengers & (snapshot.held.stopping == 1) & (snapshot.held_node >= 0)
    if not stops.any() or gate.paid == len(requests):
        return snapshot, requests
    nodes = np.unique(snapshot.held_node[stops])
    requests, cluster = keep_off(requests, snapshot.cluster, gate.paid, nodes)
    return replace(snapshot, cluster=cluster), requests


def running_now(snapshot: Snapshot, ends: Ends, scavengers: BoolArray) -> Running:
    """What is held on known nodes; `ends` are those of the same rows."""
    held, here = snapshot.held, snapshot.held_node >= 0
    return Running(
        key=held.key[here],
        started_us=held.started_us[here],
        is_free=scavengers[here],
        is_leaving=held.stopping[here] == 1,
        ends=ends,
    )


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
