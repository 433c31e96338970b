"""What becomes of trials: they go on, or are stopped and queued again.

All of a cycle in one transaction that looks at each container again; what others
decided meanwhile stands. Never starts a trial.
"""

from collections.abc import Callable, Sequence
from datetime import datetime

from dorabatch import log
from dorabatch.daemon.cycle.lane.stops import TrialStop
from dorabatch.daemon.cycle.lane_state import OnTrial, is_live_trial
from dorabatch.daemon.runs.node_keeper import Keepers
from dorabatch.daemon.runs.settle import change_told, stop_trial
from dorabatch.daemon.state.services import Services
from dorabatch.db import Tx
from dorabatch.queue import store
from dorabatch.queue.records import Container, ContainerId
from dorabatch.queue.states import State
from dorabatch.queue.transitions import promoted

GOES_ON = "has its turn: goes on as an ordinary run, charged from its start"

_Move = Callable[[Tx, Container], Container]


def move_trials(
    services: Services,
    keepers: Keepers,
    stops: Sequence[TrialStop],
    going_on: Sequence[OnTrial],
) -> None:
    """Let trials go on as ordinary runs, and stop others."""
    now = services.clock.now()
    moves = {one.key: _stopping(one, now) for one in stops}
    moves |= {one.container.container_id: _going_on(now) for one in going_on}
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


def _stopping(one: TrialStop, now: datetime) -> _Move:
    return lambda tx, container: stop_trial(
        tx, container, reason=one.reason, has_outlived=one.has_outlived, now=now
    )


def _going_on(now: datetime) -> _Move:
    return lambda tx, container: change_told(
        tx, container, promoted(container), kind="trial", text=GOES_ON, now=now
    )
