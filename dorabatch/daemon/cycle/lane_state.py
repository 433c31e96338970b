"""The lane as a cycle finds it: its GPUs counted, and the runs on trial in it.

Pure: values only; `planner` counts them, and who is tried, goes on or is stopped,
`lane_trials` decides.
"""

from dataclasses import dataclass

import numpy as np

from dorabatch.fairshare.turn.lane import FloatArray, LaneRule
from dorabatch.placer.arrays.types import UNKNOWN_US, IntArray
from dorabatch.queue.records import Container
from dorabatch.queue.states import LIVE
from dorabatch.units import microseconds_of

SECOND_US = 1_000_000
NOT_USED = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class OnTrial:
    """A run on trial that is not being stopped.

    `node` is its row, -1 where that is not in use, `gpus` what it holds there,
    `planned` the seconds of the whole run (math.inf: nobody knows).
    """

    container: Container
    user: str
    node: int
    gpus: int
    planned: float

    @property
    def is_counted(self) -> bool:
        """Whether it is on a node in use."""
        return self.node != NOT_USED

    def ran(self, now_us: int) -> float:
        """Seconds since its start."""
        started = self.container.started_at
        if started is None:
            return 0.0
        return (now_us - microseconds_of(started)) / SECOND_US

    def is_over(self, now_us: int) -> bool:
        """Whether its time is over."""
        limit = self.container.trial_seconds
        is_started = self.container.started_at is not None
        return limit is not None and is_started and self.ran(now_us) >= limit


@dataclass(frozen=True, slots=True, kw_only=True)
class Lane:
    """The lane as a cycle finds it, in GPUs of the nodes in use.

    used, free_used  what ordinary runs hold, and those that run free among them
    on_trial         what trials hold, also those that are being stopped
    gpus[held]       whole GPUs of the snapshot's held rows, 0 off the nodes in use
    """

    rule: LaneRule
    capacity: int
    used: int
    free_used: int
    on_trial: int
    trials: tuple[OnTrial, ...]
    gpus: IntArray

    @property
    def size(self) -> int:
        """GPUs of the lane."""
        return self.rule.size(self.capacity)

    @property
    def main(self) -> int:
        """GPUs beside the lane."""
        return self.capacity - self.size

    @property
    def is_off(self) -> bool:
        """Whether there is nothing to decide."""
        return self.size == 0 and not self.trials


def is_live_trial(container: Container | None) -> bool:
    """Whether a container is on trial and is not being stopped."""
    return (
        container is not None
        and container.trial_seconds is not None
        and container.state in LIVE
    )


def seconds_of(span_us: IntArray) -> FloatArray:
    return np.where(span_us < UNKNOWN_US, span_us / SECOND_US, np.inf)
