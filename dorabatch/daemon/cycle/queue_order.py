"""The board's queue in order: gathers what each claim is worth and ranks the rows.

The sums and the order are `fairshare.ranking`'s; writes nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np

from dorabatch.daemon.state.claim_book import ClaimBook
from dorabatch.daemon.state.credit_book import CreditBook
from dorabatch.daemon.state.site_policy import SitePolicy
from dorabatch.daemon.state.usage_book import Standings, UsageBook
from dorabatch.fairshare.turn.ranking import (
    ClaimTerms,
    FairTree,
    Formula,
    Ranking,
    Rows,
    credit_factor,
    fair_tree,
    rank,
)
from dorabatch.fairshare.turn.settings import PolicySettings
from dorabatch.fairshare.turn.usage import whole_usage
from dorabatch.queue.board import Board
from dorabatch.queue.demand import Claim, PendingArrays, number_of
from dorabatch.queue.records import Container
from dorabatch.units import microseconds_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranked:
    """The queue at one moment, with all that its order was made from."""

    pending: PendingArrays
    rows: Rows
    terms: ClaimTerms
    formula: Formula
    ranking: Ranking
    standings: Standings
    fair: FairTree
    now_us: int


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueOrder:
    """Ranks what waits; whoever asks gets the order that the next cycle would have."""

    board: Board
    policy: SitePolicy
    usage: UsageBook
    claims: ClaimBook
    credits: CreditBook

    def rank(
        self,
        pending: PendingArrays,
        now: datetime,
        *,
        beside: Sequence[Container] = (),
    ) -> Ranked:
        """Rank what waits, and containers beside it as if they waited too.

        The rows of those are behind the rows of `pending`.
        """
        standings = self.usage.standings(now)
        fair = fair_tree(standings.tree, whole_usage(standings.usage))
        rows, claims = _rows(self.board, pending, beside)
        terms = self.claim_terms(claims, standings, fair, now)
        formula = formula_of(self.policy.settings)
        now_us = microseconds_of(now)
        return Ranked(
            pending=pending,
            rows=rows,
            terms=terms,
            formula=formula,
            ranking=rank(rows, terms, formula, now_us=now_us),
            standings=standings,
            fair=fair,
            now_us=now_us,
        )

    def claim_terms(
        self,
        claims: tuple[Claim, ...],
        standings: Standings,
        fair: FairTree,
        now: datetime,
    ) -> ClaimTerms:
        """What each claim is worth."""
        columns = self.claims.columns(claims)
        # Somebody whose first workload came this very moment has used nothing.
        factors = [
            1.0 if node is None else float(fair.factor[node])
            for node in map(standings.node.get, columns.users)
        ]
        fair_share = np.array(factors, dtype=np.float64)[columns.user]
        credit, tier = credit_terms(self.credits, columns.users, now)
        return ClaimTerms(
            fair_share=fair_share,
            credit=credit[columns.user],
            run_seconds=columns.run_seconds,
            area=columns.run_seconds * columns.gpus,
            points=columns.points,
            nice=columns.nice,
            tier=tier[columns.user],
        )


_ROW = ("claim", "lost", "submitted_us", "group", "replica")


def _rows(
    board: Board, pending: PendingArrays, beside: Sequence[Container]
) -> tuple[Rows, tuple[Claim, ...]]:
    numbers = {claim: number for number, claim in enumerate(pending.claims)}
    workloads = [board.workloads[one.workload_id] for one in beside]
    more = [
        (
            number_of(numbers, board.claim_of(workload)),
            one.lost_requeues > 0,
            microseconds_of(workload.submitted_at),
            one.workload_id,
            one.replica,
        )
        for one, workload in zip(beside, workloads, strict=True)
    ]
    found = np.array(more, dtype=np.int64).reshape(-1, len(_ROW)).T
    columns = [getattr(pending, name) for name in _ROW]
    joined = [np.concatenate(pair) for pair in zip(columns, found, strict=True)]
    rows = Rows(**dict(zip(_ROW, joined, strict=True)))
    return rows, tuple(numbers)


def formula_of(settings: PolicySettings) -> Formula:
    """The weights in force."""
    return Formula(
        weights=settings.weights,
        age_full_seconds=settings.age_full_seconds,
        age_step_seconds=settings.age_step_seconds,
    )


def credit_terms(
    desk: CreditBook, users: Sequence[str], now: datetime
) -> tuple[np.ndarray, np.ndarray]:
    """(C, tier) of each user; who has no allocation is on pace and paid.

    Where nobody has one, credit counts nothing.
    """
    count = len(users)
    available, budget = np.full(count, 1.0), np.full(count, 2.0)
    time_left, tier = np.full(count, 0.5), np.zeros(count, dtype=np.int64)
    if not desk.has_limits:
        return np.zeros(count), tier
    for at, user in enumerate(users):
        standing = desk.standing(user, now)
        if standing.available is not None:
            available[at] = max(0, standing.available)
            budget[at], time_left[at] = standing.budget, float(standing.time_left)
            tier[at] = standing.tier()
    return credit_factor(available, budget, time_left), tier
