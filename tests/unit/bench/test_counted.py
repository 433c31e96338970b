"""The replay's books: every run ends, nothing over capacity, caps and costs hold."""

import math
from dataclasses import replace

import numpy as np
import pytest

from bench.counted import Jobs, Rules, Simulation
from dorabatch.fairshare.turn.lane import LaneRule
from dorabatch.fairshare.turn.pool_decide import PauseRule
from dorabatch.fairshare.turn.ranking import Formula, Weights

HOUR = 3600.0
FAIR = Formula(weights=Weights(fair_share=1_000_000, credit=0, age=0, slow_down=0))


def make_jobs(rows, *, limit=math.inf, may_try=True):
    """Rows of (submit, duration, size, user)."""
    columns = np.array(sorted(rows), dtype=float).T
    count = len(rows)
    return Jobs(
        submit=columns[0],
        duration=columns[1],
        limit=np.full(count, limit),
        size=columns[2].astype(np.int64),
        user=columns[3].astype(np.int64),
        may_try=np.full(count, may_try),
    )


def random_jobs(count=150, seed=3):
    rng = np.random.default_rng(seed)
    submit = np.sort(rng.uniform(0, 30 * HOUR, count)).round()
    duration = np.exp(rng.normal(6.5, 2, count)).clip(1, 30 * HOUR).round()
    size = rng.choice([1, 1, 1, 2, 4, 8, 16], count)
    user = rng.integers(0, 6, count)
    return make_jobs(list(zip(submit, duration, size, user, strict=True)))


def used_gpus_never_above(jobs, done, capacity):
    start = done - jobs.duration
    edges = [(at, -size) for at, size in zip(done, jobs.size, strict=True)]
    edges += [(at, size) for at, size in zip(start, jobs.size, strict=True)]
    used = 0
    for _, change in sorted(edges):
        used += change
        assert used <= capacity


@pytest.mark.parametrize(
    "rules",
    [
        Rules(is_fair=False, backfills=False, predicts=False),
        Rules(is_fair=False, predicts=False),
        Rules(predicts=False, large_points=90_000, catch_up_seconds=None),
        Rules(lane=LaneRule(part_ppm=100_000)),
    ],
    ids=["fifo", "fifo-easy", "slurm-like", "default"],
)
def test_everything_ends_within_the_capacity(rules):
    jobs = random_jobs()
    outcome = Simulation(jobs, 16, rules).run()
    assert np.isfinite(outcome.done).all()
    assert (outcome.done - jobs.duration >= jobs.submit).all()
    used_gpus_never_above(jobs, outcome.done, 16)
    again = Simulation(jobs, 16, rules).run()
    assert (again.done == outcome.done).all()


def test_fifo_starts_in_order():
    jobs = random_jobs()
    rules = Rules(is_fair=False, backfills=False, predicts=False)
    start = Simulation(jobs, 16, rules).run().done - jobs.duration
    assert (np.diff(start) >= 0).all()


def test_pauses_cost_time_and_end_everything():
    jobs = make_jobs([(0, 10 * HOUR, 8, 0), (HOUR, 60, 8, 1)])
    rule = PauseRule(run_seconds_min=1800.0, cost_seconds=60.0)
    outcome = Simulation(jobs, 8, Rules(pause=rule)).run()
    assert outcome.pauses == 1
    assert outcome.done.tolist() == [10 * HOUR + 120, HOUR + 60]
    assert outcome.wasted_gpu_seconds == 8 * 60
    mixed = random_jobs()
    done = Simulation(mixed, 16, Rules(pause=rule)).run().done
    assert (done - mixed.duration >= mixed.submit - 1e-6).all()


def test_a_short_one_gets_through_in_the_lane_and_a_stopped_one_is_begun_anew():
    long = [(0, 100 * HOUR, 1, 0) for _ in range(40)]
    jobs = make_jobs([*long, (10, 120, 1, 1), (20, HOUR, 1, 2)])
    lane = LaneRule(part_ppm=100_000)
    outcome = Simulation(jobs, 10, Rules(lane=lane)).run()
    wait = outcome.done - jobs.submit - jobs.duration
    assert wait[40] < 900
    assert outcome.restarts > 0
    unwilling = replace(jobs, may_try=np.zeros(len(jobs.submit), dtype=bool))
    plain = Simulation(unwilling, 10, Rules(lane=lane)).run()
    assert plain.restarts == 0
    assert plain.done[40] - 120 - 10 > 90 * HOUR


def hours_to_balance(catch_up_seconds):
    """Hours after B's return until B's part of each 6 h stays within 40 to 60 %."""
    back = 7 * 24 * HOUR
    rows = [(0.0, HOUR, 16, 0)] * (4 * 24 * 14) + [(back, HOUR, 16, 1)] * (4 * 24 * 7)
    jobs = make_jobs(rows)
    rules = Rules(formula=FAIR, predicts=False, catch_up_seconds=catch_up_seconds)
    start = Simulation(jobs, 64, rules).run().done - jobs.duration
    last = 0
    for window in range(28):
        low = back + window * 6 * HOUR
        inside = (start >= low) & (start < low + 6 * HOUR)
        part = jobs.user[inside].mean()
        if not 0.4 <= part <= 0.6:
            last = window + 1
    return last * 6


def test_who_returns_has_their_share_within_the_catch_up_cap():
    assert hours_to_balance(12 * HOUR) <= 12
    assert hours_to_balance(None) >= 96
