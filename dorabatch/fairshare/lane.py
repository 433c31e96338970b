"""The probation lane: a small part where a restartable run may show that it is short.

Decides who probes next. A run that outlives its trial is picked by the normal pass or
requeued; stopped trials are not charged. Never stops or starts anything itself.
"""

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneRule:
    """`part_ppm` of the GPUs, trials of so many seconds; a part of 0 turns it off."""

    part_ppm: int = 30_000
    trial_seconds: float = 300.0
    stops_max: int = 3

    def size(self, capacity: int) -> int:
        """GPUs of the lane."""
        return capacity * self.part_ppm // 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One that may probe."""

    row: int
    user: int
    gpus: int
    submitted: float


def next_trials(
    waiting: Iterable[Trial], *, free: int, in_lane: dict[int, int]
) -> list[int]:
    """Rows to try now: the user with the fewest GPUs on trial, then the smallest."""
    by_user: dict[int, list[Trial]] = {}
    for trial in waiting:
        if trial.gpus <= free:
            by_user.setdefault(trial.user, []).append(trial)
    for trials in by_user.values():
        trials.sort(key=lambda t: (t.gpus, t.submitted, t.row), reverse=True)
    load = {user: in_lane.get(user, 0) for user in by_user}
    chosen: list[int] = []
    while free > 0 and by_user:
        user = min(by_user, key=lambda name: (load[name], by_user[name][-1].gpus, name))
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
