"""A day with arrivals and departures against one policy, cycle by cycle.

Every cycle what has ended is given back and all that waits is offered in order of
arrival, with skipping. Tasks that could not run on empty nodes are left out, as they
are refused at submission. Durations are never shown to a policy.
"""

import time
from collections.abc import Callable
from heapq import heappop, heappush
from typing import NamedTuple

import numpy as np

from bench.placement_books import Books
from bench.placement_files import Tasks
from dorabatch.errors import invariant
from dorabatch.placer.arrays.classes import classes_of
from dorabatch.placer.arrays.types import BoolArray, ClusterArrays, IntArray, Placement
from dorabatch.placer.explain.impossible import can_ever_run

CYCLE_S = 30
WARM_S = 6 * 3600
"""Utilisation is counted from here on: the nodes start empty."""

LARGE = 8

Step = Callable[[IntArray, Books, list[int]], tuple[Placement, ...]]
"""(waiting rows, books, rows that ended since the last cycle) -> placements."""


class Churn(NamedTuple):
    """Waits in seconds; those who never started count until the last arrival."""

    policy: str
    utilisation: float
    wait_mean_s: float
    wait_p95_s: float
    large_wait_mean_s: float
    large_wait_p95_s: float
    large: int
    never: int
    waiting_at_end: dict[str, int]
    cycles: int
    seconds: float

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        return dict(self._asdict())


def replay_day(policy: str, tasks: Tasks, books: Books, step: Step) -> Churn:
    """Run the arrivals' span in cycles of CYCLE_S seconds."""
    submit, duration = tasks.submit_s, tasks.duration_s
    invariant(submit is not None and duration is not None, "tasks have no times")
    assert submit is not None and duration is not None
    end = int(submit.max(initial=0))
    possible = possible_rows(tasks, books.cluster)
    order = np.argsort(submit, kind="stable")
    order = order[possible[order]]
    start = np.full(len(tasks), -1, dtype=np.int64)
    running: list[tuple[int, int]] = []
    waiting: IntArray = np.zeros(0, dtype=np.int64)
    arrived, cycles, spent, used = 0, 0, 0.0, [0, 0]
    for now in range(0, end + CYCLE_S, CYCLE_S):
        ended = []
        while running and running[0][0] <= now:
            ended.append(heappop(running)[1])
            books.give_back(ended[-1])
        until = int(np.searchsorted(submit[order], now, side="right"))
        waiting = np.concatenate([waiting, order[arrived:until]])
        arrived = until
        began = time.perf_counter()
        placements = step(waiting, books, ended)
        spent += time.perf_counter() - began
        books.apply(placements)
        for placement in placements:
            start[placement.key] = now
            heappush(running, (now + int(duration[placement.key]), placement.key))
        waiting = waiting[start[waiting] < 0]
        cycles += 1
        if now >= min(WARM_S, end // 4):
            used[0] += books.used_milli
            used[1] += books.capacity_milli
    waits = np.where(start >= 0, start, end) - submit
    found = waits[possible], tasks.gpu_count[possible], start[possible] < 0
    return _summary(policy, len(tasks), found, (used, cycles, spent))


def possible_rows(tasks: Tasks, cluster: ClusterArrays) -> BoolArray:
    """possible[task]: it would run on one of these nodes if that were empty."""
    requests = tasks.requests(np.arange(len(tasks)))
    of = classes_of(requests).of
    _, first = np.unique(of, return_index=True)
    verdicts = can_ever_run(requests.take(first), cluster)
    return np.array([verdict is None for verdict in verdicts], dtype=bool)[of]


def _summary(
    policy: str,
    tasks: int,
    found: tuple[IntArray, IntArray, BoolArray],
    run: tuple[list[int], int, float],
) -> Churn:
    (waits, count, unstarted), (used, cycles, spent) = found, run
    large = count >= LARGE
    amounts, counts = np.unique(count[unstarted], return_counts=True)
    left = {str(a): n for a, n in zip(amounts.tolist(), counts.tolist(), strict=True)}
    return Churn(
        policy=policy,
        utilisation=round(100.0 * used[0] / max(used[1], 1), 3),
        wait_mean_s=_mean(waits),
        wait_p95_s=_p95(waits),
        large_wait_mean_s=_mean(waits[large]),
        large_wait_p95_s=_p95(waits[large]),
        large=int(large.sum()),
        never=tasks - len(waits),
        waiting_at_end=left,
        cycles=cycles,
        seconds=round(spent, 3),
    )


def _mean(waits: IntArray) -> float:
    return round(float(waits.mean()), 1) if len(waits) else 0.0


def _p95(waits: IntArray) -> float:
    return round(float(np.percentile(waits, 95)), 1) if len(waits) else 0.0
