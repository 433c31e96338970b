"""The board's queue in order: gathers what each claim is worth and ranks the rows.

The sums and the order are `fairshare.ranking`'s; writes nothing but who came back.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np

from dorabatch.daemon.services import Services
from dorabatch.daemon.usage_book import Standings
from dorabatch.fairshare.factor import FairTree, fair_tree
from dorabatch.fairshare.ranking import (
    ClaimTerms,
    Formula,
    Ranking,
    Rows,
    rank,
)
from dorabatch.fairshare.settings import PolicySettings
from dorabatch.fairshare.usage import whole_usage
from dorabatch.queue.demand import Claim, PendingArrays
from dorabatch.units import microseconds_of

MILLI = 1000


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


def rank_pending(services: Services, pending: PendingArrays, now: datetime) -> Ranked:
    """Rank what waits."""
    standings = services.usage.standings(now)
    fair = fair_tree(standings.tree, whole_usage(standings.usage))
    settings = services.policy.settings
    rows = Rows(
        claim=pending.claim,
        submitted_us=pending.submitted_us,
        group=pending.group,
        replica=pending.replica,
    )
    present = np.bincount(pending.claim, minlength=len(pending.claims)) > 0
    terms = claim_terms(services, pending.claims, present, standings, fair)
    formula = formula_of(settings)
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


def formula_of(settings: PolicySettings) -> Formula:
    """The weights in force."""
    return Formula(weights=settings.weights, age_full_seconds=settings.age_full_seconds)


def claim_terms(
    services: Services,
    claims: Sequence[Claim],
    present: np.ndarray,
    standings: Standings,
    fair: FairTree,
) -> ClaimTerms:
    """What each claim is worth; those not present[claim] count nothing."""
    settings = services.policy.settings
    count = len(claims)
    fair_share, run = np.zeros(count), np.zeros(count)
    gpus = np.zeros(count)
    points = np.zeros(count, dtype=np.int64)
    nice = np.zeros(count, dtype=np.int64)
    for at in np.flatnonzero(present).tolist():
        claim = claims[at]
        node = standings.node.get(claim.user)
        # Somebody whose first workload came this very moment has used nothing.
        fair_share[at] = 1.0 if node is None else fair.factor[node]
        run[at] = services.history.predicted(claim)
        gpus[at] = claim.gpu_count * claim.gpu_milli / MILLI
        points[at] = settings.qos.get(claim.qos, 0) + settings.queues.get(
            claim.workspace, 0
        )
        nice[at] = claim.nice
    return ClaimTerms(
        fair_share=fair_share,
        credit=np.zeros(count),
        run_seconds=run,
        area=run * gpus,
        points=points,
        nice=nice,
        tier=np.zeros(count, dtype=np.int64),
    )


def notice_returns(services: Services, now: datetime) -> None:
    """Cap what those who came back are ahead by; once for each return."""
    if not services.usage.has_news():
        return
    rate = capacity_rate(services, now)
    services.writer.do(lambda tx: services.usage.join(tx, now, rate))


def capacity_rate(services: Services, now: datetime) -> float:
    """All GPUs of the zone in thousandths, each counted at its weight."""
    return MILLI * sum(
        services.usage.weight(gpu.model, now)
        for view in services.fleet.views()
        if view.facts is not None
        for gpu in view.facts.gpus
    )
