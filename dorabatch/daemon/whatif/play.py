"""A site's past work played again on a fake clock, through the daemon's own cycle.

Keeps the time: what is submitted and ends when, and when a cycle is due. What a cycle
does, `cycle.planner` decides; reads no clock, database or node.
"""

import heapq
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import NamedTuple

import numpy as np

from dorabatch.daemon.whatif.assembly import stage_of
from dorabatch.daemon.whatif.make_books import workload_of
from dorabatch.daemon.whatif.simulated_cycle import Moves
from dorabatch.daemon.whatif.site_history import PastJob, Played, WhatifQuestion
from dorabatch.queue.records import Container, ContainerId, WorkloadId
from dorabatch.queue.states import Outcome, State
from dorabatch.units import moment_of

SHAKE_SECONDS = 600.0
TICK_SECONDS = 3600.0
GIVE_UP_SECONDS = 60 * 86_400.0
"""So long after the last submission what still waits is given up."""
_SECOND = 1_000_000
_END, _OVER, _WEEK, _SUBMIT, _AGAIN, _LOOK = range(6)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """Seconds from one cycle to the next.

    least  at least, however much happens
    again  to the one after a cycle that stopped something
    look   at most, while something waits beside what runs
    whole  also cycles in which nothing can start, which move reservations only
    """

    least: float = 15.0
    again: float = 15.0
    look: float = 300.0
    whole: bool = False


class _Event(NamedTuple):
    """Something that is due at a moment; the mark tells whether it still is."""

    at: int
    kind: int
    row: int
    mark: int


class Play:
    """One play of a question's jobs; `on_progress` gets the part done, about a hundred
    times."""

    def __init__(
        self,
        question: WhatifQuestion,
        texts: Mapping[str, str],
        *,
        seed: int = 0,
        pace: Pace | None = None,
        on_progress: Callable[[float], None] | None = None,
    ) -> None:
        self._question = question
        self._pace = pace or Pace()
        self._on_progress = on_progress
        self._jobs = question.jobs
        self._stage = stage_of(question, texts)
        self._submitted = shaken(question.jobs, seed)
        count = len(question.jobs)
        self._start = np.full(count, math.nan)
        self._cost = np.zeros(count)
        self._attempt = [0] * count
        self._done = self._cycles = self._looks = 0
        self._events: list[_Event] = []
        self._is_changed, self._new = False, set[int]()
        self._members: dict[int, list[int]] = {}
        for row, job in enumerate(question.jobs):
            self._members.setdefault(job.workload, []).append(row)

    def run(self) -> Played:
        """Play to the end."""
        for rows in self._members.values():
            self._push(self._comes_us(rows[0]), _SUBMIT, rows[0])
        if self._stage.purse.is_limited:
            self._push(self._events[0].at, _WEEK)
        least = round(self._pace.least * _SECOND)
        close = self._question.close_us + round(GIVE_UP_SECONDS * _SECOND)
        last = self._events[0].at - least
        while self._done < len(self._jobs) and self._events[0].at <= close:
            at = max(self._events[0].at, last + least)
            if self._happened_until(at) and self._looked(at):
                last = at
        return self._played()

    def _happened_until(self, at: int) -> bool:
        """Let everything happen that is due; whether anything did."""
        before = self._is_changed, len(self._new)
        while self._events and self._events[0].at <= at:
            event = heapq.heappop(self._events)
            now = moment_of(event.at)
            if event.kind == _SUBMIT:
                self._submit(event.row, now)
            elif event.mark == self._mark_of(event):
                self._is_changed = True
                if event.kind == _END:
                    self._end(event.row, now)
                elif event.kind == _WEEK:
                    self._pass_time(now)
        return before != (self._is_changed, len(self._new))

    def _mark_of(self, event: _Event) -> int:
        """The mark of an event that still means something."""
        if event.kind in (_END, _OVER):
            return self._attempt[event.row]
        return self._looks if event.kind == _LOOK else 0

    def _looked(self, at: int) -> bool:
        """Run a cycle if it could do anything; whether one ran."""
        stage, new = self._stage, None if self._is_changed else self._new
        self._is_changed, self._new = False, set()
        is_due = stage.has_work
        if is_due:
            now = moment_of(at)
            snapshot = stage.glance(now)
            is_due = self._pace.whole or stage.may_change(snapshot, new)
        if is_due:
            self._cycles += 1
            moves = stage.cycle(snapshot, now)
            self._take(moves, at)
            if moves.stopped or moves.going_on:
                self._push(at + round(self._pace.again * _SECOND), _AGAIN)
        self._looks += 1
        if stage.has_work and stage.runs.is_busy:
            self._push(at + round(self._pace.look * _SECOND), _LOOK, mark=self._looks)
        return is_due

    def _take(self, moves: Moves, at: int) -> None:
        for one in moves.stopped:
            self._attempt[_row(one)] = 0
        for one in moves.started:
            row = _row(one)
            self._attempt[row] = one.attempt
            self._start[row] = at
            self._push(at + self._jobs[row].run_us, _END, row, one.attempt)
            if one.trial_seconds is not None:
                over = at + one.trial_seconds * _SECOND
                self._push(over, _OVER, row, one.attempt)

    def _end(self, row: int, now: datetime) -> None:
        outcome = Outcome(self._jobs[row].outcome)
        key = ContainerId(row + 1)
        self._cost[row] = self._stage.finish(key, outcome, now)
        self._attempt[row] = 0
        self._done += 1
        every = max(1, len(self._jobs) // 100)
        if self._on_progress is not None and self._done % every == 0:
            self._on_progress(self._done / len(self._jobs))

    def _submit(self, first: int, now: datetime) -> None:
        job = self._jobs[first]
        rows = self._members[job.workload]
        workload = replace(
            workload_of(self._question, job),
            replicas=len(rows),
            submitted_at=moment_of(self._submitted[first]),
        )
        self._new.update(row + 1 for row in rows)
        self._stage.runs.submit(workload, [self._container(row, now) for row in rows])

    def _container(self, row: int, now: datetime) -> Container:
        job = self._jobs[row]
        return Container(
            container_id=ContainerId(row + 1),
            workload_id=WorkloadId(job.workload + 1),
            replica=job.replica,
            state=State.QUEUED,
            rev=1,
            version=1,
            attempt=0,
            queued_at=now,
        )

    def _pass_time(self, now: datetime) -> None:
        """Once an hour, and at the beginning of a week of credits."""
        purse = self._stage.purse
        purse.tick(self._stage.runs.running(), now)
        reset = purse.pass_week(now)
        hour = now.timestamp() + TICK_SECONDS
        due = round(min(reset.timestamp(), hour) * _SECOND)
        self._push(due, _WEEK)

    def _comes_us(self, row: int) -> int:
        """When a job joins: what ran already when the history begins comes then."""
        job = self._jobs[row]
        return self._submitted[row] if job.is_counted else job.started_us

    def _push(self, at: int, kind: int, row: int = 0, mark: int = 0) -> None:
        heapq.heappush(self._events, _Event(at, kind, row, mark))

    def _played(self) -> Played:
        begin = self._question.start_us
        short = self._stage.purse.short_us
        return Played(
            start_s=(self._start - begin) / _SECOND,
            wait_s=(self._start - np.array(self._submitted)) / _SECOND,
            cost=self._cost,
            short_s={user: (at - begin) / _SECOND for user, at in short.items()},
            cycles=self._cycles,
        )


def shaken(jobs: Sequence[PastJob], seed: int) -> list[int]:
    """Submissions moved by up to ten minutes, whole workloads alike; seed 0: as they
    were."""
    if not seed:
        return [job.submitted_us for job in jobs]
    rng = np.random.default_rng(seed)
    count = max((job.workload for job in jobs), default=-1) + 1
    shift = rng.uniform(-SHAKE_SECONDS, SHAKE_SECONDS, count).round().astype(np.int64)
    return [
        job.submitted_us + int(shift[job.workload]) * _SECOND * job.is_counted
        for job in jobs
    ]


def _row(one: Container) -> int:
    return int(one.container_id) - 1
