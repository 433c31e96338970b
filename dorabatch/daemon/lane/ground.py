"""What one cycle knows when it decides on the lane: GPUs counted, trials, the queue.

Counts over the nodes that are in use, a node's row where it matters. Reads only.
"""

from dataclasses import dataclass

import numpy as np

from dorabatch.daemon.billing.gate import Gate
from dorabatch.daemon.services import Services
from dorabatch.daemon.snapshot import Snapshot
from dorabatch.fairshare.lane import FloatArray, LaneRule
from dorabatch.placer.arrays import UNKNOWN_US, BoolArray, IntArray, RequestArrays
from dorabatch.placer.reserved import Times
from dorabatch.queue.records import Container, ContainerId
from dorabatch.queue.states import LIVE
from dorabatch.units import microseconds_of

SECOND_US = 1_000_000
_NOT_USED = -1


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
        return self.node != _NOT_USED

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """The cycle around the lane.

    turn[row] is the place in the queue of what waits (the snapshot's pending rows)
    and, behind those, of the trials.
    """

    lane: Lane
    snapshot: Snapshot
    requests: RequestArrays
    gate: Gate
    times: Times
    turn: IntArray

    @property
    def now_us(self) -> int:
        """The moment of the cycle."""
        return self.times.now_us

    def planned(self, rows: IntArray) -> FloatArray:
        """Seconds that requests are planned to run; math.inf: nobody knows."""
        ends = self.times.planned_end_us[rows]
        return _seconds(np.where(ends < UNKNOWN_US, ends - self.now_us, UNKNOWN_US))


def take_lane(services: Services, snapshot: Snapshot, is_free: BoolArray) -> Lane:
    """Count what holds GPUs; `is_free[held]` runs free."""
    cluster, held = snapshot.cluster, snapshot.held
    usable = cluster.ready & cluster.enabled & cluster.allows_gpu
    is_used = snapshot.held_node >= 0
    is_used[is_used] = usable[snapshot.held_node[is_used]]
    lengths = np.array([len(names) for names in held.model_sets], dtype=np.int64)
    gpus = np.where(is_used & (held.device == 0), lengths[held.models], 0)
    total = int(cluster.gpus_total[usable].sum())
    on_trial = held.trial_us > 0
    trial_gpus = int(gpus[on_trial].sum())
    return Lane(
        rule=services.policy.settings.lane,
        capacity=total,
        used=total - int(cluster.gpus_free[usable].sum()) - trial_gpus,
        free_used=int(gpus[is_free & ~on_trial].sum()),
        on_trial=trial_gpus,
        trials=_trials(services, snapshot, gpus, is_used),
        gpus=gpus,
    )


def is_live_trial(container: Container | None) -> bool:
    """Whether a container is on trial and is not being stopped."""
    return (
        container is not None
        and container.trial_seconds is not None
        and container.state in LIVE
    )


def _seconds(span_us: IntArray) -> FloatArray:
    return np.where(span_us < UNKNOWN_US, span_us / SECOND_US, np.inf)


def _trials(
    services: Services, snapshot: Snapshot, gpus: IntArray, is_used: BoolArray
) -> tuple[OnTrial, ...]:
    held, known = snapshot.held, services.board.containers
    rows = np.flatnonzero((held.trial_us > 0) & (held.stopping == 0))
    if len(rows) == 0:
        return ()
    claims = services.held_claims.columns(held.claims)
    planned = _seconds(claims.planned_us[held.claim])
    found = []
    for row in rows.tolist():
        container = known.get(ContainerId(int(held.key[row])))
        # It may have changed since the snapshot was taken.
        if container is not None and is_live_trial(container):
            node = int(snapshot.held_node[row]) if is_used[row] else _NOT_USED
            one = OnTrial(
                container=container,
                user=held.claims[held.claim[row]].user,
                node=node,
                gpus=int(gpus[row]),
                planned=float(planned[row]),
            )
            found.append(one)
    return tuple(found)
