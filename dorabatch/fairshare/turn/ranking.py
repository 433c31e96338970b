"""The order of the whole queue: the factors of each claim, their sum, who comes first.

From the fair tree, credit, age and slow-down to a priority, and from that to an order:
the one rule for the daemon's cycle, for what it explains and for replays. Arrays in,
arrays out: no clock, no database, no knowledge of nodes or prices.
"""

from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from dorabatch.errors import UserError
from dorabatch.fairshare.turn.account_tree import (
    NO_PARENT,
    SHARES_OF_PARENT,
    AccountTree,
)

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

MILLION = 1_000_000
CREDIT_PACE_MAX = 4.0
AGE_FULL_SECONDS = 7 * 86_400.0
AGE_STEP_SECONDS = 6 * 3600.0
SHORT_RUN_SECONDS = 600.0
# Two ratios closer than this are compared as integers; float division errs by less.
_NEAR = 1e-12


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """What each factor counts, in millionths; together one million."""

    fair_share: int = 700_000
    credit: int = 200_000
    age: int = 100_000
    slow_down: int = 0

    def __post_init__(self) -> None:
        parts = (self.fair_share, self.credit, self.age, self.slow_down)
        if min(parts) < 0 or sum(parts) != MILLION:
            raise UserError(
                f"weights {' + '.join(str(part / MILLION) for part in parts)} add up "
                f"to {sum(parts) / MILLION}; each must be 0 or more and the sum 1"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Factors:
    """One row a request, each value from 0 to 1."""

    fair_share: FloatArray
    credit: FloatArray
    age: FloatArray
    slow_down: FloatArray


@dataclass(frozen=True, slots=True, kw_only=True)
class FairTree:
    """The walk's result for the users of the tree.

    user[row]     node of the tree, best first
    rank[row]     users - (users strictly before); tied users share a rank
    factor[node]  rank / users, and 0 for accounts
    """

    user: IntArray
    rank: IntArray
    factor: FloatArray


def fair_tree(tree: AccountTree, usage: IntArray) -> FairTree:
    """Rank the users by walking down the tree, best level first.

    usage[node] counts the node's own use; accounts add up what is below them. A
    level orders siblings by shares / usage: no shares comes last, no usage first,
    and a user with the shares of its parent first. Accounts that tie are walked as
    one, with their children merged; a user goes before an account that it ties with
    and shares its rank with that account's first user.
    """
    total = _totals(tree, usage)
    code = _level_codes(tree, total)
    users = np.flatnonzero(tree.is_user)
    if len(users) == 0:
        nobody = np.zeros(0, dtype=np.int64)
        return FairTree(user=nobody, rank=nobody, factor=np.zeros(len(tree)))
    path = _paths(tree, users, code)
    order = np.lexsort(path[::-1])
    sorted_path = path[:, order]
    before, after = sorted_path[:, :-1], sorted_path[:, 1:]
    # A shorter path is padded with -1: a prefix ties with what continues it.
    tied = np.all((before == after) | (before == -1), axis=0)
    starts = np.concatenate([[True], ~tied])
    position = np.arange(len(users))
    first = np.maximum.accumulate(np.where(starts, position, 0))
    rank = len(users) - first
    factor = np.zeros(len(tree), dtype=np.float64)
    factor[users[order]] = rank / len(users)
    return FairTree(user=users[order], rank=rank.astype(np.int64), factor=factor)


def level_fair_share(tree: AccountTree, usage: IntArray) -> dict[str, Fraction | None]:
    """(share of its level) / (use of its level) by name, exactly; None: boundless."""
    total = _totals(tree, usage)
    result: dict[str, Fraction | None] = {}
    for node, name in enumerate(tree.names):
        shares, used = int(tree.shares[node]), int(total[node])
        if shares == 0:
            result[name] = Fraction(0)
        elif shares == SHARES_OF_PARENT or used == 0:
            result[name] = None
        else:
            result[name] = 1 / _need(tree, total, node)
    return result


def credit_factor(
    available: FloatArray, budget: FloatArray, time_left: FloatArray
) -> FloatArray:
    """K / (1 + K), K = (credit left) / (time left) up to 4; on pace is 1/2.

    `time_left` is the remaining fraction of the period. No budget or no credit: 0.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        left = np.where(budget > 0, available / budget, 0.0)
        pace = np.where(time_left > 0, left / time_left, CREDIT_PACE_MAX)
    pace = np.where(left > 0, np.minimum(pace, CREDIT_PACE_MAX), 0.0)
    return np.asarray(pace / (1.0 + pace), dtype=np.float64)


def age_factor(
    wait_seconds: FloatArray, *, full_seconds: float = AGE_FULL_SECONDS
) -> FloatArray:
    """min(1, wait / a week)."""
    return np.asarray(np.clip(wait_seconds / full_seconds, 0.0, 1.0), dtype=np.float64)


def age_from(submitted_us: IntArray, *, step_seconds: float) -> IntArray:
    """When ages begin to count: the end of the step that each was submitted in.

    Steps begin at multiples of their length, in microseconds. Who came in the same
    step stays equally old, so that ties are decided by the area; a step of 0 has none.
    """
    step = round(step_seconds * MILLION)
    if step == 0:
        return submitted_us
    return np.asarray(-(-submitted_us // step) * step, dtype=np.int64)


def slow_down_factor(wait_seconds: FloatArray, run_seconds: FloatArray) -> FloatArray:
    """x / (1 + x), x = wait / predicted run, short runs counted as ten minutes."""
    ratio = np.maximum(wait_seconds, 0.0) / np.maximum(run_seconds, SHORT_RUN_SECONDS)
    return np.asarray(ratio / (1.0 + ratio), dtype=np.float64)


def priorities(
    factors: Factors,
    weights: Weights,
    *,
    qos: IntArray | int = 0,
    nice: IntArray | int = 0,
) -> IntArray:
    """P = floor(10^6 sum of weight x factor) + 10^6 qos - nice, for the whole queue."""
    points = (
        factors.fair_share * weights.fair_share
        + factors.credit * weights.credit
        + factors.age * weights.age
        + factors.slow_down * weights.slow_down
    )
    # 0.7 x 1/2 may come out a hair below the whole number that it is.
    whole = np.floor(points + 1e-6).astype(np.int64)
    return np.asarray(whole + np.int64(MILLION) * qos - nice, dtype=np.int64)


def _totals(tree: AccountTree, usage: IntArray) -> IntArray:
    if usage.shape != (len(tree),) or usage.min(initial=0) < 0:
        raise UserError(
            f"usage must be {len(tree)} numbers of 0 or more, one a node of the tree"
        )
    total = usage.astype(np.int64, copy=True)
    for depth in range(int(tree.depth.max(initial=0)), 0, -1):
        rows = np.flatnonzero(tree.depth == depth)
        np.add.at(total, tree.parent[rows], total[rows])
    return total


def _level_codes(tree: AccountTree, total: IntArray) -> IntArray:
    """code[node]: dense rank of usage over shares among all nodes; equal = tied."""
    shares_of, used_of = _level_sums(tree, total)
    code_value = np.zeros(len(tree), dtype=np.float64)
    counted = (tree.shares > 0) & (total > 0)
    rows = np.flatnonzero(counted)
    code_value[rows] = (total[rows] / tree.shares[rows]) * (
        shares_of[rows] / used_of[rows]
    )
    code_value[tree.shares == 0] = np.inf
    order = np.argsort(code_value, kind="stable")
    values = code_value[order]
    apart = np.ones(len(values), dtype=np.bool_)
    apart[1:] = values[1:] > values[:-1] * (1 + _NEAR)
    cluster = np.cumsum(apart) - 1
    within = _exact_order(tree, total, order, cluster)
    code = np.empty(len(tree), dtype=np.int64)
    code[order] = cluster * len(tree) + within
    return code


def _exact_order(
    tree: AccountTree, total: IntArray, order: IntArray, cluster: npt.NDArray[np.int64]
) -> IntArray:
    """within[position]: rank inside a cluster of nearly equal ratios, as integers."""
    within = np.zeros(len(order), dtype=np.int64)
    sizes = np.bincount(cluster)
    ends = np.cumsum(sizes)
    for group in np.flatnonzero(sizes > 1):
        positions = range(int(ends[group] - sizes[group]), int(ends[group]))
        first = int(order[positions[0]])
        # Clusters of "no usage" and "no shares" are exact ties already.
        if tree.shares[first] <= 0 or total[first] == 0:
            continue
        need = {at: _need(tree, total, int(order[at])) for at in positions}
        ranks = {value: rank for rank, value in enumerate(sorted(set(need.values())))}
        for at, value in need.items():
            within[at] = ranks[value]
    return within


def _need(tree: AccountTree, total: IntArray, node: int) -> Fraction:
    siblings = np.flatnonzero(tree.above == tree.above[node])
    shares = sum(max(0, int(tree.shares[other])) for other in siblings)
    above = int(tree.above[node])
    if above == NO_PARENT:
        used = sum(int(total[other]) for other in np.flatnonzero(tree.depth == 0))
    else:
        used = int(total[above])
    return Fraction(int(total[node]) * shares, int(tree.shares[node]) * used)


def _level_sums(tree: AccountTree, total: IntArray) -> tuple[IntArray, IntArray]:
    """For each node: the shares of its level, and the use of its level."""
    # One more slot at the end collects the top, whose parent is -1.
    shares = np.zeros(len(tree) + 1, dtype=np.int64)
    np.add.at(shares, tree.above, np.maximum(tree.shares, 0))
    used = np.concatenate([total, [total[tree.depth == 0].sum()]])
    return shares[tree.above], used[tree.above]


def _paths(tree: AccountTree, users: IntArray, code: IntArray) -> IntArray:
    """path[level, user]: the codes from the top down, -1 past a user's own level."""
    path = np.full((int(tree.level.max()) + 1, len(users)), -1, dtype=np.int64)
    column = np.arange(len(users))
    node = users.copy()
    while len(node):
        path[tree.level[node], column] = code[node]
        node = tree.above[node]
        keep = node != NO_PARENT
        node, column = node[keep], column[keep]
    return path


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
    """What waits: claim[row], times in microseconds; group and replica break ties.

    lost[row] is 1 where an attempt was lost by no fault of its own, else 0.
    """

    claim: IntArray
    lost: IntArray
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
    """Rows by tier, priority, lost, predicted area, submission, group, replica."""
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
    # What lost an attempt by no fault of its own has had its turn already.
    first = (-rows.lost,) if rows.lost.any() else ()
    for key in (*first, area, rows.submitted_us, rows.group, rows.replica):
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
