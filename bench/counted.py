"""A history of workloads played again under a policy, on counted GPUs.

Keeps the time, the books and the events; who comes first and what starts is decided by
`fairshare`, as for the daemon. Reads no clock, file or table and knows no nodes.
"""

import heapq
import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from bench.counted_line import Line
from dorabatch.fairshare.turn.account_tree import Account, AccountTree, build_tree
from dorabatch.fairshare.turn.lane import LaneRule
from dorabatch.fairshare.turn.pool import Pool
from dorabatch.fairshare.turn.pool_decide import (
    Decision,
    Move,
    PauseRule,
    Work,
    end_trials,
    normal_pass,
    pausing_order,
    pausing_pass,
    trial_pass,
    trial_room,
    under_share,
)
from dorabatch.fairshare.turn.ranking import (
    MILLION,
    ClaimTerms,
    Formula,
    Rows,
    fair_tree,
    rank,
    worth,
)
from dorabatch.fairshare.turn.run_length import History
from dorabatch.fairshare.turn.usage import (
    CATCH_UP_SECONDS,
    HALF_LIFE_SECONDS,
    brought_forward,
    caught_up,
    decayed_usage,
    no_usage,
    whole_usage,
)

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

REFRESH_SECONDS = 300.0
TICK_SECONDS = 60.0
WEEK = 7 * 86_400.0
RATE = 1000.0
"""Use a GPU second counts, so that whole numbers of it compare finely."""

END, TRIAL_OVER, SUBMIT, TICK = 0, 1, 2, 3
NO_ROOM = (0, 0, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Jobs:
    """What was submitted, one row a workload by submission; seconds and GPUs.

    limit[row] is math.inf without one; may_try[row]: it may be stopped and begun anew.
    """

    submit: FloatArray
    duration: FloatArray
    limit: FloatArray
    size: IntArray
    user: IntArray
    may_try: BoolArray


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What a replay varies. `large_points` is what asking for all GPUs counts."""

    is_fair: bool = True
    backfills: bool = True
    predicts: bool = True
    formula: Formula = field(default_factory=Formula)
    large_points: int = 0
    half_life_seconds: float = HALF_LIFE_SECONDS
    catch_up_seconds: float | None = CATCH_UP_SECONDS
    lane: LaneRule | None = None
    pause: PauseRule | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """done[row] in seconds; what trials and pauses cost."""

    done: FloatArray
    restarts: int
    pauses: int
    wasted_gpu_seconds: float


class Simulation:
    """One replay; `on_progress` gets the part done, about a hundred times."""

    def __init__(
        self,
        jobs: Jobs,
        capacity: int,
        rules: Rules,
        *,
        tree: AccountTree | None = None,
        on_progress: Callable[[float], None] | None = None,
    ) -> None:
        count = len(jobs.submit)
        self.jobs, self.rules, self.capacity = jobs, rules, capacity
        self.users = int(jobs.user.max(initial=-1)) + 1
        self.tree = tree or equal_tree(self.users)
        self.on_progress = on_progress
        self.now = 0.0
        lane = rules.lane
        self.pool = Pool(
            capacity=capacity,
            lane_size=lane.size(capacity) if lane else 0,
            long_size=lane.long_size(capacity) if lane else 0,
        )
        self.usage = no_usage(self.tree, at_seconds=0.0)
        self.live = np.zeros(len(self.tree), dtype=np.int64)
        self.history = History()
        bounded = np.minimum(jobs.limit, WEEK)
        self.work = Work(
            user=jobs.user,
            size=jobs.size,
            submitted=jobs.submit,
            planned=bounded.copy(),
            ends=bounded.copy(),
            tried=np.zeros(count, dtype=np.bool_),
            stops=np.zeros(count, dtype=np.int64),
            may_try=jobs.may_try,
        )
        self.bounded = bounded
        self.predicted = bounded.copy()
        self.trusted = bounded.copy()
        self.left = jobs.duration.copy()
        self.overhead = np.zeros(count)
        self.attained = np.zeros(count)
        self.stint_began = np.full(count, np.nan)
        self.attempt = np.zeros(count, dtype=np.int64)
        self.done = np.full(count, np.nan)
        self.line = Line(count)
        self.changes: list[tuple[float, float, float]] = []
        self.waiting: set[int] = set()
        self.fresh: dict[int, None] = {}
        self.searched = NO_ROOM
        self.factor = np.zeros(len(self.tree))
        # Nobody has credit: all are on pace.
        self.credit = np.full(self.users, 0.5)
        self.under = np.ones(self.users, dtype=np.bool_)
        self.refreshed = -math.inf
        self.ticks_until = -math.inf
        self.restarts, self.pauses, self.wasted = 0, 0, 0.0

    def run(self) -> Outcome:
        """Play to the end."""
        submit = self.jobs.submit.tolist()
        self.events = [(when, SUBMIT, row, 0) for row, when in enumerate(submit)]
        heapq.heapify(self.events)
        report_every = max(1, len(submit) // 100)
        finished = 0
        while self.events:
            finished += self._step()
            if self.on_progress and finished >= report_every:
                finished = 0
                self.on_progress(float(np.isfinite(self.done).mean()))
        return Outcome(
            done=self.done,
            restarts=self.restarts,
            pauses=self.pauses,
            wasted_gpu_seconds=self.wasted,
        )

    def _step(self) -> int:
        """All events of one moment, then one pass; how many ended."""
        self.now = self.events[0][0]
        over: list[int] = []
        ended = 0
        while self.events and self.events[0][0] == self.now:
            _, kind, row, attempt = heapq.heappop(self.events)
            if kind == SUBMIT:
                self._submitted(row)
            elif kind != TICK and self.attempt[row] == attempt:
                if kind == END:
                    self._ended(row)
                    ended += 1
                elif row in self.pool.trials:
                    over.append(row)
        if self.rules.pause is not None:
            self._pausing(self.rules.pause)
            return ended
        if self.waiting or self.pool.trials:
            if self.pool.free + self.pool.idle_used > 0:
                self._do(self._normal())
            self._do(end_trials(over, self.pool))
            if self.rules.lane is not None and self.fresh:
                self._try(self.rules.lane)
        return ended

    def _try(self, rule: LaneRule) -> None:
        """Begin trials, unless nothing was found for as much room since it changed."""
        room = trial_room(self.pool, rule)
        if all(gpus <= left for gpus, left in zip(room, self.searched, strict=True)):
            return
        fresh = np.fromiter(self.fresh, dtype=np.int64)
        self._do(trial_pass(fresh, self.work, self.pool, rule, now=self.now))
        self.searched = trial_room(self.pool, rule)

    def _normal(self) -> list[Decision]:
        return normal_pass(
            self._ranked(),
            self.work,
            self.pool,
            now=self.now,
            backfills=self.rules.backfills,
        )

    def _pausing(self, rule: PauseRule) -> None:
        if not self.waiting:
            return
        if self._is_stale():
            self._refresh()
        rows = self.line.rows()
        began = self.stint_began[rows]
        size = self.jobs.size[rows]
        ran = np.where(np.isnan(began), 0.0, self.now - began) * size
        place = pausing_order(
            self.factor[self.jobs.user[rows]],
            self.attained[rows] + ran,
            self.jobs.submit[rows],
        )
        self._do(
            pausing_pass(
                rows[place], began[place], self.work, self.pool, rule, now=self.now
            )
        )
        if self.waiting and self.now >= self.ticks_until:
            self.ticks_until = self.now + TICK_SECONDS
            heapq.heappush(self.events, (self.ticks_until, TICK, -1, 0))

    def _do(self, decisions: list[Decision]) -> None:
        for move, row in decisions:
            if move in (Move.START, Move.TRY_LANE, Move.TRY_IDLE):
                self._begun(row, move)
            elif move is Move.PROMOTE:
                self.line.is_open[row] = False
            else:
                self._stopped(row, move)

    def _begun(self, row: int, move: Move) -> None:
        self.waiting.discard(row)
        self.fresh.pop(row, None)
        self.attempt[row] += 1
        self._rate(row, int(self.jobs.size[row]))
        stint = float(self.left[row] + self.overhead[row])
        attempt = int(self.attempt[row])
        heapq.heappush(self.events, (self.now + stint, END, row, attempt))
        self.stint_began[row] = self.now
        lane = self.rules.lane
        if move is Move.START or lane is None:
            self.line.is_open[row] = self.rules.pause is not None
            return
        length = lane.trial_seconds
        if row in self.pool.long:
            length = lane.trial_length(float(self.work.planned[row]))
        heapq.heappush(self.events, (self.now + length, TRIAL_OVER, row, attempt))

    def _stopped(self, row: int, move: Move) -> None:
        ran = self.now - float(self.stint_began[row])
        size = int(self.jobs.size[row])
        self._rate(row, -size)
        self.attempt[row] += 1
        if move is Move.PAUSE:
            assert self.rules.pause is not None
            self.pauses += 1
            self.left[row] -= max(0.0, ran - float(self.overhead[row]))
            self.wasted += size * min(ran, float(self.overhead[row]))
            self.overhead[row] = self.rules.pause.cost_seconds
            self.attained[row] += ran * size
        else:
            self.restarts += 1
            self.wasted += ran * size
            self._uncharge(row, ran * size)
            self.predicted[row] = max(self.predicted[row], 2 * ran)
            self.trusted[row] = max(self.trusted[row], 2 * ran)
            if move is Move.EVICT:
                self.work.stops[row] += 1
            else:
                self.work.tried[row] = True
        self.stint_began[row] = np.nan
        self._waits(row)

    def _ended(self, row: int) -> None:
        self.pool.leave(row)
        size, user = int(self.jobs.size[row]), int(self.jobs.user[row])
        self._rate(row, -size)
        self.stint_began[row] = np.nan
        self.attempt[row] += 1
        self.line.is_open[row] = False
        self.live[user] -= 1
        self.done[row] = self.now
        self.wasted += size * float(self.overhead[row])
        self.history.add(
            user=user,
            gpus=size,
            limit=float(self.jobs.limit[row]),
            run_seconds=float(self.jobs.duration[row]),
        )

    def _submitted(self, row: int) -> None:
        user = int(self.jobs.user[row])
        if self.live[user] == 0 and self.rules.catch_up_seconds is not None:
            self._catch_up(user, self.rules.catch_up_seconds)
        self.live[user] += 1
        if self.rules.predicts:
            gpus, limit = int(self.jobs.size[row]), float(self.jobs.limit[row])
            bound = float(self.bounded[row])
            found = self.history.predicted(user=user, gpus=gpus, limit=limit)
            self.predicted[row] = min(bound, found)
            planned = self.history.planned(user=user, gpus=gpus, limit=limit)
            self.trusted[row] = self.work.planned[row] = min(bound, planned)
        self._waits(row)

    def _waits(self, row: int) -> None:
        self.waiting.add(row)
        self.line.join(row)
        if self.rules.lane is not None and not self.work.tried[row]:
            self.fresh[row] = None
            self.searched = NO_ROOM

    def _catch_up(self, user: int, seconds: float) -> None:
        self._forward()
        self.usage.own[:] = caught_up(
            self.tree,
            self.usage.own,
            joining=np.array([user]),
            active=self.live > 0,
            capacity_rate=self.capacity * RATE,
            catch_up_seconds=seconds,
        )

    def _forward(self) -> None:
        """Usage as of now, with the starts and ends since the last time."""
        half_life = self.rules.half_life_seconds
        self.usage = brought_forward(self.usage, self.now, half_life_seconds=half_life)
        if not self.changes:
            return
        since, users, sizes = np.array(self.changes).T
        self.changes.clear()
        rows, rates = users.astype(np.int64), sizes * RATE
        grown = decayed_usage(
            0.0, rates, elapsed_seconds=self.now - since, half_life_seconds=half_life
        )
        np.add.at(self.usage.own, rows, grown)
        np.maximum(self.usage.own, 0.0, out=self.usage.own)
        np.add.at(self.usage.rate, rows, rates)

    def _rate(self, row: int, size: int) -> None:
        self.changes.append((self.now, float(self.jobs.user[row]), float(size)))

    def _uncharge(self, row: int, gpu_seconds: float) -> None:
        """A stopped trial is not charged."""
        user = int(self.jobs.user[row])
        self.usage.own[user] -= gpu_seconds * RATE

    def _refresh(self) -> None:
        """Use, shares and credits as of now."""
        self.refreshed = self.now
        self._forward()
        whole = whole_usage(self.usage)
        self.factor = fair_tree(self.tree, whole).factor
        own, active = self.usage.own[: self.users], self.live[: self.users] > 0
        self.under = under_share(own, active)

    def _is_stale(self) -> bool:
        return self.now - self.refreshed >= REFRESH_SECONDS

    def _ranked(self) -> IntArray:
        """What waits or is on trial, best first.

        All are ranked anew at most every five minutes; who comes between is ranked as
        of the last time.
        """
        line = self.line
        if self.rules.is_fair and self._is_stale():
            self._refresh()
            rows = line.rows()
            ranking = rank(*self._claims(rows), self.rules.formula, now_us=self._us())
            line.behind[rows] = -ranking.priority
            line.set_order(rows[ranking.order])
            return rows[ranking.order]
        rows = line.newcomers()
        if self.rules.is_fair and len(rows):
            claims = self._claims(rows)
            line.behind[rows] = -worth(*claims, self.rules.formula, now_us=self._us())
        return line.order()

    def _us(self) -> int:
        """The moment that ages count to."""
        return int(self.refreshed * MILLION)

    def _claims(self, rows: IntArray) -> tuple[Rows, ClaimTerms]:
        """What ranks them, each row a claim of its own."""
        user, size = self.jobs.user[rows], self.jobs.size[rows]
        if self.rules.predicts:
            self.line.area[rows] = np.rint(self.predicted[rows] * size)
            # A prediction is trusted only of users at or under their share.
            self.work.planned[rows] = np.where(
                self.under[user], self.trusted[rows], self.bounded[rows]
            )
            self.searched = NO_ROOM
        zero = np.zeros(len(rows), dtype=np.int64)
        terms = ClaimTerms(
            fair_share=self.factor[user],
            credit=self.credit[user],
            run_seconds=self.predicted[rows],
            area=self.line.area[rows],
            points=zero,
            nice=-(self.rules.large_points * size // self.capacity),
            tier=zero,
        )
        waiting = Rows(
            claim=np.arange(len(rows)),
            lost=zero,
            submitted_us=(self.jobs.submit[rows] * MILLION).astype(np.int64),
            group=rows,
            replica=zero,
        )
        return waiting, terms


def equal_tree(users: int) -> AccountTree:
    """Users without accounts, one share each, by their numbers."""
    return build_tree([Account(name=str(user), is_user=True) for user in range(users)])
