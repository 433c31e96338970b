"""Whose turn it is: every waiting workload with its place and the terms of its sum.

Ranks with the cycle's own function and explains; changes nothing.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np

from dorabatch.clock import Clock
from dorabatch.daemon.cycle.queue_order import QueueOrder, Ranked
from dorabatch.daemon.rights import Caller
from dorabatch.daemon.views.cell_texts import text_cell
from dorabatch.daemon.views.share_tree import ShareTreeView, compare
from dorabatch.daemon.views.sight import Sight, without
from dorabatch.daemon.views.table_layout import Cell
from dorabatch.fairshare.turn.ranking import TERMS, priority_parts, row_factors
from dorabatch.queue.board import Board
from dorabatch.queue.records import Workload, WorkloadId

TURN_COLUMNS = (
    "rank", "id", "workspace", "name", "user", "tier", "prio", "fair_share", "credit",
    "age", "slow_down", "points", "nice",
)  # fmt: skip
_USERS_NAMED = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class TakenTurns:
    """The queue in order at one moment.

    first[workload] is the place, from 0, of the workload's first waiting container.
    """

    ranked: Ranked
    parts: dict[str, np.ndarray]
    first: dict[int, int]
    count: int

    def row_at(self, place: int) -> int:
        """The row of the pending arrays that stands at a place."""
        return int(self.ranked.ranking.order[place])


def places_by_workload(taken: TakenTurns) -> list[tuple[int, int]]:
    """(workload, place of its first container), in order."""
    return sorted(taken.first.items(), key=lambda pair: pair[1])


@dataclass(frozen=True, slots=True, kw_only=True)
class Turns:
    """Whose turn it is in one zone."""

    order: QueueOrder
    board: Board
    tree: ShareTreeView
    clock: Clock
    see_others: str

    def take(self, now: datetime) -> TakenTurns:
        """Rank what waits now."""
        ranked = self.order.rank(self.board.pending.arrays(), now)
        groups = ranked.pending.group[ranked.ranking.order]
        found, places = np.unique(groups, return_index=True)
        return TakenTurns(
            ranked=ranked,
            parts=priority_parts(
                ranked.rows, ranked.terms, ranked.formula, now_us=ranked.now_us
            ),
            first=dict(zip(found.tolist(), places.tolist(), strict=True)),
            count=len(found),
        )

    def rows(
        self, wanted: Callable[[Workload], bool], caller: Caller
    ) -> list[dict[str, Any]]:
        """One row a waiting workload that is wanted and may be seen, in order."""
        taken = self.take(self.clock.now())
        sight = Sight(caller, self.see_others)
        ranked = taken.ranked
        factors = row_factors(
            ranked.rows, ranked.terms, ranked.formula, now_us=ranked.now_us
        )
        found = []
        for number, (key, place) in enumerate(places_by_workload(taken), start=1):
            workload = self.board.workloads.get(WorkloadId(key))
            if workload is None or not (wanted(workload) and sight.lists(workload)):
                continue
            row = taken.row_at(place)
            found.append(
                without(
                    {
                        "rank": number,
                        "id": key,
                        "workspace": workload.workspace,
                        "name": workload.name,
                        "user": workload.submitter.user,
                        "tier": int(ranked.ranking.tier[row]),
                        "priority": int(ranked.ranking.priority[row]),
                        "terms": {n: int(part[row]) for n, part in taken.parts.items()},
                        "factors": {n: float(getattr(factors, n)[row]) for n in TERMS},
                    },
                    sight.hidden(workload),
                )
            )
        return found

    def lines(self, workload: Workload) -> list[str]:
        """A waiting workload's place, its sum, and who is ahead, in sentences."""
        now = self.clock.now()
        taken = self.take(now)
        place = taken.first.get(workload.workload_id)
        if place is None:
            return []
        ordered = [key for key, _ in places_by_workload(taken)]
        number = ordered.index(workload.workload_id)
        row = taken.row_at(place)
        tier = int(taken.ranked.ranking.tier[row])
        scavenges = (
            "; it runs on free time only, after all that is paid" if tier else ""
        )
        return [
            f"  turn: {number + 1} of {taken.count}{scavenges}",
            f"  priority {_sum_text(taken, row)}",
            f"  {self.ahead_text(ordered[:number])}",
            *self._difference(workload, ordered[:number], now),
        ]

    def ahead_text(self, ahead: Sequence[int]) -> str:
        """`3 workloads of ana are ahead`, by user, most first."""
        if not ahead:
            return "nothing is ahead"
        owners = [self.board.workloads.get(WorkloadId(key)) for key in ahead]
        counts = Counter(one.submitter.user for one in owners if one is not None)
        named = [
            f"{count} workload{'' if count == 1 else 's'} of {user}"
            for user, count in counts.most_common(_USERS_NAMED)
        ]
        rest = counts.total() - sum(c for _, c in counts.most_common(_USERS_NAMED))
        if rest:
            named.append(f"{rest} of {len(counts) - _USERS_NAMED} others")
        nearest = ", ".join(str(key) for key in ahead[-3:])
        verb = "is" if counts.total() == 1 else "are"
        return f"{', '.join(named)} {verb} ahead; nearest: {nearest}"

    def _difference(
        self, workload: Workload, ahead: Sequence[int], now: datetime
    ) -> list[str]:
        """Where the share tree first tells the user from the nearest other ahead."""
        mine = workload.submitter.user
        for key in reversed(ahead):
            other = self.board.workloads.get(WorkloadId(key))
            if other is not None and other.submitter.user != mine:
                theirs = other.submitter.user
                sentence = compare(self.tree.show(now), mine, theirs)
                return [f"  shares: {sentence}"]
        return []


def _sum_text(taken: TakenTurns, row: int) -> str:
    terms = {name: int(part[row]) for name, part in taken.parts.items()}
    nice = terms.pop("nice")
    said = [f"{name.replace('_', ' ')} {value}" for name, value in terms.items()]
    text = " + ".join(said) + (f" - nice {nice}" if nice else "")
    return f"{int(taken.ranked.ranking.priority[row])} = {text}"


def _term(name: str) -> Cell:
    return lambda row: str(row["terms"][name])


TURN_CELLS: dict[str, tuple[str, Cell]] = {
    "rank": ("RANK", lambda row: str(row["rank"])),
    "id": ("ID", lambda row: str(row["id"])),
    "workspace": ("WORKSPACE", text_cell("workspace")),
    "name": ("NAME", text_cell("name")),
    "user": ("USER", lambda row: row["user"]),
    "tier": ("TIER", lambda row: str(row["tier"])),
    "prio": ("PRIO", lambda row: str(row["priority"])),
    "fair_share": ("FAIR", _term("fair_share")),
    "credit": ("CREDIT", _term("credit")),
    "age": ("AGE", _term("age")),
    "slow_down": ("SLOW", _term("slow_down")),
    "points": ("QOS", _term("points")),
    "nice": ("-NICE", _term("nice")),
}
