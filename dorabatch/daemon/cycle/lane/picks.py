"""The normal pass beside the lane: which placements stay, which trials go on.

The order is the queue's, the counting `fairshare.main_part`'s. Writes nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from dorabatch.daemon.cycle.lane_state import SECOND_US, OnTrial
from dorabatch.daemon.cycle.scene import Scene
from dorabatch.fairshare.turn.main_part import Bids, MainPart, picked
from dorabatch.placer.arrays.free_room import placed_rows
from dorabatch.placer.arrays.types import (
    UNKNOWN_US,
    WHOLE_GPU_MILLI,
    BoolArray,
    Explanation,
    IntArray,
    Plan,
    Reservation,
)
from dorabatch.placer.arrays.waiting import Waiting, rows_of

LANE = "Lane"
"""The code of waiting for GPUs beside the lane."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Picks:
    """What the normal pass came to.

    `plan` without what would take the lane's GPUs, and the trials that it picked;
    `gpus` is what both take of the main part, `gpus_of_trials` that of the trials.
    """

    plan: Plan
    trials: tuple[OnTrial, ...] = ()
    gpus: int = 0

    @property
    def gpus_of_trials(self) -> int:
        """What the picked trials leave of the lane."""
        return sum(one.gpus for one in self.trials)


def pick(scene: Scene, plan: Plan) -> Picks:
    """Let the plan use the main part only, and trials go on in what it leaves.

    Trials take part in their order in the queue, as if they waited; one on a node that
    is kept for a workload of higher rank, which it would delay, does not.
    """
    lane = scene.lane
    if lane.is_off:
        return Picks(plan=plan)
    rows = placed_rows(scene.requests, plan.placements)
    size = _gpu_counts(scene, rows, plan)
    is_paid = rows < scene.gate.paid
    paid, free = np.flatnonzero(is_paid), np.flatnonzero(~is_paid)
    trials = _candidates(scene, plan.reservations)
    won, gpus = _picked(scene, rows[paid], size[paid], trials)
    kept = np.zeros(len(rows), dtype=bool)
    kept[paid] = won[: len(paid)]
    # What runs free gets none of the GPUs that the lane has left.
    room = lane.main - lane.used - gpus
    kept[free] = (np.cumsum(size[free]) <= room) | (size[free] == 0)
    return Picks(
        plan=_without(scene, plan, rows, kept),
        trials=tuple(trials[at][1] for at in np.flatnonzero(won[len(paid) :]).tolist()),
        gpus=gpus + int(size[free][kept[free]].sum()),
    )


def _picked(
    scene: Scene, rows: IntArray, size: IntArray, trials: list[tuple[int, OnTrial]]
) -> tuple[BoolArray, int]:
    """(which placed rows and then trials are picked, GPUs that these take)."""
    now_us, some = scene.now_us, [one for _, one in trials]
    bids = Bids(
        size=np.concatenate([size, [one.gpus for one in some]]).astype(np.int64),
        planned=np.concatenate([scene.planned(rows), [one.planned for one in some]]),
        ran=np.array([0.0] * len(rows) + [one.ran(now_us) for one in some]),
        on_trial=np.arange(len(rows) + len(some)) >= len(rows),
    )
    places = [*scene.turn[scene.gate.order[rows]].tolist(), *(at for at, _ in trials)]
    order = np.argsort(np.array(places, dtype=np.int64), kind="stable")
    won = np.zeros(len(bids), dtype=bool)
    won[order] = picked(bids.take(order), _main_part(scene), now=now_us / SECOND_US)
    return won, int(bids.size[won].sum())


def _main_part(scene: Scene) -> MainPart:
    """The main part without what runs free: paid work never waits for that."""
    lane, snapshot = scene.lane, scene.snapshot
    here = snapshot.held_node >= 0
    is_run = (lane.gpus > 0) & (snapshot.held.trial_us == 0)
    ends = scene.times.ends.end_us[is_run[here]]
    return MainPart(
        size=lane.main,
        used=lane.used - lane.free_used,
        run_gpus=lane.gpus[is_run],
        run_ends=np.where(ends < UNKNOWN_US, ends / SECOND_US, np.inf),
    )


def _gpu_counts(scene: Scene, rows: IntArray, plan: Plan) -> IntArray:
    """GPUs that each placement takes; a share counts where it opens a GPU."""
    size = scene.requests.gpu_count[rows].copy()
    known, opened = scene.snapshot.cluster.gpu_rest_milli, set()
    for at in np.flatnonzero(scene.requests.gpu_milli[rows] < WHOLE_GPU_MILLI).tolist():
        one = plan.placements[at]
        slot = one.node, one.gpus.index(1), one.slot
        is_open = one.slot < known.shape[2] and known[slot] != 0
        size[at] = not is_open and slot not in opened
        opened.add(slot)
    return size


def _candidates(scene: Scene, kept: Sequence[Reservation]) -> list[tuple[int, OnTrial]]:
    """(place in the queue, trial) of those that may be picked."""
    turn, waiting = scene.turn, len(scene.snapshot.pending)
    mine = zip(turn[waiting:].tolist(), scene.lane.trials, strict=True)
    places = {one.key: _place_of(scene, one.key) for one in kept}
    return [
        (place, trial)
        for place, trial in mine
        if trial.is_counted
        and not any(
            one.node == trial.node
            and places[one.key] < place
            and _delays(trial, one, scene.now_us)
            for one in kept
        )
    ]


def _place_of(scene: Scene, key: int) -> int:
    (row,) = np.flatnonzero(scene.requests.key == key).tolist()
    return int(scene.turn[scene.gate.order[row]])


def _delays(trial: OnTrial, kept: Reservation, now_us: int) -> bool:
    """Whether a trial would still run when a place begins to be kept."""
    left = trial.planned - trial.ran(now_us)
    return kept.start_us >= UNKNOWN_US or now_us + left * SECOND_US > kept.start_us


def _without(scene: Scene, plan: Plan, rows: IntArray, kept: BoolArray) -> Plan:
    """The plan without some of its placements, which wait because of the lane.

    Places that were kept behind the first of them were kept behind runs that do not
    start: they are kept no more.
    """
    if kept.all():
        return plan
    lane, first = scene.lane, int(rows[~kept].min())
    ahead = scene.requests.key[:first]
    kept_for = tuple(one for one in plan.reservations if (ahead == one.key).any())
    why = Explanation(
        reason=LANE,
        counts={},
        sentence="waits for GPUs beside the lane: "
        f"{lane.size} of {lane.capacity} GPUs are kept for short trials",
    )
    gone = Waiting(
        scene.requests.key[rows[~kept]],
        np.full(int((~kept).sum()), len(plan.explanations)),
    )
    return replace(
        plan,
        placements=tuple(plan.placements[at] for at in np.flatnonzero(kept).tolist()),
        waiting=_joined(scene, Waiting.of(plan.waiting), gone),
        explanations=(*plan.explanations, why),
        reservations=kept_for,
    )


def _joined(scene: Scene, one: Waiting, other: Waiting) -> Waiting:
    """Both, in rank order."""
    key = np.concatenate([one.key, other.key])
    order = np.argsort(rows_of(scene.requests.key, key), kind="stable")
    return Waiting(key[order], np.concatenate([one.why, other.why])[order])
