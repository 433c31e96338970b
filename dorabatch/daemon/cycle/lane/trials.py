"""New trials: restartable workloads that found no room are tried in the lane.

Who comes first is `fairshare.lane`'s, where the placer's. Writes nothing.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from dorabatch.daemon.cycle.lane.picks import Picks
from dorabatch.daemon.cycle.lane_state import SECOND_US
from dorabatch.daemon.cycle.scene import Scene
from dorabatch.fairshare.turn.lane import Trial, next_trials
from dorabatch.placer.arrays.classes import classes_of
from dorabatch.placer.arrays.free_room import FreeRoom, ask_of, less_placed
from dorabatch.placer.arrays.types import (
    WHOLE_GPU_MILLI,
    BoolArray,
    ClusterArrays,
    IntArray,
    Placement,
    Plan,
)
from dorabatch.placer.arrays.waiting import Waiting
from dorabatch.placer.plan.place import place
from dorabatch.placer.plan.placement_policy import PlacementPolicy
from dorabatch.queue.columns import number_of


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
    rows = np.arange(scene.gate.paid)
    waiting = scene.gate.order[rows]
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
        pending, order = self.scene.snapshot.pending, self.scene.gate.order
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
        claim = pending.claim[self.scene.gate.order[rows]]
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
        return pending.claims[int(pending.claim[self.scene.gate.order[row]])].user

    def _count(self, user: str, gpus: int) -> None:
        number = number_of(self.users, user)
        self.load[number] = self.load.get(number, 0) + gpus
