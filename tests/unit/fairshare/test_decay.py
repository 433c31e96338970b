"""Decay against the closed forms, and the catch-up cap against its purpose."""

import json
import math
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dorabatch.errors import UserError
from dorabatch.fairshare.turn.account_tree import Account, build_tree
from dorabatch.fairshare.turn.usage import (
    Fading,
    HalfLife,
    Usage,
    brought_forward,
    caught_up,
    counted_spans,
    decayed_usage,
    no_usage,
    whole_usage,
)

CASES = Path(__file__).parents[2] / "cases"
DECAY = json.loads((CASES / "fairshare_golden.json").read_text())["decay"]
DAY = 86_400.0
HOUR = 3600.0
WEEK = 7 * DAY


def test_a_point_charge_halves_each_half_life():
    days = np.array(DECAY[0]["t_days"])
    found = decayed_usage(1000.0, 0.0, elapsed_seconds=days * DAY)
    wanted = [float(Fraction(value)) for value in DECAY[0]["usage"]]
    assert found.tolist() == pytest.approx(wanted, rel=1e-14)


def test_charges_at_four_week_starts():
    usage = 100.0
    for _ in range(3):
        usage = float(decayed_usage(usage, 0.0, elapsed_seconds=WEEK)) + 100
    assert usage == pytest.approx(float(Fraction(DECAY[1]["usage"])), rel=1e-14)


def test_one_busy_gpu():
    hours = np.array(DECAY[2]["t_h"])
    found = decayed_usage(0.0, 1 / HOUR, elapsed_seconds=hours * HOUR)
    assert found.tolist() == pytest.approx(DECAY[2]["usage"], abs=1e-8)


def test_lock_out_of_the_uncapped_form():
    row = DECAY[4]
    half_life = row["H_h"] * HOUR

    def use(before: float, rate: float, hours: float) -> float:
        elapsed = {"elapsed_seconds": hours * HOUR, "half_life_seconds": half_life}
        return float(decayed_usage(before, rate, **elapsed))

    # Who returns outranks who ran alone until both have used the same.
    alone = use(use(0.0, 1.0, row["T_h"]), 0.0, row["hours"])
    assert use(0.0, 1.0, row["hours"]) == pytest.approx(alone, rel=1e-12)


def test_step_length_changes_nothing():
    tree = build_tree([Account(name="a", is_user=True)])
    start = Usage(own=np.array([5e9]), rate=np.array([64e6]), at_seconds=0.0)
    once = brought_forward(start, 1e6)
    many = start
    for step in range(1, 1001):
        many = brought_forward(many, step * 1000.0)
    assert many.own == pytest.approx(once.own, rel=1e-12)
    assert brought_forward(once, 5.0) == once
    assert whole_usage(no_usage(tree, at_seconds=0.0)).tolist() == [0]


def test_infinite_half_life_adds_up_and_zero_is_refused():
    found = decayed_usage(1.0, 2.0, elapsed_seconds=3.0, half_life_seconds=np.inf)
    assert float(found) == 7.0
    with pytest.raises(UserError, match="half_life 0"):
        decayed_usage(1.0, 2.0, elapsed_seconds=3.0, half_life_seconds=0.0)


def returning_user_hours(*, capped):
    """Two equal users on 64 GPUs, one alone for a week: hours until use is level."""
    tree = build_tree([Account(name=n, is_user=True) for n in "ab"])
    alone = Usage(own=np.zeros(2), rate=np.array([64.0, 0.0]), at_seconds=0.0)
    state = brought_forward(alone, WEEK)
    if capped:
        own = caught_up(
            tree,
            state.own,
            joining=np.array([1]),
            active=np.array([True, False]),
            capacity_rate=64.0,
        )
        state = Usage(own=own, rate=state.rate, at_seconds=WEEK)
    hours = 0
    while state.own[1] < state.own[0]:
        behind = Usage(
            own=state.own, rate=np.array([0.0, 64.0]), at_seconds=state.at_seconds
        )
        state = brought_forward(behind, state.at_seconds + HOUR)
        hours += 1
    return hours


def test_a_returning_user_is_level_within_twelve_hours():
    assert returning_user_hours(capped=False) == 99
    assert returning_user_hours(capped=True) <= 12


def test_the_cap_works_at_each_level_and_never_lowers():
    rows = [Account(name="A"), Account(name="B")]
    rows += [
        Account(name=n, parent=n[0].upper(), is_user=True) for n in ("a1", "a2", "b1")
    ]
    tree = build_tree(rows)
    own = np.array([0.0, 0.0, 1e9, 5e9, 0.0])
    active = np.array([False, False, True, True, False])
    found = caught_up(
        tree, own, joining=np.array([4]), active=active, capacity_rate=100.0
    )
    # Alone in its account, b1 owes nothing there; the account joins A's level.
    floor = 6e9 - 12 * HOUR * 100.0 / 2
    assert found.tolist() == [0.0, floor, 1e9, 5e9, 0.0]
    again = caught_up(
        tree, found, joining=np.array([4]), active=active, capacity_rate=100.0
    )
    assert again.tolist() == found.tolist()
    own = np.array([0.0, 0.0, 1e9, 5e9, 0.0])
    only_a1 = np.array([False, False, True, False, False])
    found = caught_up(
        tree, own, joining=np.array([3]), active=only_a1, capacity_rate=100.0
    )
    assert found.tolist() == own.tolist()


WEEK = 7 * 86_400.0


def test_one_half_life_fades_as_the_formula() -> None:
    fading = Fading([HalfLife(since=0.0, seconds=WEEK)])
    grown = float(fading.grown(0.0, 3 * WEEK, 5 * WEEK))
    whole = decayed_usage(0.0, 1.0, elapsed_seconds=3 * WEEK, half_life_seconds=WEEK)
    assert grown == pytest.approx(float(whole) / 4, rel=1e-12)
    assert float(fading.kept(0.0, WEEK)) == pytest.approx(0.5, rel=1e-12)
    assert float(fading.kept(9.0, 5.0)) == 1.0


@given(
    st.lists(st.floats(0, 1e6), min_size=1, max_size=4),
    st.floats(0, 1e6),
    st.floats(0, 1e6),
    st.floats(0, 1e6),
)
def test_pieces_of_a_run_add_up_whatever_half_lives_follow(
    changes: list[float], start: float, length: float, later: float
) -> None:
    lives = [
        HalfLife(since=at, seconds=1000.0 * (n + 1)) for n, at in enumerate(changes)
    ]
    fading = Fading([*lives, HalfLife(since=5e5, seconds=math.inf)])
    middle, end = start + length / 3, start + length
    at = end + later
    whole = float(fading.grown(start, end, at))
    parts = float(fading.grown(start, middle, at)) + float(
        fading.grown(middle, end, at)
    )
    assert parts == pytest.approx(whole, rel=1e-9, abs=1e-9)
    faded = float(fading.grown(start, end, end)) * float(fading.kept(end, at))
    assert faded == pytest.approx(whole, rel=1e-9, abs=1e-9)


def test_a_change_keeps_what_was_used_until_then() -> None:
    before = Fading([HalfLife(since=0.0, seconds=WEEK)])
    after = Fading([HalfLife(since=0, seconds=WEEK), HalfLife(since=WEEK, seconds=60)])
    assert float(after.grown(0.0, WEEK, WEEK)) == float(before.grown(0.0, WEEK, WEEK))
    assert float(after.kept(WEEK, WEEK + 60)) == pytest.approx(0.5)


def test_only_what_is_paid_counts_as_use() -> None:
    assert counted_spans(5.0, 9.0, []) == [(5.0, 9.0)]
    # Placed at 3 and paid, free from 6, paid again from 8.
    turns = [(3.0, True), (6.0, False), (8.0, True)]
    assert counted_spans(5.0, 9.0, turns) == [(5.0, 6.0), (8.0, 9.0)]
    assert counted_spans(5.0, 7.0, turns) == [(5.0, 6.0)]
    assert counted_spans(5.0, 9.0, [(3.0, False)]) == []
    assert counted_spans(5.0, math.inf, turns[:1]) == [(5.0, math.inf)]
