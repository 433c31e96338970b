"""The probation lane: a small part where a restartable run may show that it is short.

Decides who probes next and for how long. A run that outlives its trial is picked by
the normal pass or requeued; stopped trials are not charged. Never stops or starts
anything itself.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

EXPRESS_SECONDS_MAX = 3600.0
EXPRESS_MARGIN = 1.5


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneRule:
    """`part_ppm` of the GPUs, trials of so many seconds; a part of 0 turns it off.

    Who is expected to need longer, but not longer than `express_seconds_max`, gets a
    trial of 1.5 times that; those take two thirds of the lane at most, or one of them
    more, when it is the only one and nobody else is tried there instead. With `on_idle`
    others are tried on GPUs that nobody else uses now.
    """

    part_ppm: int = 30_000
    trial_seconds: float = 300.0
    stops_max: int = 3
    express_seconds_max: float = EXPRESS_SECONDS_MAX
    on_idle: bool = False

    def size(self, capacity: int) -> int:
        """GPUs of the lane."""
        return capacity * self.part_ppm // 1_000_000

    def long_size(self, capacity: int) -> int:
        """GPUs of the lane that trials longer than the usual may take."""
        return self.size(capacity) * 2 // 3

    def trial_length(self, planned_seconds: float) -> float:
        """How long a trial of a run that is planned with so many seconds may last."""
        wanted = planned_seconds * EXPRESS_MARGIN
        if wanted <= self.trial_seconds or planned_seconds > self.express_seconds_max:
            return self.trial_seconds
        return max(self.trial_seconds, min(wanted, self.express_seconds_max))

    def is_long(self, planned_seconds: FloatArray) -> BoolArray:
        """Which planned runs get a longer trial than the usual."""
        wanted = planned_seconds * EXPRESS_MARGIN
        return (wanted > self.trial_seconds) & (
            planned_seconds <= self.express_seconds_max
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One that may probe."""

    row: int
    user: int
    gpus: int
    submitted: float


def next_trials(
    waiting: Iterable[Trial],
    *,
    free: int,
    in_lane: dict[int, int],
    behind: dict[int, int] | None = None,
) -> list[int]:
    """Rows to try now: of the user with the fewest GPUs on trial the smallest.

    Among equal users the one with the fewest that wait goes first, so that nobody
    fills the lane by sending many; behind[user] more wait that are not in `waiting`.
    """
    behind = behind or {}
    by_user: dict[int, list[Trial]] = {}
    for trial in waiting:
        if trial.gpus <= free:
            by_user.setdefault(trial.user, []).append(trial)
    for trials in by_user.values():
        trials.sort(key=lambda t: (t.gpus, t.submitted, t.row), reverse=True)
    load = {user: in_lane.get(user, 0) for user in by_user}
    chosen: list[int] = []
    while free > 0 and by_user:
        user = min(
            by_user,
            key=lambda name: _claim(
                load[name], by_user[name], behind.get(name, 0), name
            ),
        )
        trial = by_user[user].pop()
        if trial.gpus <= free:
            chosen.append(trial.row)
            free -= trial.gpus
            load[user] += trial.gpus
            if not by_user[user]:
                del by_user[user]
        else:
            # The smallest of this user does not fit, so none of them does.
            del by_user[user]
    return chosen


def _claim(
    load: int, trials: list[Trial], behind: int, user: int
) -> tuple[int, int, int, int]:
    return load, len(trials) + behind, trials[-1].gpus, user
