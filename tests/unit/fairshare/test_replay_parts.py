"""The lane is fair; estimates stay below the limit."""

import math

import pytest

from dorabatch.fairshare.turn.lane import LaneRule, Trial, next_trials
from dorabatch.fairshare.turn.run_length import UNKNOWN_SECONDS, History


def test_lane_serves_the_user_with_least_in_it():
    waiting = [
        Trial(row=0, user=1, gpus=1, submitted=0.0),
        Trial(row=1, user=1, gpus=1, submitted=1.0),
        Trial(row=2, user=2, gpus=2, submitted=2.0),
        Trial(row=3, user=3, gpus=9, submitted=0.0),
    ]
    assert next_trials(waiting, free=3, in_lane={1: 1}) == [2, 0]
    assert next_trials(waiting, free=0, in_lane={}) == []
    assert LaneRule().size(520) == 15
    assert LaneRule(part_ppm=0).size(520) == 0


def test_predictions_follow_the_nearest_history():
    history = History()
    asked = {"user": 1, "gpus": 2, "limit": 1000.0}
    assert history.predicted(**asked) == 1000.0
    history.add(user=9, gpus=1, limit=5.0, run_seconds=30.0)
    assert history.predicted(**asked) == pytest.approx(30.0)
    assert history.planned(**asked) == 1000.0
    for seconds in (1.0, 10.0, 100.0):
        history.add(**asked, run_seconds=seconds)
    assert history.predicted(**asked) == pytest.approx(10.0)
    assert history.planned(**asked) == 100.0
    assert history.planned(user=1, gpus=7, limit=50.0) == 50.0


def test_a_range_comes_from_the_nearest_history_and_from_what_outlived_it():
    history = History()
    asked = {"user": "ann", "gpus": 2, "limit": 1000.0}
    assert history.quantiles((0.5,), **asked) == (1000.0,)
    unlimited = {"user": "ann", "gpus": 2, "limit": math.inf}
    assert history.quantiles((0.5,), **unlimited) == (UNKNOWN_SECONDS,)
    old = UNKNOWN_SECONDS + 1
    assert history.quantiles((0.5,), **unlimited, ran=old) == (2 * old,)
    for seconds in range(10, 110, 10):
        history.add(**asked, run_seconds=float(seconds))
    assert history.quantiles((0.1, 0.5, 0.9), **asked) == (10.0, 50.0, 90.0)
    assert history.quantiles((0.1, 0.9), **asked, ran=80.0) == (90.0, 100.0)
    assert history.quantiles((0.9,), user="bob", gpus=1, limit=45.0) == (45.0,)
    assert history.quantiles((0.5,), **asked, ran=100.0) == (1000.0,)


def test_a_prediction_that_is_outrun_doubles():
    history = History()
    asked = {"user": "ann", "gpus": 2, "limit": 1000.0}
    history.add(**asked, run_seconds=100.0)
    assert history.predicted(**asked, ran=99.0) == pytest.approx(100.0)
    assert history.predicted(**asked, ran=200.0) == 400.0
    assert history.predicted(**asked, ran=900.0) == 1000.0
