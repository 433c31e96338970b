"""Until when running containers are paid, and what they have cost.

Reads memory; changes nothing.
"""

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from dorabatch.daemon.state.billed_runs import present_scene
from dorabatch.daemon.state.credit_book import run_name
from dorabatch.daemon.state.services import Services
from dorabatch.queue.records import Container
from dorabatch.units import credits_number, microseconds_of, moment_of


class CreditShown:
    """What is shown of credit at one moment."""

    def __init__(self, services: Services, now: datetime) -> None:
        at, billing = microseconds_of(now), services.billing
        scene = present_scene(services.credits, billing, services.board)
        self._paid = scene.paid_until(at)
        self._cost = {
            one.last.run: billing.total(
                one.container, one.meters, billing.seen_until(one.container, at)
            )
            for one in scene.billed
        }
        self._free = {one.last.run for one in scene.billed if not one.last.is_billed}

    def of(self, containers: Iterable[Container]) -> dict[str, Any]:
        """`paid_until` (the first to end), `cost` so far in credits, `runs_free`.

        `cost` None: nothing is charged for what runs; `runs_free`: credit is used up.
        """
        shown = list(containers)
        ends = [
            self._paid[one.container_id]
            for one in shown
            if one.container_id in self._paid
        ]
        costs = [self._cost[r] for r in map(run_name, shown) if r in self._cost]
        # The last whole second that is paid in full.
        paid = moment_of(min(ends)).replace(microsecond=0) if ends else None
        return {
            "paid_until": paid.isoformat() if paid else None,
            "cost": credits_number(sum(costs)) if costs else None,
            "runs_free": any(run in self._free for run in map(run_name, shown)),
        }
