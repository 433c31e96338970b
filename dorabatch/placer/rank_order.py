"""The walk over the queue in rank order.

Books each request before any of lower rank is looked at, so nothing of lower rank
can take its place. A class that found no room is not tried again: what is free only
shrinks during the walk. It scores nothing itself.
"""

from collections import defaultdict

import numpy as np

from dorabatch.placer.arrays import Affinity, ClusterArrays, IntArray, RequestArrays
from dorabatch.placer.choose import choose, draw_for
from dorabatch.placer.engine import Engine
from dorabatch.placer.ground import Hold, State
from dorabatch.placer.outlook import look_ahead
from dorabatch.placer.planned import Planned
from dorabatch.placer.policy import PlacementPolicy
from dorabatch.placer.score import cost_for

REPLANS_MAX = 3


def in_rank_order(
    requests: RequestArrays,
    state: State,
    cluster: ClusterArrays,
    policy: PlacementPolicy,
) -> dict[int, Hold]:
    """Book every request that finds room in `state`; return row -> Hold."""
    walk = _Walk(requests, state, cluster, policy)
    # A long queue is planned a few times, not thousands of times.
    step = max(policy.window, -(-len(requests) // REPLANS_MAX))
    for start in range(0, len(requests), step):
        walk.rows(start, min(start + step, len(requests)))
    return walk.holds


class _Walk:
    """One walk: what is booked, which classes are dead, who sits where."""

    def __init__(
        self,
        requests: RequestArrays,
        state: State,
        cluster: ClusterArrays,
        policy: PlacementPolicy,
    ) -> None:
        self.requests = requests
        self.policy = policy
        self.state = state
        self.of = state.classes.of.tolist()
        self.engine = Engine(state, cost_for(policy.name))
        self.plans = policy.name == "default" and len(state.free) > 0
        self.holds: dict[int, Hold] = {}
        self.dead: set[int] = set()
        self.affinity = requests.affinity.copy()
        if policy.name == "random":
            self.affinity[self.affinity == Affinity.BEST] = Affinity.RANDOM
        self.special = requests.gang | (self.affinity != Affinity.BEST)
        self.siblings: dict[int, dict[int, int]] = defaultdict(dict)
        for (group, node), held in cluster.siblings.items():
            self.siblings[group][node] = held
        self.gangs: dict[int, list[int]] = defaultdict(list)
        for row in np.flatnonzero(requests.gang).tolist():
            self.gangs[int(requests.group[row])].append(row)

    def rows(self, start: int, end: int) -> None:
        """Walk rows start..end; the demand is planned anew against what is left."""
        live = self._live(start, end)
        if len(live) and self.plans:
            counts = np.bincount(self.state.classes.of, minlength=self._classes())
            planned = Planned(look_ahead(self.state, counts), self.state)
            self.engine = Engine(self.state, planned.cost, planned.pick)
        special = self.special
        for row in live.tolist():
            if self.of[row] in self.dead:
                continue
            if not special[row]:
                self._single(row)
            elif self.requests.gang[row]:
                self._gang(self.gangs.pop(int(self.requests.group[row]), []))
            else:
                self._single(row)

    def _classes(self) -> int:
        return len(self.state.classes)

    def _live(self, start: int, end: int) -> IntArray:
        """Rows of classes that may still find room."""
        dead = np.zeros(self._classes(), dtype=bool)
        dead[list(self.dead)] = True
        return np.flatnonzero(~dead[self.state.classes.of[start:end]]) + start

    def _single(self, row: int) -> bool:
        """Place one request, or note that its class has no room left."""
        index = self.of[row]
        if index in self.dead:
            return False
        bin_ = self._preferred(row, index) if self.special[row] else -2
        if bin_ == -2:
            bin_ = self.engine.best(index)
        if bin_ < 0:
            self.dead.add(index)
            return False
        self.holds[row] = self.engine.put(index, bin_)
        self._count_sibling(row, bin_, 1)
        return True

    def _preferred(self, row: int, index: int) -> int:
        """The bin by affinity; -2 leaves it to the policy's own choice."""
        affinity = Affinity(int(self.affinity[row]))
        if affinity == Affinity.BEST:
            return -2
        group = self.siblings[int(self.requests.group[row])]
        draw = draw_for(self.policy.seed, int(self.requests.key[row]))
        costs = self.engine.row(index)
        bin_ = choose(affinity, costs, self.state.ground.node, group, draw)
        return bin_ if bin_ >= 0 else self.engine.mixed(index)

    def _gang(self, rows: list[int]) -> None:
        """Place all rows or none."""
        dead = set(self.dead)
        for row in rows:
            if self._single(row):
                continue
            # Room that members took made others dead; it is given back.
            self.dead = dead
            for placed in rows:
                if placed in self.holds:
                    self._unbook(placed)
            return

    def _unbook(self, row: int) -> None:
        hold = self.holds.pop(row)
        self.engine.give_back(hold)
        self._count_sibling(row, hold.bin, -1)

    def _count_sibling(self, row: int, bin_: int, change: int) -> None:
        if not self.special[row]:
            return
        group = self.siblings[int(self.requests.group[row])]
        node = int(self.state.ground.node[bin_])
        group[node] = group.get(node, 0) + change
