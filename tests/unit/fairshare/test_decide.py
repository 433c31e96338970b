"""One pass: reservations hold, trials give way, pauses respect the shortest run."""

import numpy as np
import pytest

from dorabatch.fairshare.turn.lane import LaneRule, Trial, next_trials
from dorabatch.fairshare.turn.pool import Pool, Where
from dorabatch.fairshare.turn.pool_decide import (
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

RULE = LaneRule(part_ppm=100_000, express_seconds_max=0.0, on_idle=True)


def make_work(sizes, planned, *, users=None, may_try=True):
    count = len(sizes)
    return Work(
        user=np.array(users or [0] * count),
        size=np.array(sizes),
        submitted=np.arange(count, dtype=float),
        planned=np.array(planned, dtype=float),
        ends=np.array(planned, dtype=float),
        tried=np.zeros(count, dtype=bool),
        stops=np.zeros(count, dtype=np.int64),
        may_try=np.full(count, may_try),
    )


def run_pass(order, work, pool, *, now=0.0, backfills=True):
    return normal_pass(np.array(order), work, pool, now=now, backfills=backfills)


def test_a_short_one_passes_the_blocked_head_and_a_long_one_does_not():
    work = make_work([6, 8, 2, 2], [100, 50, 101, 100])
    pool = Pool(capacity=8)
    assert run_pass([0], work, pool) == [(Move.START, 0)]
    assert run_pass([1, 2, 3], work, pool) == [(Move.START, 3)]
    assert pool.free == 0


def test_without_backfill_nothing_passes():
    work = make_work([6, 8, 2], [100, 50, 1])
    pool = Pool(capacity=8)
    run_pass([0], work, pool)
    assert run_pass([1, 2], work, pool, backfills=False) == []


def test_what_the_head_leaves_over_may_be_used_for_as_long_as_wanted():
    work = make_work([6, 5, 2, 2], [100, 50, 10**6, 10**6])
    pool = Pool(capacity=8)
    run_pass([0], work, pool)
    # At 100 s 8 are free, the head wants 5: one of the long ones fits into 3.
    assert run_pass([1, 2, 3], work, pool) == [(Move.START, 2)]


def test_an_overdue_run_is_expected_to_last_as_long_again():
    work = make_work([8, 8, 1], [100, 50, 120])
    pool = Pool(capacity=9)
    run_pass([0], work, pool, now=0.0)
    assert pool.room_at(9, reach=1, now=50.0) == (100.0, 0)
    assert pool.room_at(9, reach=1, now=130.0) == (260.0, 0)
    assert pool.room_at(10, reach=1, now=130.0) == (float("inf"), 0)


def test_a_trial_is_promoted_in_place_or_stopped_when_its_time_is_over():
    work = make_work([1, 10, 1], [600, 600, 600], users=[0, 1, 2])
    pool = Pool(capacity=10, lane_size=1)
    assert trial_pass(np.array([0, 1]), work, pool, RULE, now=0.0) == [
        (Move.TRY_LANE, 0)
    ]
    assert (pool.lane_free, pool.free) == (0, 9)
    assert run_pass([0], work, pool, now=300.0) == [(Move.PROMOTE, 0)]
    assert (pool.lane_free, pool.free, pool.trials) == (1, 8, {})
    assert end_trials([0], pool) == []
    assert trial_pass(np.array([2]), work, pool, RULE, now=300.0) == [
        (Move.TRY_LANE, 2)
    ]
    assert end_trials([2], pool) == [(Move.TRIAL_OVER, 2)]
    assert pool.lane_free == 1


def test_idle_gpus_hold_no_trials_unless_the_rule_says_so():
    work = make_work([4, 4], [10**6] * 2, users=[0, 1])
    rule = LaneRule(part_ppm=100_000, express_seconds_max=0.0)
    pool = Pool(capacity=10, lane_size=1)
    assert trial_pass(np.array([0, 1]), work, pool, rule, now=0.0) == []


def test_trials_on_idle_gpus_give_way_the_latest_first():
    work = make_work([4, 4, 9], [10**6] * 3, users=[0, 1, 2])
    pool = Pool(capacity=10, lane_size=1)
    made = trial_pass(np.array([0, 1]), work, pool, RULE, now=0.0)
    assert made == [(Move.TRY_IDLE, 0), (Move.TRY_IDLE, 1)]
    assert pool.idle_used == 8
    made = run_pass([2], work, pool, now=10.0)
    assert made == [(Move.EVICT, 1), (Move.EVICT, 0), (Move.START, 2)]
    assert (pool.idle_used, pool.free) == (0, 0)


def test_one_larger_than_the_main_part_takes_the_lane_too():
    work = make_work([1, 10, 1], [600, 600, 600])
    pool = Pool(capacity=10, lane_size=1)
    trial_pass(np.array([0]), work, pool, RULE, now=0.0)
    assert run_pass([1], work, pool, now=1.0) == [(Move.EVICT, 0), (Move.START, 1)]
    assert trial_pass(np.array([2]), work, pool, RULE, now=2.0) == []
    pool.leave(1)
    assert trial_pass(np.array([2]), work, pool, RULE, now=3.0) == [(Move.TRY_LANE, 2)]


@pytest.mark.parametrize("may_try", [True, False])
def test_only_who_may_be_begun_anew_is_tried(may_try):
    work = make_work([1], [600], may_try=may_try)
    made = trial_pass(
        np.array([0]), work, Pool(capacity=10, lane_size=1), RULE, now=0.0
    )
    assert bool(made) is may_try


def test_long_trials_have_a_part_of_the_lane():
    rule = LaneRule(part_ppm=200_000)
    assert (rule.size(20), rule.long_size(20)) == (4, 2)
    assert LaneRule(part_ppm=0).size(20) == 0
    assert rule.trial_length(100.0) == 300.0
    assert rule.trial_length(1000.0) == 1500.0
    assert rule.trial_length(3000.0) == 3600.0
    assert rule.trial_length(4000.0) == 300.0
    work = make_work([2, 2, 2], [1000, 1000, 10], users=[0, 1, 2])
    pool = Pool(capacity=20, lane_size=4, long_size=2)
    pool.start(99, 16, now=0.0, end=9e9)
    made = trial_pass(np.array([0, 1, 2]), work, pool, rule, now=0.0)
    assert made == [(Move.TRY_LANE, 0), (Move.TRY_LANE, 2)]
    assert pool.long == {0}
    pool.leave(0)
    assert pool.long_free == 2


def test_a_long_trial_may_be_larger_than_the_part_of_them_alone():
    rule = LaneRule(part_ppm=200_000)
    work = make_work([3, 2, 1, 3], [1000, 1000, 60, 1000], users=[0, 1, 2, 3])
    pool = Pool(capacity=20, lane_size=4, long_size=2)
    pool.start(9, 16, now=0.0, end=9e9)
    # What fits their part goes first, then short ones.
    made = trial_pass(np.array([0, 1, 2, 3]), work, pool, rule, now=0.0)
    assert made == [(Move.TRY_LANE, 1), (Move.TRY_LANE, 2)]
    assert trial_pass(np.array([0, 3]), work, pool, rule, now=1.0) == []
    pool.leave(1)
    assert trial_room(pool, rule) == (3, 3, 0)
    made = trial_pass(np.array([0, 3]), work, pool, rule, now=2.0)
    assert made == [(Move.TRY_LANE, 0)]
    assert (pool.lane_free, pool.long_free, pool.long) == (0, -1, {0})
    assert trial_room(pool, rule) == (-1, 0, 0)
    pool.leave(0)
    assert (pool.lane_free, pool.long_free) == (3, 2)


def test_runs_are_paused_for_better_ones_once_they_are_old_enough():
    work = make_work([4, 4, 4], [9, 9, 9])
    pool = Pool(capacity=8)
    for row in (0, 1):
        pool.start(row, 4, now=0.0, end=9e9)
    rule = PauseRule(run_seconds_min=100.0)
    order = np.array([2, 0, 1])
    early = np.array([np.nan, 0.0, 0.0])
    assert pausing_pass(order, early, work, pool, rule, now=99.0) == []
    made = pausing_pass(order, early, work, pool, rule, now=100.0)
    assert made == [(Move.PAUSE, 1), (Move.START, 2)]
    assert pool.began == {0: 0.0, 2: 100.0}


def test_young_rows_stand_before_fair_share():
    place = pausing_order(
        np.array([1.0, 0.5, 0.9]), np.array([3600.0, 0.0, 4000.0]), np.arange(3.0)
    )
    assert place.tolist() == [1, 0, 2]


def test_a_user_at_an_equal_part_is_under_share():
    found = under_share(np.array([2.0, 1.0, 0.0]), np.array([True, True, True]))
    assert found.tolist() == [False, True, True]


def test_books_balance_over_many_random_moves():
    rng = np.random.default_rng(7)
    work = make_work(rng.integers(1, 5, 60).tolist(), rng.uniform(1, 900, 60).tolist())
    pool = Pool(capacity=20, lane_size=4, long_size=2)
    for now in range(200):
        idle = [row for row in range(60) if row not in pool.began]
        order = rng.permutation([*idle[:30], *pool.trials])
        run_pass(order, work, pool, now=float(now))
        waits = [row for row in range(60) if row not in pool.began]
        trial_pass(np.array(waits), work, pool, RULE, now=float(now))
        end_trials([r for r in pool.trials if rng.random() < 0.3], pool)
        for row in [r for r in pool.began if rng.random() < 0.2]:
            pool.leave(row)
        held = dict.fromkeys(Where, 0)
        for row in pool.began:
            held[pool.trials.get(row, Where.MAIN)] += pool.size[row]
        assert pool.free == 16 - held[Where.MAIN] - held[Where.IDLE]
        assert pool.lane_free == 4 - held[Where.LANE]
        assert pool.idle_used == held[Where.IDLE]
        assert sum(held.values()) <= 20
        assert min(pool.free, pool.lane_free, pool.long_free) >= 0


@pytest.mark.parametrize("seed", range(30))
def test_trials_are_chosen_as_if_all_that_wait_were_looked_at(seed):
    draw = np.random.default_rng(seed)
    count, size = 60, 6
    sizes, users = draw.integers(1, 5, count), draw.integers(0, 4, count).tolist()
    work = make_work(sizes.tolist(), [60.0] * count, users=users)
    pool = Pool(capacity=10 * size, lane_size=size)
    pool.start(10**6, pool.main_size, now=0.0, end=9.0)
    rows = draw.permutation(count)
    made = trial_pass(rows, work, pool, RULE, now=0.0)
    waiting = [
        Trial(row=row, user=users[row], gpus=int(sizes[row]), submitted=float(row))
        for row in range(count)
    ]
    every = next_trials(waiting, free=size, in_lane={})
    assert made == [(Move.TRY_LANE, row) for row in every]
