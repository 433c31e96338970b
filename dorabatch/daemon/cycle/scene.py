"""What one cycle decides on: the queue, the cluster, who asks, the lane, planned ends.

Pure: only a value and how it is put together; `planner` reads the parts.
"""

from dataclasses import dataclass, replace

import numpy as np

from dorabatch.daemon.cycle.gates.chain import Asking
from dorabatch.daemon.cycle.lane_state import Lane, seconds_of
from dorabatch.daemon.state.snapshot import Snapshot
from dorabatch.fairshare.turn.lane import FloatArray
from dorabatch.placer.arrays.types import UNKNOWN_US, BoolArray, IntArray, RequestArrays
from dorabatch.placer.plan.preempt import Running, keep_off
from dorabatch.placer.time.reserved import Times


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """The cycle around the lane.

    `requests` are the rows that ask. turn[row] is the place in the queue of what waits
    (the snapshot's pending rows) and, behind those, of the trials. `is_free[held]`:
    it runs free because credit is used up.
    """

    lane: Lane
    snapshot: Snapshot
    requests: RequestArrays
    asking: Asking
    times: Times
    turn: IntArray
    is_free: BoolArray

    @property
    def now_us(self) -> int:
        """The moment of the cycle."""
        return self.times.now_us

    def planned(self, rows: IntArray) -> FloatArray:
        """Seconds that requests are planned to run; math.inf: nobody knows."""
        ends = self.times.planned_end_us[rows]
        return seconds_of(np.where(ends < UNKNOWN_US, ends - self.now_us, UNKNOWN_US))

    def running(self, may_yield: BoolArray) -> Running:
        """What is held on known nodes; may_yield[held]: it may have to give way."""
        held, here = self.snapshot.held, self.snapshot.held_node >= 0
        return Running(
            key=held.key[here],
            started_us=held.started_us[here],
            is_free=may_yield[here],
            is_leaving=held.stopping[here] == 1,
            ends=self.times.ends,
        )


def scene_of(
    snapshot: Snapshot,
    lane: Lane,
    asking: Asking,
    times: Times,
    *,
    turn: IntArray,
    is_free: BoolArray,
) -> Scene:
    """The scene of a cycle: what passed the gates asks for places.

    See Scene for `turn` and `is_free`.
    """
    snapshot, requests = _kept_for_claimants(snapshot, asking, is_free)
    return Scene(
        lane=lane,
        snapshot=snapshot,
        requests=requests,
        asking=asking,
        times=times,
        turn=turn,
        is_free=is_free,
    )


def _kept_for_claimants(
    snapshot: Snapshot, asking: Asking, is_free: BoolArray
) -> tuple[Snapshot, RequestArrays]:
    """The requests, the free ones kept off nodes where free runs stop.

    Else one that runs free might take the first part of what a claimant waits for.
    """
    requests = snapshot.requests(asking.order)
    stops = is_free & (snapshot.held.stopping == 1) & (snapshot.held_node >= 0)
    if not stops.any() or asking.paid == len(requests):
        return snapshot, requests
    nodes = np.unique(snapshot.held_node[stops])
    requests, cluster = keep_off(requests, snapshot.cluster, asking.paid, nodes)
    return replace(snapshot, cluster=cluster), requests
