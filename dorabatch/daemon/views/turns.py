"""Whose turn it is: every waiting workload with its place and the terms of its sum.

Ranks with the cycle's own function and explains; changes nothing.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np

from dorabatch.daemon.cycle.queue_order import Ranked, rank_pending
from dorabatch.daemon.state.services import Services
from dorabatch.daemon.views.rows import Cell
from dorabatch.daemon.views.share_tree import compare, show_tree
from dorabatch.fairshare.turn.ranking import TERMS, priority_parts, row_factors
from dorabatch.queue.records import Workload, WorkloadId

TURN_COLUMNS = (
    "rank", "id", "workspace", "name", "user", "tier", "prio", "fair_share", "credit",
    "age", "slow_down", "points", "nice",
)  # fmt: skip
_USERS_NAMED = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Turns:
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


def take_turns(services: Services, now: datetime) -> Turns:
    """Rank what waits now."""
    ranked = rank_pending(services, services.board.pending.arrays(), now)
    groups = ranked.pending.group[ranked.ranking.order]
    found, places = np.unique(groups, return_index=True)
    return Turns(
        ranked=ranked,
        parts=priority_parts(
            ranked.rows, ranked.terms, ranked.formula, now_us=ranked.now_us
        ),
        first=dict(zip(found.tolist(), places.tolist(), strict=True)),
        count=len(found),
    )


def places_by_workload(turns: Turns) -> list[tuple[int, int]]:
    """(workload, place of its first container), in order."""
    return sorted(turns.first.items(), key=lambda pair: pair[1])


def turn_rows(
    services: Services, turns: Turns, wanted: Callable[[Workload], bool]
) -> list[dict[str, Any]]:
    """One row a waiting workload that is wanted, in order."""
    factors = row_factors(
        turns.ranked.rows,
        turns.ranked.terms,
        turns.ranked.formula,
        now_us=turns.ranked.now_us,
    )
    found = []
    for number, (key, place) in enumerate(places_by_workload(turns), start=1):
        workload = services.board.workloads.get(WorkloadId(key))
        if workload is None or not wanted(workload):
            continue
        row = turns.row_at(place)
        found.append(
            {
                "rank": number,
                "id": key,
                "workspace": workload.workspace,
                "name": workload.name,
                "user": workload.submitter.user,
                "tier": int(turns.ranked.ranking.tier[row]),
                "priority": int(turns.ranked.ranking.priority[row]),
                "terms": {n: int(part[row]) for n, part in turns.parts.items()},
                "factors": {n: float(getattr(factors, n)[row]) for n in TERMS},
            }
        )
    return found


def turn_lines(services: Services, workload: Workload, now: datetime) -> list[str]:
    """A waiting workload's place, its sum, and who is ahead, in sentences."""
    turns = take_turns(services, now)
    place = turns.first.get(workload.workload_id)
    if place is None:
        return []
    ordered = [key for key, _ in places_by_workload(turns)]
    number = ordered.index(workload.workload_id)
    row = turns.row_at(place)
    tier = int(turns.ranked.ranking.tier[row])
    scavenges = "; it runs on free time only, after all that is paid" if tier else ""
    return [
        f"  turn: {number + 1} of {turns.count}{scavenges}",
        f"  priority {_sum_text(turns, row)}",
        f"  {ahead_text(services, ordered[:number])}",
        *_difference(services, workload, ordered[:number], now),
    ]


def _difference(
    services: Services, workload: Workload, ahead: Sequence[int], now: datetime
) -> list[str]:
    """Where the share tree first tells the user from the nearest other one ahead."""
    mine = workload.submitter.user
    for key in reversed(ahead):
        other = services.board.workloads.get(WorkloadId(key))
        if other is not None and other.submitter.user != mine:
            theirs = other.submitter.user
            sentence = compare(show_tree(services, now), mine, theirs)
            return [f"  shares: {sentence}"]
    return []


def ahead_text(services: Services, ahead: Sequence[int]) -> str:
    """`3 workloads of ana are ahead`, by user, most first."""
    if not ahead:
        return "nothing is ahead"
    board = services.board
    owners = [board.workloads.get(WorkloadId(key)) for key in ahead]
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


def _sum_text(turns: Turns, row: int) -> str:
    terms = {name: int(part[row]) for name, part in turns.parts.items()}
    nice = terms.pop("nice")
    said = [f"{name.replace('_', ' ')} {value}" for name, value in terms.items()]
    text = " + ".join(said) + (f" - nice {nice}" if nice else "")
    return f"{int(turns.ranked.ranking.priority[row])} = {text}"


def _term(name: str) -> Cell:
    return lambda row: str(row["terms"][name])


TURN_CELLS: dict[str, tuple[str, Cell]] = {
    "rank": ("RANK", lambda row: str(row["rank"])),
    "id": ("ID", lambda row: str(row["id"])),
    "workspace": ("WORKSPACE", lambda row: row["workspace"]),
    "name": ("NAME", lambda row: row["name"]),
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
