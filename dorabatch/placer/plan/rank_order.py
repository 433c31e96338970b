"""The walk over the queue in rank order.

Books each request before any of lower rank is looked at, so nothing of lower rank
can take its place. A class that found no room is not tried again: what is free only
shrinks during the walk. It scores nothing itself.
"""

from collections import defaultdict
from heapq import heapify, heappop, heappush

import numpy as np

from dorabatch.placer.arrays.bins import BinHold, BinState, Shapes
from dorabatch.placer.arrays.booked import Booked
from dorabatch.placer.arrays.types import (
    WHOLE_GPU_MILLI,
    Affinity,
    BoolArray,
    ClusterArrays,
    IntArray,
    RequestArrays,
)
from dorabatch.placer.plan.affinity import choose, draw_for
from dorabatch.placer.plan.best_bin import Engine
from dorabatch.placer.plan.cpu_requests import room_beside
from dorabatch.placer.plan.demand_outlook import CPU_STEP, look_ahead, queue_of
from dorabatch.placer.plan.exchange import exchange, revived
from dorabatch.placer.plan.joint import place_jointly
from dorabatch.placer.plan.placement_policy import PlacementPolicy
from dorabatch.placer.plan.plan_memo import PlanMemo
from dorabatch.placer.plan.planned_choice import Planned, Scored, cost_for
from dorabatch.placer.plan.take_back import Claims

REPLANS_MAX = 3

JOINT_MIN = 24
"""Fewer requests than this are placed one by one."""

PART = 4096
"""So many rows at a time are freed of those whose class has no room any more."""

FILL_PART = 0.92
"""Of the free GPUs, what is filled jointly; the rest goes one by one."""


def in_rank_order(
    requests: RequestArrays,
    grounds: tuple[BinState, Shapes],
    cluster: ClusterArrays,
    policy: PlacementPolicy,
    memo: PlanMemo | None = None,
) -> Booked:
    """Book every request that finds room in the state; return what was booked."""
    walk = _Walk(requests, grounds, cluster, policy)
    walk.memo = memo
    walk.all()
    return walk.booked


class _Walk:
    """One walk: what is booked, which classes are dead, who sits where."""

    def __init__(
        self,
        requests: RequestArrays,
        grounds: tuple[BinState, Shapes],
        cluster: ClusterArrays,
        policy: PlacementPolicy,
    ) -> None:
        state, self.shapes = grounds
        self.requests = requests
        self.policy = policy
        self.memo: PlanMemo | None = None
        self.state = state
        self.of = state.classes.of.tolist()
        choice = Scored(cost_for(policy.name), len(state.free))
        self.engine = Engine(state, choice)
        self.plans = policy.name == "default" and len(state.free) > 0
        self.booked = Booked(state, len(requests))
        self.claims: Claims | None = None
        self.dead: set[int] = set()
        # Room is short: the rest is better placed one by one.
        self.full = False
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

    def all(self) -> None:
        """Walk the whole queue, jointly where many come together; then even it out."""
        self._walk()
        placed = self.booked.bin >= 0
        gang_waits = (self.requests.gang & ~placed).any()
        if self.plans and placed.any() and not gang_waits:
            self._exchange()

    def _exchange(self) -> None:
        """Even out what nodes have left; place what waits in the room that makes."""
        booked = self.booked
        movable = booked.whole_rows()
        movable = movable[~self.special[movable]]
        changed = exchange(booked, self.outlook, movable)
        if len(changed) == 0:
            return
        for bin_ in changed.tolist():
            self.engine.touch(bin_)
        self.claims = None
        self.dead -= set(revived(booked, changed).tolist())
        count = len(self.requests)
        live = self._live(0, count)
        self._settle(live[booked.bin[live] < 0], count, within=changed)

    def _walk(self) -> None:
        start, count = 0, len(self.requests)
        plans = 0
        while start < count:
            live = self._live(start, count)
            if len(live) == 0:
                return
            if self.plans and plans < REPLANS_MAX:
                self._plan(live)
                plans += 1
            first = int(live[0])
            end = self._segment(live) if self.plans and not self.full else first
            if np.searchsorted(live, end) >= JOINT_MIN:
                self._jointly(live[live < end], end)
                start = end
            elif self.requests.gang[first]:
                self._one(first)
                start = first + 1
            else:
                start = self._one_by_one(live)

    def _one_by_one(self, live: IntArray) -> int:
        """Rows in rank order, up to the next that stands alone; return its row.

        Of many without GPUs those that surely find room are placed before, together.
        """
        alone = live[self.requests.gang[live]]
        end = int(alone[0]) if len(alone) else len(self.requests)
        live = live[live < end]
        if self.plans:
            of = self.state.classes.of[live]
            plain = live[(self.state.classes.gpu_count[of] == 0) & ~self.special[live]]
            count = self._cpu_segment(plain)
            if count >= JOINT_MIN:
                end = int(plain[count]) if count < len(plain) else end
                self._place(plain[:count])
                live = live[(self.booked.bin[live] < 0) & (live < end)]
                self._settle(live, end)
                return end
        for row in live.tolist():
            self._one(row)
        return end

    def _cpu_segment(self, plain: IntArray) -> int:
        """How many requests without GPUs surely find room beside what GPUs need."""
        asked = self.state.classes.cpu_milli[self.state.classes.of[plain]]
        room, _ = room_beside(self.state, self.outlook)
        room = room[self.state.ground.primary] * CPU_STEP
        # What is too little for most counts for nothing.
        usual = max(float(asked.mean()), 1.0) if len(plain) else 1.0
        free = float((room // usual).sum()) * usual
        return int(np.searchsorted(np.cumsum(asked), free * FILL_PART))

    def _plan(self, live: IntArray) -> None:
        classes = self._classes()
        counts = np.bincount(self.state.classes.of, minlength=classes)
        queued = queue_of(self.state, self.state.classes.of[live])
        self.outlook = look_ahead(self.state, self.shapes, (queued, counts), self.memo)
        self.engine = Engine(self.state, Planned(self.outlook, self.state))
        self.claims = None

    def _segment(self, live: IntArray) -> int:
        """The end of the rows that may be placed jointly: what surely finds room."""
        of = self.state.classes.of[live]
        milli = self.state.classes.gpu_count * self.state.classes.gpu_milli
        asked = np.cumsum(milli[of])
        rests = np.maximum(self.state.rest, 0)
        free = float((rests * self.outlook.share_below[rests]).sum())
        free += self.state.free.sum() * WHOLE_GPU_MILLI
        end = int(np.searchsorted(asked, free * FILL_PART))
        alone = np.flatnonzero(self.requests.gang[live[:end]])
        if len(alone):
            end = int(alone[0])
        if end >= len(live):
            return len(self.requests)
        return int(live[end])

    def _jointly(self, live: IntArray, end: int) -> None:
        """Place rows together; then, in rank order, what found no room so."""
        self._place(live[~self.special[live]])
        self._settle(live[self.booked.bin[live] < 0], end)

    def _place(self, plain: IntArray) -> None:
        """Place rows together, as far as they find room so."""
        joint = place_jointly(self.state, self.outlook, plain)
        done = joint.bin >= 0
        self.booked.put_many(plain[done], joint.bin[done], joint.slot[done])
        self.engine.forget()
        self.claims = None

    def _settle(self, left: IntArray, end: int, within: IntArray | None = None) -> None:
        """Place rows one by one in rank order; those behind `end` are not placed.

        `within` are the only bins on which they may have come to take room back.
        """
        moved: set[int] = set()
        waiting: list[int] = []
        begun = 0
        while waiting or begun < len(left):
            if not waiting or (begun < len(left) and waiting[0] > left[begun]):
                # What lost its room ranks behind the next that were not looked at.
                part = left[begun : begun + PART]
                hopes = self._hopes()[self.state.classes.of[part]]
                waiting += part[hopes].tolist()
                heapify(waiting)
                begun += PART
                continue
            row = heappop(waiting)
            if self.of[row] in self.dead:
                continue
            if not self._single(row):
                lost = self._claim(row, end, None if row in moved else within)
                self.full = self.full or bool(lost)
                moved.update(lost)
                for other in lost:
                    heappush(waiting, other)

    def _claim(self, row: int, end: int, within: IntArray | None) -> list[int]:
        """Give `row` room that rows of lower rank took; return those that lost it."""
        index = self.of[row]
        # What is left comes in rank order: the rows behind grow fewer.
        self.claims = self.claims or Claims(self.booked, self.engine, row, end)
        bin_ = self.claims.bin_for(row, index, within)
        lost: list[int] = []
        if bin_ < 0:
            return lost
        for other in self.claims.rows_on(bin_):
            self._unbook(other)
            lost.append(other)
            if self.state.fits_on(index, bin_):
                break
        self.claims.drop(lost)
        self.dead.discard(index)
        self._book(row, self.engine.put(index, bin_))
        return lost

    def _one(self, row: int) -> None:
        if self.of[row] in self.dead:
            return
        if self.requests.gang[row]:
            self._gang(self.gangs.pop(int(self.requests.group[row]), []))
        else:
            self._single(row)

    def _classes(self) -> int:
        return len(self.state.classes)

    def _live(self, start: int, end: int) -> IntArray:
        """Rows of classes that may still find room."""
        return np.flatnonzero(self._hopes()[self.state.classes.of[start:end]]) + start

    def _hopes(self) -> BoolArray:
        """hopes[class]: may still find room."""
        hopes = np.ones(self._classes(), dtype=bool)
        hopes[list(self.dead)] = False
        return hopes

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
        self._book(row, self.engine.put(index, bin_))
        return True

    def _book(self, row: int, hold: BinHold) -> None:
        self.booked.put(row, hold)
        self._count_sibling(row, hold.bin, 1)

    def _preferred(self, row: int, index: int) -> int:
        """The bin by affinity; -2 leaves it to the policy's own choice."""
        affinity = Affinity(int(self.affinity[row]))
        if affinity == Affinity.BEST:
            return -2
        group = self.siblings[int(self.requests.group[row])]
        draw = draw_for(self.policy.seed, int(self.requests.key[row]))
        costs = self.engine.costs(index)
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
                if self.booked.bin[placed] >= 0:
                    self._unbook(placed)
            return

    def _unbook(self, row: int) -> BinHold:
        hold = self.booked.pop(row)
        self.engine.give_back(hold)
        self._count_sibling(row, hold.bin, -1)
        return hold

    def _count_sibling(self, row: int, bin_: int, change: int) -> None:
        if not self.special[row]:
            return
        group = self.siblings[int(self.requests.group[row])]
        node = int(self.state.ground.node[bin_])
        group[node] = group.get(node, 0) + change
