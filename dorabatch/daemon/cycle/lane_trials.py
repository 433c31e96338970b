"""What becomes of trials: which go on, which are stopped, and who is tried anew.

Lets the plan use the GPUs beside the lane only; trials take part in that as if they
waited. Then what found no room and may be started again is tried in the lane. The order
is `fairshare.turn`'s, the place the placer's. Pure: values in and out; writes nothing
and stops nothing.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from dorabatch.daemon.cycle.lane_state import SECOND_US, OnTrial
from dorabatch.daemon.cycle.scene import Scene
from dorabatch.fairshare.turn.lane import Trial, next_trials
from dorabatch.fairshare.turn.main_part import Bids, MainPart, picked
from dorabatch.placer.arrays.classes import classes_of
from dorabatch.placer.arrays.free_room import FreeRoom, ask_of, less_placed, placed_rows
from dorabatch.placer.arrays.types import (
    UNKNOWN_US,
    WHOLE_GPU_MILLI,
    BoolArray,
    ClusterArrays,
    Explanation,
    IntArray,
    Placement,
    Plan,
    Reservation,
    Waiting,
    rows_of,
)
from dorabatch.placer.plan.place import place
from dorabatch.placer.plan.placement_policy import PlacementPolicy
from dorabatch.placer.plan.preempt import choose_victims
from dorabatch.queue.demand import number_of
from dorabatch.queue.records import ContainerId

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
    is_paid = rows < scene.asking.paid
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
    places = [*scene.turn[scene.asking.order[rows]].tolist(), *(at for at, _ in trials)]
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
    return int(scene.turn[scene.asking.order[row]])


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
        scene.asking.paid,
        snapshot.cluster,
        replace(plan, waiting=waiting),
        scene.running(snapshot.held.trial_us > 0),
    )
    return {ContainerId(one.key): one.claimant for one in victims}


@dataclass(frozen=True, slots=True, kw_only=True)
class NewTrials:
    """Places for trials; seconds[container] is how long each may run."""

    placements: tuple[Placement, ...] = ()
    seconds: dict[int, int] = field(default_factory=dict)

    def behind(self, plan: Plan) -> Plan:
        """The plan, with these behind it."""
        if not self.placements:
            return plan
        mine = [one.key for one in self.placements]
        waiting = Waiting.of(plan.waiting)
        return replace(
            plan,
            placements=plan.placements + self.placements,
            waiting=waiting.take(~np.isin(waiting.key, mine)),
        )


def begin_trials(scene: Scene, picks: Picks, policy: PlacementPolicy) -> NewTrials:
    """Fill what the lane has left: long trials in their part of it, then the others.

    Only whole GPUs of workloads that are paid for, never on a node that is kept for
    another from a moment before the trial's end.
    """
    lane, rule = scene.lane, scene.lane.rule
    beside = lane.main - lane.used - picks.gpus
    room = lane.size - lane.on_trial + picks.gpus_of_trials + min(0, beside)
    rows = _may_try(scene, picks.plan, room)
    if len(rows) == 0:
        return NewTrials()
    filling = _Filling(scene, picks, policy)
    rows = rows[filling.fit(rows, filling.cluster)]
    planned = scene.planned(rows)
    is_long = rule.is_long(planned)
    long_room = rule.long_size(lane.capacity) - filling.long_gpus
    most = min(room, long_room)
    longest = rule.express_seconds_max
    found = filling.fill(rows[is_long], most, longest)
    has_long = filling.long_gpus > 0 or len(found) > 0
    room -= _gpus_of(found)
    short = filling.fill(rows[~is_long], room, rule.trial_seconds)
    found += short
    if not has_long:
        # One larger than the part of the long ones has what is left, alone.
        found += filling.fill(rows[is_long], room - _gpus_of(short), longest, most=1)
    keys = scene.requests.key[rows].tolist()
    lengths = dict(zip(keys, planned.tolist(), strict=True))
    return NewTrials(
        placements=found,
        seconds={
            one.key: math.ceil(rule.trial_length(lengths[one.key])) for one in found
        },
    )


def _gpus_of(placements: Sequence[Placement]) -> int:
    """GPUs that placements take, over all."""
    return sum(sum(one.gpus) for one in placements)


def _may_try(scene: Scene, plan: Plan, room: int) -> IntArray:
    """Requests that wait, may be started anew, and had no trial that was outlived."""
    if room <= 0:
        return np.zeros(0, dtype=np.int64)
    requests, pending = scene.requests, scene.snapshot.pending
    rows = np.arange(scene.asking.paid)
    waiting = scene.asking.order[rows]
    restartable = np.array([one.restartable for one in pending.claims], dtype=bool)
    able = restartable[pending.claim[waiting]] & (pending.tried[waiting] == 0)
    able &= pending.trial_stops[waiting] < scene.lane.rule.stops_max
    able &= requests.gpu_milli[rows] == WHOLE_GPU_MILLI
    able &= (requests.gpu_count[rows] > 0) & (requests.gpu_count[rows] <= room)
    able &= ~requests.gang[rows]
    rows = rows[able]
    gone = [one.key for one in plan.placements] + list(plan.left)
    return np.asarray(rows[~np.isin(requests.key[rows], gone)])


class _Filling:
    """The lane as it fills: room on the nodes, and GPUs on trial by user."""

    def __init__(self, scene: Scene, picks: Picks, policy: PlacementPolicy) -> None:
        self.scene = scene
        self.policy = policy
        self.reservations = picks.plan.reservations
        placements = picks.plan.placements
        self.cluster = less_placed(scene.requests, scene.snapshot.cluster, placements)
        self.users: dict[str, int] = {}
        self.load: dict[int, int] = {}
        self.long_gpus = 0
        gone = {one.container.container_id for one in picks.trials}
        for one in scene.lane.trials:
            if one.container.container_id not in gone:
                self._count(one.user, one.gpus)
                is_long = (one.container.trial_seconds or 0) > math.ceil(
                    scene.lane.rule.trial_seconds
                )
                self.long_gpus += one.gpus * is_long

    def fill(
        self, rows: IntArray, free: int, seconds: float, *, most: int | None = None
    ) -> tuple[Placement, ...]:
        """Places for the next of these rows, on `free` GPUs for so many seconds.

        No more than `most` of them, where that is given.
        """
        if free <= 0 or len(rows) == 0:
            return ()
        requests = self.scene.requests
        cluster = self._open_for(seconds)
        rows, behind = self._first_of_each(rows[self.fit(rows, cluster)], free)
        pending, order = self.scene.snapshot.pending, self.scene.asking.order
        trials = [
            Trial(
                row=row,
                user=number_of(self.users, self._user(row)),
                gpus=int(requests.gpu_count[row]),
                submitted=float(pending.submitted_us[order[row]]),
            )
            for row in rows.tolist()
        ]
        chosen = next_trials(trials, free=free, in_lane=self.load, behind=behind)
        chosen = chosen[:most]
        if not chosen:
            return ()
        some = requests.take(np.array(chosen, dtype=np.int64))
        placements = place(some, cluster, self.policy).placements
        self.cluster = less_placed(some, self.cluster, placements)
        keys = dict(zip(some.key.tolist(), chosen, strict=True))
        for one in placements:
            self._count(self._user(keys[one.key]), sum(one.gpus))
        return placements

    def _open_for(self, seconds: float) -> ClusterArrays:
        """The cluster without nodes that are kept for others before so long."""
        until = self.scene.now_us + round(seconds * SECOND_US)
        enabled = self.cluster.enabled.copy()
        enabled[[one.node for one in self.reservations if one.start_us < until]] = False
        return replace(self.cluster, enabled=enabled)

    def fit(self, rows: IntArray, cluster: ClusterArrays) -> BoolArray:
        """Which rows have room on some node of a cluster."""
        requests, room = self.scene.requests, FreeRoom(cluster)
        classes = classes_of(requests.take(rows))
        _, first = np.unique(classes.of, return_index=True)
        fits = [
            bool(room.fits(ask_of(requests, row, cluster)).any())
            for row in rows[first].tolist()
        ]
        return np.array(fits, dtype=bool)[classes.of]

    def _first_of_each(
        self, rows: IntArray, most: int
    ) -> tuple[IntArray, dict[int, int]]:
        """Of each claim the first `most` rows, and how many more wait, by user."""
        pending = self.scene.snapshot.pending
        claim = pending.claim[self.scene.asking.order[rows]]
        order = np.argsort(claim, kind="stable")
        place_in = np.arange(len(rows)) - np.searchsorted(claim[order], claim[order])
        more = claim[order[place_in >= most]]
        behind: dict[int, int] = {}
        for number, count in zip(*np.unique(more, return_counts=True), strict=True):
            user = number_of(self.users, pending.claims[int(number)].user)
            behind[user] = behind.get(user, 0) + int(count)
        return np.sort(rows[order[place_in < most]]), behind

    def _user(self, row: int) -> str:
        pending = self.scene.snapshot.pending
        return pending.claims[int(pending.claim[self.scene.asking.order[row]])].user

    def _count(self, user: str, gpus: int) -> None:
        number = number_of(self.users, user)
        self.load[number] = self.load.get(number, 0) + gpus
