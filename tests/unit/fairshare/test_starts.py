"""Forecasts: known cases, and a plain loop over one sample as the model."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dorabatch.fairshare.turn.start_forecast import (
    SAMPLES,
    Line,
    Machine,
    StartRange,
    Widening,
    forecast,
    hit_text,
    sample_parts,
    simulated,
)


def machine_of(*places: list[float]) -> Machine:
    """Places with the seconds until each of their GPUs is free, in every sample."""
    widest = max(map(len, places))
    busy = np.full((SAMPLES, len(places), widest), np.inf)
    for number, gpus in enumerate(places):
        busy[:, number, : len(gpus)] = gpus
    return Machine(busy_for=busy)


def line_of(
    jobs: list[tuple[int, float]],
    accepts: list[list[bool]],
    kinds: list[int] | None = None,
    groups: list[int] | None = None,
) -> Line:
    """Jobs of (GPUs, seconds), of one kind and each its own group if not said."""
    return Line(
        gpus=np.array([gpus for gpus, _ in jobs], dtype=np.int64),
        kind=np.array(kinds or [0] * len(jobs), dtype=np.int64),
        accepts=np.array(accepts, dtype=np.bool_),
        guess=np.arange(len(jobs)),
        runs=np.array([[run] * SAMPLES for _, run in jobs], dtype=np.float64),
        group=np.array(groups or range(len(jobs)), dtype=np.int64),
    )


def test_each_takes_the_earliest_place_that_is_large_enough() -> None:
    machine = machine_of([50.0, 0.0], [10.0])
    line = line_of([(1, 100.0), (2, 5.0), (1, 5.0)], [[True, True]])
    found = forecast(machine, line)
    assert {key: (one.low, one.high) for key, one in found.items()} == {
        0: (0.0, 0.0),
        1: (100.0, 100.0),
        2: (10.0, 10.0),
    }


def test_what_no_place_can_hold_has_no_forecast() -> None:
    machine = machine_of([0.0], [0.0, 0.0])
    line = line_of([(3, 1.0), (2, 1.0), (1, 1.0)], [[True, True], [True, False]])
    assert sorted(forecast(machine, line)) == [1, 2]
    only_small = line_of([(2, 1.0)], [[True, False]])
    assert forecast(machine, only_small) == {}


def test_a_workload_starts_with_its_first_container() -> None:
    machine = machine_of([30.0], [70.0])
    line = line_of([(1, 9.0), (1, 9.0)], [[True, True]], groups=[5, 5])
    assert forecast(machine, line)[5].high == 30.0


def test_unlike_runs_make_a_range() -> None:
    busy = np.arange(SAMPLES, dtype=np.float64).reshape(SAMPLES, 1, 1)
    found = forecast(Machine(busy_for=busy), line_of([(1, 1.0)], [[True]]))[0]
    assert (found.low, found.high) == (0.1 * SAMPLES, 0.9 * SAMPLES - 1)


JOBS = st.lists(
    st.tuples(st.integers(1, 3), st.floats(1, 100), st.integers(0, 1)), max_size=12
)
PLACES = st.lists(
    st.lists(st.floats(0, 50), min_size=1, max_size=3), min_size=1, max_size=3
)


@settings(max_examples=80, deadline=None)
@given(JOBS, PLACES, st.data())
def test_it_equals_a_plain_loop(jobs, places, data) -> None:
    masks = st.lists(st.booleans(), min_size=len(places), max_size=len(places))
    accepts = [data.draw(masks), data.draw(masks)]
    line = line_of(
        [(gpus, run) for gpus, run, _ in jobs], accepts, [kind for *_, kind in jobs]
    )
    if not jobs:
        return
    found = simulated(machine_of(*places), line, seed=1)
    free = [sorted(place) for place in places]
    for row, (gpus, run, kind) in enumerate(jobs):
        able = [
            (place[gpus - 1], number)
            for number, place in enumerate(free)
            if accepts[kind][number] and len(place) >= gpus
        ]
        if not able:
            assert np.isinf(found[:, row]).all()
            continue
        start, number = min(able)
        assert found[0, row] == pytest.approx(start)
        free[number] = sorted([start + run] * gpus + free[number][gpus:])


def test_parts_are_spread_evenly() -> None:
    parts = sample_parts()
    assert len(parts) == SAMPLES
    assert np.allclose(np.diff(parts), 1 / SAMPLES)


def test_ranges_widen_until_one_start_in_ten_is_missed_at_each_end() -> None:
    rng = np.random.default_rng(7)
    # The simulation says 50 to 60 minutes; what comes is spread over hours.
    told, widening, missed = StartRange(low=3000.0, high=3600.0), Widening(), []
    for at in rng.lognormal(mean=np.log(3300), sigma=1.0, size=6000).tolist():
        shown = widening.applied(told)
        early, late = at < shown.low, at > shown.high
        missed.append((early, late))
        widening = widening.learned(is_early=early, is_late=late)
    rates = np.mean(missed[1000:], axis=0)
    assert rates == pytest.approx([0.1, 0.1], abs=0.02)
    assert shown.low < told.low < told.high < shown.high


def test_what_is_never_missed_stays_as_it_was_simulated() -> None:
    told, widening = StartRange(low=0.0, high=90.0), Widening()
    for _ in range(50):
        widening = widening.learned(is_early=False, is_late=False)
    assert widening == Widening()
    assert widening.applied(told) == told


def test_a_widening_has_an_end_and_moves_a_range_that_is_now() -> None:
    widening = Widening()
    for _ in range(500):
        widening = widening.learned(is_early=True, is_late=True)
    assert (widening.early, widening.late) == (3.0, 3.0)
    now = widening.applied(StartRange(low=0.0, high=0.0))
    assert (now.low, round(now.high)) == (0.0, 1145)


def test_the_hit_rate_in_words() -> None:
    assert hit_text(0, 0) == "no forecast has been checked yet"
    assert hit_text(279, 340) == (
        "in 82 % of 340 forecasts the start was inside the range"
    )
    assert "of 1 forecast the" in hit_text(1, 1)
