"""Which waiting containers credit lets start in this cycle, and why the rest wait.

Looks at limited users only, in memory: the placement itself checks again, with what
its transaction reads. Changes nothing.
"""

from datetime import datetime

import numpy as np

from dorabatch.daemon.cycle.gates.gate import Gate
from dorabatch.daemon.state.charging import Billing
from dorabatch.daemon.state.credit_book import CreditBook
from dorabatch.fairshare.money.standing import SCAVENGER
from dorabatch.queue.board import Board
from dorabatch.queue.demand import IntArray, PendingArrays
from dorabatch.queue.records import WorkloadId
from dorabatch.units import microseconds_of


def credit_gate(
    desk: CreditBook,
    billing: Billing,
    board: Board,
    pending: PendingArrays,
    order: IntArray,
    now: datetime,
) -> Gate:
    """Divide rows, best first, by what their users' credit covers."""
    if not desk.has_limits:
        return Gate(order=order, paid=len(order))
    at = microseconds_of(now)
    limited = np.array([_is_limited(desk, claim.user) for claim in pending.claims])
    tiers = np.zeros(len(order), dtype=np.int8)
    may = np.ones(len(order), dtype=bool)
    held: dict[int, str] = {}
    known: dict[tuple[str, int], tuple[int, str]] = {}
    for place in np.flatnonzero(limited[pending.claim[order]]).tolist():
        row = order[place]
        user = pending.claims[pending.claim[row]].user
        workload = board.workloads[WorkloadId(int(pending.group[row]))]
        need = billing.need(workload, int(pending.replica[row]), at)
        if (user, need) not in known:
            standing = desk.standing(user, now, need)
            reason = standing.sentence(need) if standing.is_held(need) else ""
            known[user, need] = (standing.tier(need), reason)
        tiers[place], reason = known[user, need]
        if reason:
            may[place] = False
            held[int(pending.key[row])] = reason
    kept, is_free = order[may], tiers[may] == SCAVENGER
    order = np.concatenate([kept[~is_free], kept[is_free]])
    return Gate(order=order, paid=int((~is_free).sum()), held=held)


def _is_limited(desk: CreditBook, user: str) -> bool:
    return any(desk.book.budgeted(desk.zone, name) for name in desk.chain_of(user))
