"""What happens now: who starts, who waits behind a reservation, who only tries.

Values in, decisions out, each entered in the books of the pool. Ranks nobody itself
(`ranking` does) and starts, stops or times nothing.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import numpy.typing as npt

from dorabatch.fairshare.turn.lane import LaneRule, Trial, next_trials
from dorabatch.fairshare.turn.pool import Pool, Where

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

DEPTH = 1000
"""Rows behind the blocked head that are looked at."""

YOUNG_GPU_SECONDS = 3600.0


class Move(StrEnum):
    """What a decision does to a row."""

    START = "start"
    TRY_LANE = "try-lane"
    TRY_IDLE = "try-idle"
    PROMOTE = "promote"
    EVICT = "evict"
    TRIAL_OVER = "trial-over"
    PAUSE = "pause"


Decision = tuple[Move, int]

_TRIES = {Where.LANE: Move.TRY_LANE, Where.IDLE: Move.TRY_IDLE}


@dataclass(frozen=True, slots=True, kw_only=True)
class PauseRule:
    """Runs may be paused after `run_seconds_min`; going on costs `cost_seconds`."""

    run_seconds_min: float = 1800.0
    cost_seconds: float = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """Everything there is, one row a workload; seconds and GPUs.

    planned[row]  run time that backfill counts with
    ends[row]     run time that a reservation counts with, once the row runs
    tried[row]    has had its trial in the lane; stops[row] how often it was evicted
    may_try[row]  may be stopped and begun anew
    """

    user: IntArray
    size: IntArray
    submitted: FloatArray
    planned: FloatArray
    ends: FloatArray
    tried: BoolArray
    stops: IntArray
    may_try: BoolArray


def normal_pass(
    order: IntArray, work: Work, pool: Pool, *, now: float, backfills: bool
) -> list[Decision]:
    """Start from the best; then what delays the first that is blocked by nothing.

    `order` holds what waits and what is on trial. A trial that is picked goes on in
    place; trials on idle GPUs are evicted for who is picked.
    """
    made: list[Decision] = []
    reach = pool.free + pool.idle_used
    if reach <= 0 or len(order) == 0:
        return made
    # Each takes a GPU at least.
    used = np.cumsum(work.size[order[: reach + 1]])
    fit = int(np.searchsorted(used, reach, side="right"))
    for row in order[:fit].tolist():
        _place(row, work, pool, now, made)
    if fit == len(order):
        return made
    reach -= int(used[fit - 1]) if fit else 0
    head = int(order[fit])
    if _is_large(head, work, pool) and _place_large(head, work, pool, now, made):
        rest = order[fit + 1 :]
        return made + normal_pass(rest, work, pool, now=now, backfills=backfills)
    if backfills and reach > 0:
        _backfill(order[fit:], work, pool, now, made)
    return made


def end_trials(over: Iterable[int], pool: Pool) -> list[Decision]:
    """Stop the trials whose time is over and that nothing has picked."""
    made: list[Decision] = []
    for row in over:
        if row in pool.trials:
            pool.leave(row)
            made.append((Move.TRIAL_OVER, row))
    return made


def trial_room(pool: Pool, rule: LaneRule) -> tuple[int, int, int]:
    """GPUs that a trial may take now: a long one in the lane, a short one, one beside.

    The first of the long ones may be larger than their part of the lane.
    """
    lane = max(0, pool.lane_room)
    long = min(lane, pool.long_free) if pool.long else lane
    return long, lane, pool.free if rule.on_idle else 0


def trial_pass(
    fresh: IntArray, work: Work, pool: Pool, rule: LaneRule, *, now: float
) -> list[Decision]:
    """Trials for rows that had none: long ones and short ones in the lane, then idle.

    Among users the one with the fewest GPUs on trial comes first. A long one that is
    larger than the part of the long ones has what the others leave of the lane, alone.
    """
    made: list[Decision] = []
    fits = work.size[fresh] <= max(trial_room(pool, rule))
    fresh = fresh[fits & work.may_try[fresh]]
    if len(fresh) == 0:
        return made

    def begin(
        able: BoolArray,
        free: int,
        where: Where,
        *,
        is_long: bool = False,
        most: int | None = None,
    ) -> None:
        if free <= 0:
            return
        rows = fresh[able & (work.size[fresh] <= free)]
        for row in _chosen_trials(rows, work, pool, free)[:most]:
            pool.start(row, int(work.size[row]), now=now, end=0.0, where=where)
            if is_long:
                pool.mark_long(row)
            made.append((_TRIES[where], row))

    is_new = ~work.tried[fresh]
    is_long = is_new & rule.is_long(work.planned[fresh])
    begin(is_long, min(pool.lane_room, pool.long_free), Where.LANE, is_long=True)
    begin(is_new & ~is_long, pool.lane_room, Where.LANE)
    if not pool.long:
        begin(is_long, pool.lane_room, Where.LANE, is_long=True, most=1)
    if rule.on_idle:
        waits = ~np.isin(fresh, [row for _, row in made])
        may_idle = waits & (work.stops[fresh] < rule.stops_max)
        begin(may_idle, pool.free, Where.IDLE)
    return made


def pausing_pass(
    order: IntArray,
    began: FloatArray,
    work: Work,
    pool: Pool,
    rule: PauseRule,
    *,
    now: float,
) -> list[Decision]:
    """Give the GPUs to the best of all, pausing others that ran for long enough.

    `order` holds what waits and what runs, began[place] when a run began or went on
    (nan: it waits). Behind the first that does not fit nothing new starts.
    """
    made: list[Decision] = []
    is_young = now - began < rule.run_seconds_min
    room = pool.capacity - int(work.size[order[is_young]].sum())
    open_rows, runs = order[~is_young], ~np.isnan(began[~is_young])
    used = np.cumsum(work.size[open_rows])
    fit = int(np.searchsorted(used, room, side="right"))
    wanted = open_rows[:fit][~runs[:fit]]
    need = int(work.size[wanted].sum())
    for row in open_rows[fit:][runs[fit:]][::-1].tolist():
        if pool.free >= need:
            break
        pool.leave(row)
        made.append((Move.PAUSE, row))
    for row in wanted.tolist():
        _start(row, work, pool, now, made)
    return made


def pausing_order(
    fair_share: FloatArray, attained: FloatArray, submitted: FloatArray
) -> IntArray:
    """Places, best first: below one GPU hour, then by fair share, then as submitted.

    The arrays are one a row; attained in GPU seconds.
    """
    old = attained >= YOUNG_GPU_SECONDS
    return np.lexsort((submitted, -fair_share, old)).astype(np.int64)


def under_share(usage: FloatArray, active: BoolArray) -> BoolArray:
    """Users whose part of all use is at most an equal part among the active."""
    users = max(1, int(active.sum()))
    return np.asarray(usage * users <= usage.sum())


def _chosen_trials(rows: IntArray, work: Work, pool: Pool, free: int) -> list[int]:
    if len(rows) == 0:
        return []
    load: dict[int, int] = {}
    for row in pool.trials:
        user = int(work.user[row])
        load[user] = load.get(user, 0) + pool.size[row]
    rows, behind = _smallest_of_each(rows, work, free)
    trials = [
        Trial(row=row, user=user, gpus=gpus, submitted=submitted)
        for row, user, gpus, submitted in zip(
            rows.tolist(),
            work.user[rows].tolist(),
            work.size[rows].tolist(),
            work.submitted[rows].tolist(),
            strict=True,
        )
    ]
    return next_trials(trials, free=free, in_lane=load, behind=behind)


def _smallest_of_each(
    rows: IntArray, work: Work, count: int
) -> tuple[IntArray, dict[int, int]]:
    """At most `count` rows of each user, the smallest, and how many more they have.

    Each takes a GPU at least, so no more of one user can be tried on as many GPUs.
    """
    order = np.lexsort((work.submitted[rows], work.size[rows], work.user[rows]))
    user = work.user[rows[order]]
    first = np.flatnonzero(np.concatenate([[True], user[1:] != user[:-1]]))
    total = np.concatenate([first[1:], [len(user)]]) - first
    place = np.arange(len(user)) - np.repeat(first, total)
    more = np.maximum(total - count, 0).tolist()
    kept = rows[order[place < count]]
    return kept, dict(zip(user[first].tolist(), more, strict=True))


def _is_large(row: int, work: Work, pool: Pool) -> bool:
    return bool(work.size[row] > pool.main_size)


def _place(row: int, work: Work, pool: Pool, now: float, made: list[Decision]) -> None:
    if row in pool.trials:
        pool.promote(row, end=pool.began[row] + float(work.ends[row]))
        made.append((Move.PROMOTE, row))
        _make_room(0, pool, made)
        return
    _make_room(int(work.size[row]), pool, made)
    _start(row, work, pool, now, made)


def _start(row: int, work: Work, pool: Pool, now: float, made: list[Decision]) -> None:
    pool.start(row, int(work.size[row]), now=now, end=now + float(work.ends[row]))
    made.append((Move.START, row))


def _make_room(size: int, pool: Pool, made: list[Decision]) -> None:
    if pool.free >= size:
        return
    for row in pool.on_trial(Where.IDLE):
        if pool.free >= size:
            return
        pool.leave(row)
        made.append((Move.EVICT, row))


def _place_large(
    row: int, work: Work, pool: Pool, now: float, made: list[Decision]
) -> bool:
    """Start one that needs the lane's GPUs too, when all of them are enough."""
    size = int(work.size[row])
    trials = pool.on_trial(Where.LANE)
    lane = pool.lane_free + sum(pool.size[trial] for trial in trials)
    if row in pool.trials or size > pool.free + pool.idle_used + lane:
        return False
    for trial in [*trials, *pool.on_trial(Where.IDLE)]:
        pool.leave(trial)
        made.append((Move.EVICT, trial))
    _start(row, work, pool, now, made)
    return True


def _backfill(
    order: IntArray, work: Work, pool: Pool, now: float, made: list[Decision]
) -> None:
    reach = pool.free + pool.idle_used
    head = int(order[0])
    need = int(work.size[head])
    if _is_large(head, work, pool):
        need = pool.main_size
    at, spare = pool.room_at(need, reach=reach, now=now)
    rows = order[1 : DEPTH + 1]
    sizes = work.size[rows]
    in_time = now + work.planned[rows] <= at
    able = (sizes <= reach) & (in_time | (sizes <= spare))
    for row, size, fits in zip(
        rows[able].tolist(), sizes[able].tolist(), in_time[able].tolist(), strict=True
    ):
        if size > reach or (not fits and size > spare):
            continue
        if row in pool.began and row not in pool.trials:
            continue
        if not fits:
            spare -= size
        reach -= size
        _place(row, work, pool, now, made)
        if reach <= 0:
            return
