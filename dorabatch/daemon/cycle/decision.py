"""What one cycle decides: placements, new trials, trials that end or go on, who yields.

Pure: one function from a scene to a value. The daemon carries a decision out on its
nodes and in its database, the what-if in memory: neither decides anything beside it.
Reads no book, no clock and no node.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from dorabatch.daemon.cycle.lane_state import OnTrial
from dorabatch.daemon.cycle.lane_trials import (
    TrialStop,
    begin_trials,
    pick,
    trials_to_stop,
)
from dorabatch.daemon.cycle.scene import Scene
from dorabatch.placer.arrays.types import Plan
from dorabatch.placer.plan.no_room import NoRoomMemory
from dorabatch.placer.plan.placement_policy import PlacementPolicy
from dorabatch.placer.plan.preempt import Victim, choose_victims
from dorabatch.placer.time.reserved import place_reserved


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What is to be done, in this order.

    stops, going_on         trials that end, and those that become ordinary runs
    plan                    who starts where, who waits why, what is kept for whom
    trial_seconds[request]  how long what starts on trial may run
    victims                 runs that are free and make way for paid ones
    """

    stops: tuple[TrialStop, ...]
    going_on: tuple[OnTrial, ...]
    plan: Plan
    trial_seconds: Mapping[int, int]
    victims: tuple[Victim, ...]


def decide(scene: Scene, policy: PlacementPolicy, memory: NoRoomMemory) -> Decision:
    """Plan the whole queue once; `memory` only spares work, see placer.plan.no_room."""
    cluster = scene.snapshot.cluster
    plan = place_reserved(scene.requests, cluster, scene.times, policy, memory=memory)
    picks = pick(scene, plan)
    trials = begin_trials(scene, picks, policy)
    plan = trials.behind(picks.plan)
    return Decision(
        stops=trials_to_stop(scene, picks),
        going_on=picks.trials,
        plan=plan,
        trial_seconds=trials.seconds,
        victims=choose_victims(
            scene.requests,
            scene.asking.paid,
            cluster,
            plan,
            scene.running(scene.is_free),
        ),
    )
