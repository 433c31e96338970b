"""The order of the queue: exact sums, ties as documented, and the sort of a model."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from dorabatch.fairshare.turn.ranking import (
    ClaimTerms,
    Formula,
    Rows,
    Weights,
    priority_parts,
    rank,
)

NOW = 10**15
EVEN = Formula(
    weights=Weights(fair_share=500_000, credit=200_000, age=200_000, slow_down=100_000)
)


def terms_of(count: int, **columns: object) -> ClaimTerms:
    made = {
        "fair_share": np.zeros(count),
        "credit": np.zeros(count),
        "run_seconds": np.full(count, 3600.0),
        "area": np.zeros(count),
        "points": np.zeros(count, dtype=np.int64),
        "nice": np.zeros(count, dtype=np.int64),
        "tier": np.zeros(count, dtype=np.int64),
    }
    return ClaimTerms(**{**made, **{k: np.array(v) for k, v in columns.items()}})


def rows_of(
    claims: list[int],
    waits: list[float],
    groups: list[int],
    lost: list[int] | None = None,
) -> Rows:
    return Rows(
        claim=np.array(claims, dtype=np.int64),
        lost=np.array(lost or [0] * len(claims), dtype=np.int64),
        submitted_us=np.array([NOW - round(w * 1e6) for w in waits], dtype=np.int64),
        group=np.array(groups, dtype=np.int64),
        replica=np.ones(len(claims), dtype=np.int64),
    )


QUEUE = st.lists(
    st.tuples(
        st.integers(0, 3), st.sampled_from([0, 1, 60, 7 * 86_400]), st.integers(1, 9)
    ),
    max_size=30,
)
CLAIMS = st.tuples(
    st.lists(st.sampled_from([0.0, 1 / 3, 0.5, 1.0]), min_size=4, max_size=4),
    st.lists(st.sampled_from([0, -1, 3]), min_size=4, max_size=4),
    st.lists(st.sampled_from([0, 5, -5]), min_size=4, max_size=4),
    st.lists(st.sampled_from([0, 1]), min_size=4, max_size=4),
    st.lists(st.sampled_from([0.0, 10.0]), min_size=4, max_size=4),
)


@settings(max_examples=200, deadline=None)
@given(QUEUE, CLAIMS)
def test_the_order_is_that_of_a_plain_sort(queue, claims) -> None:
    fair, points, nice, tier, area = claims
    terms = terms_of(4, fair_share=fair, points=points, nice=nice, tier=tier, area=area)
    rows = (
        rows_of(*(list(column) for column in zip(*queue, strict=True)))
        if queue
        else rows_of([], [], [])
    )
    found = rank(rows, terms, EVEN, now_us=NOW)
    keys = [
        (
            found.tier[row],
            -found.priority[row],
            terms.area[rows.claim[row]],
            rows.submitted_us[row],
            rows.group[row],
        )
        for row in found.order
    ]
    assert keys == sorted(keys)
    assert sorted(found.order) == list(range(len(queue)))
    parts = priority_parts(rows, terms, EVEN, now_us=NOW)
    total = sum(part for name, part in parts.items() if name != "nice")
    assert np.array_equal(total - parts["nice"], found.priority)


def test_what_was_lost_goes_first_among_equals_only() -> None:
    terms = terms_of(3, points=[0, 0, 1], area=[1.0, 9.0, 1.0])
    rows = rows_of([0, 1, 2], [60, 60, 60], [1, 2, 3], lost=[0, 1, 0])
    found = rank(rows, terms, Formula(), now_us=NOW)
    assert found.order.tolist() == [2, 1, 0]


def test_a_known_sum() -> None:
    terms = terms_of(1, fair_share=[0.5], credit=[0.5], points=[2], nice=[7])
    rows = rows_of([0], [3.5 * 86_400], [1])
    formula = Formula(age_step_seconds=0)
    assert rank(rows, terms, formula, now_us=NOW).priority.tolist() == [2_499_993]
    parts = priority_parts(rows, terms, formula, now_us=NOW)
    assert {name: part.tolist() for name, part in parts.items()} == {
        "fair_share": [350_000],
        "credit": [100_000],
        "age": [50_000],
        "slow_down": [0],
        "points": [2_000_000],
        "nice": [7],
    }


def test_who_came_in_the_same_step_is_equally_old() -> None:
    # One came in this step, two in the one before; NOW is 6400 s after it ended.
    hour = 3600.0
    assert NOW % (6 * 3600 * 10**6) == 6400 * 10**6
    terms = terms_of(3, area=[1.0, 9.0, 4.0])
    rows = rows_of([0, 1, 2], [60, 5 * hour, 4 * hour], [1, 2, 3])
    found = rank(rows, terms, Formula(), now_us=NOW)
    assert found.order.tolist() == [2, 1, 0]
    age = priority_parts(rows, terms, Formula(), now_us=NOW)["age"]
    assert age.tolist() == [0, 1058, 1058]


def test_a_scavenger_is_last_whatever_its_priority() -> None:
    terms = terms_of(2, fair_share=[1.0, 0.0], points=[900, 0], tier=[1, 0])
    rows = rows_of([0, 1], [0, 0], [1, 2])
    assert rank(rows, terms, Formula(), now_us=NOW).order.tolist() == [1, 0]


def test_ties_go_by_area_then_submission_then_id() -> None:
    terms = terms_of(2, area=[10.0, 5.0])
    formula = Formula(weights=Weights(fair_share=1_000_000, credit=0, age=0))
    rows = rows_of([0, 0, 1, 0], [5, 9, 1, 5], [4, 3, 2, 1])
    assert rank(rows, terms, formula, now_us=NOW).order.tolist() == [2, 1, 3, 0]
