"""What one cycle decides: placements, new trials, trials that end or go on, who yields.

One pure function of a scene. The daemon carries a decision out on its nodes and in its
database, the what-if in memory: neither decides anything beside it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from dorabatch.daemon.gate import Gate
from dorabatch.daemon.lane.ground import Lane, OnTrial, Scene
from dorabatch.daemon.lane.picks import pick
from dorabatch.daemon.lane.stops import TrialStop, trials_to_stop
from dorabatch.daemon.lane.trials import begin_trials
from dorabatch.daemon.snapshot import Snapshot
from dorabatch.placer.arrays import BoolArray, IntArray, Plan, RequestArrays
from dorabatch.placer.memory import Memory
from dorabatch.placer.policy import PlacementPolicy
from dorabatch.placer.preempt import Victim, choose_victims, keep_off
from dorabatch.placer.reserved import Times, place_reserved


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


def decide(scene: Scene, policy: PlacementPolicy, memory: Memory) -> Decision:
    """Plan the whole queue once; `memory` only spares work, see placer.memory."""
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
            scene.requests, scene.gate.paid, cluster, plan, scene.running(scene.is_free)
        ),
    )


def scene_of(
    snapshot: Snapshot,
    lane: Lane,
    gate: Gate,
    times: Times,
    *,
    turn: IntArray,
    is_free: BoolArray,
) -> Scene:
    """The scene of a cycle: what the gate lets start asks for places.

    See Scene for `turn` and `is_free`.
    """
    snapshot, requests = _kept_for_claimants(snapshot, gate, is_free)
    return Scene(
        lane=lane,
        snapshot=snapshot,
        requests=requests,
        gate=gate,
        times=times,
        turn=turn,
        is_free=is_free,
    )


def _kept_for_claimants(
    snapshot: Snapshot, gate: Gate, is_free: BoolArray
) -> tuple[Snapshot, RequestArrays]:
    """The gate's requests, the free ones kept off nodes where free runs stop.

    Else one that runs free might take the first part of what a claimant waits for.
    """
    requests = snapshot.requests(gate.order)
    stops = is_free & (snapshot.held.stopping == 1) & (snapshot.held_node >= 0)
    if not stops.any() or gate.paid == len(requests):
        return snapshot, requests
    nodes = np.unique(snapshot.held_node[stops])
    requests, cluster = keep_off(requests, snapshot.cluster, gate.paid, nodes)
    return replace(snapshot, cluster=cluster), requests
