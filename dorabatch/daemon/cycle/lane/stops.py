"""Which trials are stopped: their time is over, or one that needs the lane too waits.

Chooses only; `lane.moves` stops them.
"""

from dataclasses import dataclass, replace

import numpy as np

from dorabatch.daemon.cycle.lane.picks import Picks
from dorabatch.daemon.cycle.scene import Scene
from dorabatch.placer.arrays.types import Plan
from dorabatch.placer.arrays.waiting import Waiting
from dorabatch.placer.plan.preempt import choose_victims
from dorabatch.queue.records import ContainerId


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialStop:
    """A trial to stop and queue again; `has_outlived`: its time is over."""

    key: ContainerId
    reason: str
    has_outlived: bool


def trials_to_stop(scene: Scene, picks: Picks) -> tuple[TrialStop, ...]:
    """Of those that the normal pass did not pick; an outlived time counts first."""
    if not scene.lane.trials:
        return ()
    found: dict[ContainerId, TrialStop] = {}
    for key, claimant in _in_the_way(scene, picks.plan).items():
        reason = f"stopped for workload {claimant}, which needs the lane's GPUs too"
        reason = f"{reason}; waits for its turn"
        found[key] = TrialStop(key=key, reason=reason, has_outlived=False)
    for one in scene.lane.trials:
        if one.is_over(scene.now_us):
            key, seconds = one.container.container_id, one.container.trial_seconds
            reason = f"ran longer than its trial of {seconds} s; waits for its turn"
            found[key] = TrialStop(key=key, reason=reason, has_outlived=True)
    for one in picks.trials:
        found.pop(one.container.container_id, None)
    return tuple(found.values())


def _in_the_way(scene: Scene, plan: Plan) -> dict[ContainerId, int]:
    """Trials to stop, each with the workload that is larger than the main part."""
    requests, snapshot = scene.requests, scene.snapshot
    large = requests.key[requests.gpu_count > scene.lane.main]
    if len(large) == 0:
        return {}
    waiting = Waiting.of(plan.waiting)
    waiting = waiting.take(np.isin(waiting.key, large))
    victims = choose_victims(
        requests,
        scene.gate.paid,
        snapshot.cluster,
        replace(plan, waiting=waiting),
        scene.running(snapshot.held.trial_us > 0),
    )
    return {ContainerId(one.key): one.claimant for one in victims}
