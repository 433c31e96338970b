"""The order of the whole queue: what each claim is worth, then who comes first.

The one entry for the daemon's cycle, for what it explains and for replays. Arrays in,
arrays out: no clock, no database, no knowledge of nodes or prices.
"""

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from dorabatch.fairshare.turn.factor import (
    AGE_FULL_SECONDS,
    AGE_STEP_SECONDS,
    MILLION,
    Factors,
    Weights,
    age_factor,
    age_from,
    priorities,
    slow_down_factor,
)

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

_INT_MAX = 2**62
TERMS = ("fair_share", "credit", "age", "slow_down")


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimTerms:
    """What is the same for all rows of a claim (a user's alike workloads).

    fair_share[claim] and credit[claim] are factors from 0 to 1; run_seconds[claim] is
    the predicted run and area[claim] that times its GPUs, compared in whole seconds;
    points[claim] counts millions (QOS and queue); nice[claim] is taken off;
    tier[claim] 0 comes first.
    """

    fair_share: FloatArray
    credit: FloatArray
    run_seconds: FloatArray
    area: FloatArray
    points: IntArray
    nice: IntArray
    tier: IntArray


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """What waits: claim[row], times in microseconds; group and replica break ties."""

    claim: IntArray
    submitted_us: IntArray
    group: IntArray
    replica: IntArray


@dataclass(frozen=True, slots=True, kw_only=True)
class Formula:
    """Weights, the wait that counts in full, and the steps in which ages begin."""

    weights: Weights = field(default_factory=Weights)
    age_full_seconds: float = AGE_FULL_SECONDS
    age_step_seconds: float = AGE_STEP_SECONDS


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranking:
    """order[place] is a row, best first; priority[row] and tier[row] by row."""

    order: IntArray
    priority: IntArray
    tier: IntArray


def rank(rows: Rows, terms: ClaimTerms, formula: Formula, *, now_us: int) -> Ranking:
    """Rows by tier, priority falling, predicted area, submission, group, replica."""
    priority = worth(rows, terms, formula, now_us=now_us)
    tier = terms.tier[rows.claim]
    return Ranking(
        order=_sorted(rows, terms, priority, tier), priority=priority, tier=tier
    )


def worth(rows: Rows, terms: ClaimTerms, formula: Formula, *, now_us: int) -> IntArray:
    """priority[row], the whole number that the order goes by."""
    return priorities(
        _factors(rows, terms, formula, now_us),
        formula.weights,
        qos=terms.points[rows.claim],
        nice=terms.nice[rows.claim],
    )


def priority_parts(
    rows: Rows, terms: ClaimTerms, formula: Formula, *, now_us: int
) -> dict[str, IntArray]:
    """The whole numbers that a priority is the sum of, by term, one a row.

    Each term is what it adds to the rounded-down sum of those before it, so that
    all of them, with `points` added and `nice` taken off, make exactly the priority.
    """
    factors = _factors(rows, terms, formula, now_us)
    before = np.zeros(len(rows.claim), dtype=np.int64)
    shown: dict[str, FloatArray] = {
        name: np.zeros_like(factors.fair_share) for name in TERMS
    }
    parts: dict[str, IntArray] = {}
    for name in TERMS:
        shown[name] = getattr(factors, name)
        after = priorities(Factors(**shown), formula.weights)
        parts[name], before = after - before, after
    parts["points"] = MILLION * terms.points[rows.claim]
    parts["nice"] = terms.nice[rows.claim]
    return parts


def row_factors(
    rows: Rows, terms: ClaimTerms, formula: Formula, *, now_us: int
) -> Factors:
    """The factors from 0 to 1 behind the parts, one a row."""
    return _factors(rows, terms, formula, now_us)


def _factors(rows: Rows, terms: ClaimTerms, formula: Formula, now_us: int) -> Factors:
    wait = np.maximum(now_us - rows.submitted_us, 0) / 1e6
    since = age_from(rows.submitted_us, step_seconds=formula.age_step_seconds)
    age = np.maximum(now_us - since, 0) / 1e6
    slow_down = np.zeros_like(wait)
    if formula.weights.slow_down:
        slow_down = slow_down_factor(wait, terms.run_seconds[rows.claim])
    return Factors(
        fair_share=terms.fair_share[rows.claim],
        credit=terms.credit[rows.claim],
        age=age_factor(age, full_seconds=formula.age_full_seconds),
        slow_down=slow_down,
    )


def _sorted(
    rows: Rows, terms: ClaimTerms, priority: IntArray, tier: IntArray
) -> IntArray:
    """The rows in order: one fast sort by tier and priority, then ties alone."""
    if len(priority) == 0:
        return np.zeros(0, dtype=np.int64)
    span = int(priority.max()) - int(priority.min()) + 1
    # Tier and priority as one number: a lower tier always stands before.
    code = tier * span - priority
    order = np.argsort(code).astype(np.int64)
    place, tie = np.arange(len(order)), _tie_numbers(code[order])
    if len(tie) == int(tie[-1]) + 1:
        return order
    # Finer differences of predictions are rounding.
    area = np.rint(np.minimum(terms.area, _INT_MAX)).astype(np.int64)[rows.claim]
    for key in (area, rows.submitted_us, rows.group, rows.replica):
        tied = _is_tied(tie)
        place, tie = place[tied], tie[tied]
        if len(place) == 0:
            break
        order[place], tie = _refined(order[place], tie, key)
    return order


def _refined(
    order: IntArray, tie: IntArray, key: IntArray
) -> tuple[IntArray, IntArray]:
    """Tied rows sorted by a further key, and the number of the tie each is in now."""
    value = key[order] - key[order].min()
    group = _tie_numbers(tie)
    if (int(group[-1]) + 1) * (int(value.max()) + 1) > _INT_MAX:
        value = np.unique(value, return_inverse=True)[1].astype(np.int64)
    code = group * (int(value.max()) + 1) + value
    again = np.argsort(code)
    return order[again], _tie_numbers(code[again])


def _tie_numbers(ordered: IntArray) -> IntArray:
    """number[place]: equal for equal neighbours, growing by one at each step."""
    steps = np.zeros(len(ordered), dtype=np.int64)
    np.cumsum(ordered[1:] != ordered[:-1], out=steps[1:])
    return steps


def _is_tied(tie: IntArray) -> npt.NDArray[np.bool_]:
    same = tie[1:] == tie[:-1]
    tied = np.zeros(len(tie), dtype=np.bool_)
    tied[1:] |= same
    tied[:-1] |= same
    return tied
