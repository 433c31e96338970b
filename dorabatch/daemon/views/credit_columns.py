"""Until when running containers are paid, and what they have cost.

Reads memory; changes nothing.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from dorabatch.daemon.state.billed_runs import present_scene
from dorabatch.daemon.state.charging import Billing
from dorabatch.daemon.state.credit_book import CreditBook, run_name
from dorabatch.queue.board import Board
from dorabatch.queue.records import Container, ContainerId
from dorabatch.units import credits_number, microseconds_of, moment_of


@dataclass(frozen=True, slots=True, kw_only=True)
class CreditColumns:
    """What is shown of the credit of runs."""

    board: Board
    billing: Billing
    credits: CreditBook

    def at(self, now: datetime) -> "CreditMoment":
        """All that is billed now, added up once for many rows."""
        at, billing = microseconds_of(now), self.billing
        scene = present_scene(self.credits, billing, self.board)
        return CreditMoment(
            paid=scene.paid_until(at),
            cost={
                one.last.run: billing.total(
                    one.container, one.meters, billing.seen_until(one.container, at)
                )
                for one in scene.billed
            },
            free=frozenset(o.last.run for o in scene.billed if not o.last.is_billed),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class CreditMoment:
    """The credit of runs at one moment: paid until when, cost so far, who runs free."""

    paid: Mapping[ContainerId, int]
    cost: Mapping[str, int]
    free: frozenset[str]

    def of(self, containers: Iterable[Container]) -> dict[str, Any]:
        """`paid_until` (the first to end), `cost` so far in credits, `runs_free`.

        `cost` None: nothing is charged for what runs; `runs_free`: credit is used up.
        """
        shown = list(containers)
        ends = [
            self.paid[one.container_id]
            for one in shown
            if one.container_id in self.paid
        ]
        runs = [run_name(one) for one in shown]
        costs = [self.cost[run] for run in runs if run in self.cost]
        # The last whole second that is paid in full.
        paid = moment_of(min(ends)).replace(microsecond=0) if ends else None
        return {
            "paid_until": paid.isoformat() if paid else None,
            "cost": credits_number(sum(costs)) if costs else None,
            "runs_free": not self.free.isdisjoint(runs),
        }
