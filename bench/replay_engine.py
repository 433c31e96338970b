"""Replays a job log on counted GPUs through the package's own decisions.

The event loop only: order, backfill, lane and estimates are decided in
`dorabatch.fairshare`. Knows no nodes; never reads a clock.
"""

import heapq
from collections import defaultdict
from dataclasses import dataclass, field

import numpy as np

from dorabatch.fairshare.backfill import backfilled, reservation
from dorabatch.fairshare.estimate import History
from dorabatch.fairshare.factor import fair_tree
from dorabatch.fairshare.lane import LaneRule, Trial, next_trials
from dorabatch.fairshare.shares import Account, build_tree
from dorabatch.fairshare.usage import (
    brought_forward,
    caught_up,
    no_usage,
    whole_usage,
)

END, TRIAL_OVER, SUBMIT = 0, 1, 2
LANE, IDLE = "lane", "idle"


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What a replay varies."""

    fair: bool = True
    backfill: bool = True
    history: bool = False
    size_weight: float = 0.0
    fair_weight: float = 1.0
    age_weight: float = 0.0
    catch_up: bool = False
    lane: LaneRule | None = None


POLICIES = {
    "fifo": Policy(fair=False, backfill=False),
    "fifo-easy": Policy(fair=False),
    "slurm-like": Policy(fair_weight=10000, age_weight=1000, size_weight=1000),
    "default": Policy(
        fair_weight=0.7, age_weight=0.1, history=True, catch_up=True, lane=LaneRule()
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Log:
    """Jobs by submission: seconds, GPUs and user numbers."""

    submit: np.ndarray
    duration: np.ndarray
    limit: np.ndarray
    size: np.ndarray
    user: np.ndarray


@dataclass
class Engine:
    """One replay."""

    log: Log
    capacity: int
    policy: Policy
    now: float = 0.0
    waiting: set[int] = field(default_factory=set)
    running: dict[int, float] = field(default_factory=dict)
    trials: dict[int, str] = field(default_factory=dict)

    def run(self) -> np.ndarray:
        """start[job] of the attempt that finished."""
        count = len(self.log.submit)
        users = int(self.log.user.max()) + 1
        self.tree = build_tree(
            [Account(name=str(user), is_user=True) for user in range(users)]
        )
        self.usage = no_usage(self.tree, at_seconds=0.0)
        self.live = np.zeros(users, dtype=np.int64)
        self.start = np.full(count, np.nan)
        self.attempt = np.zeros(count, dtype=np.int64)
        self.tried = np.zeros(count, dtype=bool)
        self.stops = np.zeros(count, dtype=np.int64)
        self.predicted = self.log.limit.astype(float).copy()
        self.planned = self.predicted.copy()
        self.history = History()
        self.restarts = 0
        self.wasted = 0.0
        lane = self.policy.lane
        self.lane_size = lane.size(self.capacity) if lane else 0
        self.lane_free = self.lane_size
        self.free = self.capacity - self.lane_size
        self.events = [
            (float(when), SUBMIT, job, 0) for job, when in enumerate(self.log.submit)
        ]
        heapq.heapify(self.events)
        while self.events:
            self.step()
        return self.start

    def step(self) -> None:
        """All events of one moment, then one pass."""
        self.now = self.events[0][0]
        over: list[int] = []
        while self.events and self.events[0][0] == self.now:
            _, kind, job, attempt = heapq.heappop(self.events)
            if kind == SUBMIT:
                self.submitted(job)
            elif self.attempt[job] == attempt and job in self.running:
                if kind == END:
                    self.ended(job)
                elif job in self.trials:
                    over.append(job)
        self.normal_pass()
        for job in over:
            if job in self.trials:
                self.tried[job] = True
                self.stop(job)
        if over:
            self.normal_pass()
        if self.lane_size:
            self.lane_pass()

    def submitted(self, job: int) -> None:
        user = int(self.log.user[job])
        if self.live[user] == 0 and self.policy.catch_up:
            self.usage = brought_forward(self.usage, self.now)
            own = caught_up(
                self.tree,
                self.usage.own,
                joining=np.array([user]),
                active=self.live > 0,
                capacity_rate=self.capacity * 1000.0,
            )
            self.usage.own[:] = own
        self.live[user] += 1
        self.waiting.add(job)
        if self.policy.history:
            asked = {
                "user": user,
                "gpus": int(self.log.size[job]),
                "limit": float(self.log.limit[job]),
            }
            self.predicted[job] = self.history.predicted(**asked)
            self.planned[job] = self.history.planned(**asked)

    def begin(self, job: int, where: str = "") -> None:
        size = int(self.log.size[job])
        if where == LANE:
            self.lane_free -= size
        else:
            self.free -= size
        self.waiting.discard(job)
        self.running[job] = self.now
        self.start[job] = self.now
        self.attempt[job] += 1
        self.rate(job, size)
        end = self.now + float(self.log.duration[job])
        heapq.heappush(self.events, (end, END, job, int(self.attempt[job])))
        if where and self.policy.lane:
            self.trials[job] = where
            over = self.now + self.policy.lane.trial_seconds
            heapq.heappush(self.events, (over, TRIAL_OVER, job, int(self.attempt[job])))

    def rate(self, job: int, size: int) -> None:
        self.usage = brought_forward(self.usage, self.now)
        self.usage.rate[int(self.log.user[job])] += size * 1000.0

    def leave(self, job: int) -> None:
        size = int(self.log.size[job])
        if self.trials.pop(job, "") == LANE:
            self.lane_free += size
        else:
            self.free += size
        del self.running[job]
        self.rate(job, -size)

    def ended(self, job: int) -> None:
        user = int(self.log.user[job])
        self.leave(job)
        self.live[user] -= 1
        self.history.add(
            user=user,
            gpus=int(self.log.size[job]),
            limit=float(self.log.limit[job]),
            run_seconds=float(self.log.duration[job]),
        )

    def stop(self, job: int) -> None:
        self.wasted += (self.now - self.running[job]) * float(self.log.size[job])
        self.restarts += 1
        self.leave(job)
        self.waiting.add(job)
        trial = self.policy.lane.trial_seconds if self.policy.lane else 0.0
        self.predicted[job] = max(self.predicted[job], 2 * trial)

    def promote(self, job: int) -> None:
        if self.trials.pop(job) == LANE:
            size = int(self.log.size[job])
            self.lane_free += size
            self.free -= size

    def ranked(self) -> np.ndarray:
        rows = np.fromiter(self.waiting, dtype=np.int64)
        if self.trials:
            rows = np.concatenate([rows, np.fromiter(self.trials, dtype=np.int64)])
        if not self.policy.fair:
            return np.sort(rows)
        self.usage = brought_forward(self.usage, self.now)
        share = fair_tree(self.tree, whole_usage(self.usage)).factor
        policy = self.policy
        size = self.log.size[rows]
        wait = np.minimum(1.0, (self.now - self.log.submit[rows]) / (7 * 86400))
        points = (
            policy.fair_weight * share[self.log.user[rows]]
            + policy.age_weight * wait
            + policy.size_weight * size / self.capacity
        )
        area = self.predicted[rows] * size if policy.history else np.zeros(len(rows))
        return rows[np.lexsort((rows, area, -points))]

    def normal_pass(self) -> None:
        """Start from the head; then what backfills before the head's reservation."""
        idle = sum(int(self.log.size[j]) for j, w in self.trials.items() if w == IDLE)
        reach = self.free + idle
        if reach <= 0 or not (self.waiting or self.trials):
            return
        rows = self.ranked()
        for place, job in enumerate(rows.tolist()):
            size = int(self.log.size[job])
            large = size > self.capacity - self.lane_size
            if size > reach + (self.lane_size if large else 0):
                if self.policy.backfill:
                    self.fill(rows[place:], reach)
                return
            self.place(job)
            reach -= size

    def place(self, job: int) -> None:
        size = int(self.log.size[job])
        if job in self.trials:
            was = self.trials[job]
            self.promote(job)
            if was == IDLE:
                return
            self.make_room(0)
            return
        if size > self.capacity - self.lane_size:
            for trial in [j for j, w in self.trials.items() if w == LANE]:
                self.stop(trial)
            self.lane_free -= size - (self.capacity - self.lane_size)
            self.free += size - (self.capacity - self.lane_size)
        self.make_room(size)
        self.begin(job)

    def make_room(self, size: int) -> None:
        """Stop trials on idle GPUs, the latest first."""
        for trial in [j for j, w in reversed(self.trials.items()) if w == IDLE]:
            if self.free >= size:
                return
            self.stops[trial] += 1
            self.stop(trial)

    def fill(self, rows: np.ndarray, reach: int) -> None:
        real = [job for job in self.running if job not in self.trials]
        begun = np.array([self.running[job] for job in real], dtype=float)
        ends = begun + self.log.limit[real] if real else begun
        held = reservation(
            int(self.log.size[rows[0]]),
            free=reach,
            ends=ends,
            sizes=self.log.size[real] if real else np.zeros(0, dtype=np.int64),
            now=self.now,
        )
        planned = self.log.limit
        if self.policy.history:
            planned = self.gated(rows)
        chosen = backfilled(
            rows[1:],
            sizes=self.log.size,
            planned=planned,
            free=reach,
            held=held,
            now=self.now,
        )
        for job in chosen:
            if job in self.waiting or job in self.trials:
                self.place(job)

    def gated(self, rows: np.ndarray) -> np.ndarray:
        """Trust a prediction only for users at or under their share."""
        total = self.usage.own.sum()
        users = max(1, int((self.live > 0).sum()))
        under = self.usage.own * users <= total
        planned = self.log.limit.astype(float).copy()
        trusted = rows[under[self.log.user[rows]]]
        planned[trusted] = self.planned[trusted]
        return planned

    def lane_pass(self) -> None:
        """Trials in the lane, then on idle GPUs."""
        if not self.waiting or (self.lane_free <= 0 and self.free <= 0):
            return
        log, rule = self.log, self.policy.lane
        assert rule is not None
        for where in (LANE, IDLE):
            free = self.lane_free if where == LANE else self.free
            if free <= 0:
                continue
            load: dict[int, int] = defaultdict(int)
            for job in self.trials:
                load[int(log.user[job])] += int(log.size[job])
            trials = [
                Trial(
                    row=job,
                    user=int(log.user[job]),
                    gpus=int(log.size[job]),
                    submitted=float(log.submit[job]),
                )
                for job in self.waiting
                if not self.tried[job]
                and log.size[job] <= free
                and (where == LANE or self.stops[job] < rule.stops_max)
            ]
            for job in next_trials(trials, free=free, in_lane=load):
                self.begin(job, where)
