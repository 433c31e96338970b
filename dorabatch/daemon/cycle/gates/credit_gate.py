"""Which waiting containers credit lets start in this cycle, and which would run free.

Looks at limited users only, in memory: the placement itself checks again, with what
its transaction reads. Changes nothing.
"""

from dataclasses import dataclass
from datetime import datetime

import numpy as np

from dorabatch.daemon.cycle.gates.chain import PASSES, GateScene, GateVerdict
from dorabatch.daemon.state.charging import Billing
from dorabatch.daemon.state.credit_book import CreditBook
from dorabatch.fairshare.money.standing import SCAVENGER
from dorabatch.queue.board import Board
from dorabatch.queue.demand import PendingArrays, number_of
from dorabatch.queue.records import WorkloadId

OUT_OF_CREDIT = "OutOfCredit"


@dataclass(frozen=True, slots=True, kw_only=True)
class CreditGate:
    """Keeps waiting what its user's credit does not cover, unless it may run free."""

    credits: CreditBook
    billing: Billing
    board: Board

    def __call__(self, scene: GateScene) -> GateVerdict:
        """Each row by what it needs and where its user stands."""
        rows, pending = scene.rows, scene.pending
        why = np.full(len(rows), PASSES, dtype=np.int64)
        is_free = np.zeros(len(rows), dtype=np.bool_)
        sentences: dict[str, int] = {}
        known: dict[tuple[str, int], tuple[int, bool]] = {}
        for at in self._limited(scene) if self.credits.has_limits else ():
            user = pending.claims[pending.claim[rows[at]]].user
            asked = user, self._need(pending, int(rows[at]), scene.now_us)
            if asked not in known:
                tier, sentence = self._standing(*asked, scene.now)
                reason = number_of(sentences, sentence) if sentence else PASSES
                known[asked] = reason, tier == SCAVENGER
            why[at], is_free[at] = known[asked]
        return GateVerdict(
            code=OUT_OF_CREDIT, sentences=tuple(sentences), why=why, is_free=is_free
        )

    def _limited(self, scene: GateScene) -> list[int]:
        """The places of rows whose user, or an account above, has a limit."""
        pending, desk = scene.pending, self.credits
        limited = [
            any(desk.book.budgeted(desk.zone, name) for name in desk.chain_of(one.user))
            for one in pending.claims
        ]
        of_rows = np.array(limited, dtype=np.bool_)[pending.claim[scene.rows]]
        places: list[int] = np.flatnonzero(of_rows).tolist()
        return places

    def _need(self, pending: PendingArrays, row: int, now_us: int) -> int:
        """What has to be available before the container is placed."""
        workload = self.board.workloads[WorkloadId(int(pending.group[row]))]
        return self.billing.need(workload, int(pending.replica[row]), now_us)

    def _standing(self, user: str, need: int, now: datetime) -> tuple[int, str]:
        """(tier, why it waits; empty: it does not)."""
        standing = self.credits.standing(user, now, need)
        sentence = standing.sentence(need) if standing.is_held(need) else ""
        return standing.tier(need), sentence
