"""What becomes of trials: they go on, or are stopped and queued again.

All of a cycle in one transaction that looks at each container again; what others
decided meanwhile stands. Never starts a trial.
"""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime

import numpy as np

from dorabatch import log
from dorabatch.daemon.keeper import Keepers
from dorabatch.daemon.lane.ground import Scene, is_live_trial
from dorabatch.daemon.lane.picks import Picks
from dorabatch.daemon.services import Services
from dorabatch.daemon.settle import change_told, stop_trial
from dorabatch.db import Tx
from dorabatch.placer.arrays import Plan
from dorabatch.placer.preempt import Running, choose_victims
from dorabatch.placer.waiting import Waiting
from dorabatch.queue import store
from dorabatch.queue.records import Container, ContainerId
from dorabatch.queue.states import State
from dorabatch.queue.transitions import promoted

GOES_ON = "has its turn: goes on as an ordinary run, charged from its start"

_Move = Callable[[Tx, Container], Container]


def move_trials(
    services: Services, keepers: Keepers, scene: Scene, picks: Picks
) -> None:
    """Let the picked trials go on; stop those whose time is over, or that are in the
    way of one that needs the lane's GPUs too."""
    if not scene.lane.trials:
        return
    now = services.clock.now()
    moves: dict[ContainerId, _Move] = {}
    for key, claimant in _in_the_way(scene, picks.plan).items():
        reason = f"stopped for workload {claimant}, which needs the lane's GPUs too"
        moves[key] = _stopping(f"{reason}; waits for its turn", False, now)
    for one in scene.lane.trials:
        if one.is_over(scene.now_us):
            seconds = one.container.trial_seconds
            reason = f"ran longer than its trial of {seconds} s; waits for its turn"
            moves[one.container.container_id] = _stopping(reason, True, now)
    for one in picks.trials:
        moves[one.container.container_id] = _going_on(now)
    if not moves:
        return
    for container in services.writer.do(lambda tx: _write(tx, moves)):
        number = f"{container.workload_id}.{container.replica}"
        if container.state is State.STOPPING:
            log.event("trial-stopped", container=number, why=container.reason)
            keepers.conclude(container)
        else:
            log.event("trial-goes-on", container=number)


def _write(tx: Tx, moves: dict[ContainerId, _Move]) -> list[Container]:
    changed = []
    for key, move in moves.items():
        container = store.get_container(tx, key)
        if is_live_trial(container):
            changed.append(move(tx, container))
    return changed


def _stopping(reason: str, has_outlived: bool, now: datetime) -> _Move:
    return lambda tx, container: stop_trial(
        tx, container, reason=reason, has_outlived=has_outlived, now=now
    )


def _going_on(now: datetime) -> _Move:
    return lambda tx, container: change_told(
        tx, container, promoted(container), kind="trial", text=GOES_ON, now=now
    )


def _in_the_way(scene: Scene, plan: Plan) -> dict[ContainerId, int]:
    """Trials to stop, each with the workload that is larger than the main part."""
    requests, snapshot = scene.requests, scene.snapshot
    large = requests.key[requests.gpu_count > scene.lane.main]
    if len(large) == 0:
        return {}
    waiting = Waiting.of(plan.waiting)
    waiting = waiting.take(np.isin(waiting.key, large))
    held, here = snapshot.held, snapshot.held_node >= 0
    running = Running(
        key=held.key[here],
        started_us=held.started_us[here],
        is_free=held.trial_us[here] > 0,
        is_leaving=held.stopping[here] == 1,
        ends=scene.times.ends,
    )
    victims = choose_victims(
        requests,
        scene.gate.paid,
        snapshot.cluster,
        replace(plan, waiting=waiting),
        running,
    )
    return {ContainerId(one.key): one.claimant for one in victims}
