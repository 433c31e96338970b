"""What a workload would cost and when it would start, before it is submitted.

Asks the same admission, prices, order and forecast as a real submission would meet;
stores nothing and holds nothing.
"""

from dataclasses import dataclass
from typing import Any

from dorabatch.clock import Clock
from dorabatch.daemon.intake.admit import Intake
from dorabatch.daemon.intake.offers import Offers
from dorabatch.daemon.intake.quoted_turn import QuotedTurns
from dorabatch.daemon.rights import Caller
from dorabatch.daemon.state.credit_book import CreditBook
from dorabatch.daemon.state.start_forecasts import StartForecasts
from dorabatch.fairshare.money.standing import Standing
from dorabatch.resources.workload import WorkloadDocument
from dorabatch.units import credits_number

_NO_FORECAST = "no forecast (no GPU asked for, no place that fits, or too far back)"
_NO_CREDIT = "no forecast (it would wait for credit)"
_DEPENDS = "no forecast (it depends on other workloads)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Quotes:
    """Quotes for workloads of one zone."""

    intake: Intake
    offers: Offers
    turns: QuotedTurns
    credits: CreditBook
    forecasts: StartForecasts
    clock: Clock

    def quote(self, caller: Caller, document: WorkloadDocument) -> dict[str, Any]:
        """The quote as a record, amounts in credits; raises what admission raises."""
        new, warnings = self.intake.admit(caller, document)
        now, spec = self.clock.now(), document.spec
        offers = self.offers.of(spec, now)
        limit = spec.config.run_seconds_max
        dearest = max((one.whole for one in offers), default=0)
        standing = self.credits.standing(caller.user, now, dearest)
        covers = standing.covers(dearest)
        can_start = covers or standing.on_exhaust == "demote"
        depends = bool(new.dependency)
        turn = self.turns.of(spec, caller.user, new.workspace, now)
        available = standing.available
        return {
            "workspace": new.workspace,
            "containers": spec.replicas,
            "limit_seconds": limit,
            "offers": [
                {
                    "model": one.model,
                    "per_hour": credits_number(one.per_hour),
                    "for_limit": None if limit is None else credits_number(one.whole),
                }
                for one in offers
            ],
            "held_at_most": credits_number(dearest),
            "available": None if available is None else credits_number(available),
            "covered": covers,
            "credit": self._credit_text(caller.user, standing, dearest),
            "rank": turn.rank,
            "waiting": turn.waiting,
            "start": turn.start if can_start and not depends else None,
            "depends": depends,
            "waits_for_credit": not can_start,
            "start_record": self.forecasts.last.record,
            "warnings": warnings,
        }

    def _credit_text(self, user: str, standing: Standing, need: int) -> str:
        if standing.available is None:
            return f"credit: {user} is not limited"
        available = credits_number(standing.available)
        if standing.covers(need):
            return f"credit: covered, {available} credits are available"
        meanwhile = {
            "demote": "until then it runs on free time only",
            "hold": "until then it waits",
            "stop": "until then it waits",
        }[standing.on_exhaust]
        return (
            f"credit: not covered: needs {credits_number(need)}, {available} credits "
            f"are available; {self._when(standing, need)}; {meanwhile}"
        )

    def _when(self, standing: Standing, need: int) -> str:
        """When the balance would cover it: at the reset, if that gives enough."""
        credits = self.credits
        weekly = credits.people.weekly_of(credits.zone, standing.account)
        if weekly is None:
            return "it is covered after a grant by an admin"
        if weekly.amount < need:
            return (
                f"the weekly {credits_number(weekly.amount)} never cover it; shorten "
                "the time limit, or ask an admin for a grant"
            )
        return f"it is covered when credit {standing.when()}"


def quote_text(record: dict[str, Any]) -> str:
    """The quote as lines."""
    limit = record["limit_seconds"]
    lines = [f"{_offer_text(one, limit)}\n" for one in record["offers"]] or [
        "no cost to tell: no node known here has what it accepts; see dnode list\n"
    ]
    lines.append(f"{record['credit']}\n")
    place = f"turn: {record['rank']} of {record['waiting']}"
    why_none = _NO_CREDIT if record["waits_for_credit"] else _NO_FORECAST
    why_none = _DEPENDS if record["depends"] else why_none
    start = record["start"] or why_none
    lines.append(f"{place}; start: {start}; {record['start_record']}\n")
    lines.append("nothing was submitted\n")
    return "".join(lines)


def _offer_text(offer: dict[str, Any], limit: int | None) -> str:
    text = f"{offer['model']}: {offer['per_hour']} credits an hour"
    if limit is None:
        return f"{text}, for as long as it runs"
    return f"{text}, {offer['for_limit']} for its limit of {limit / 3600:g} h"
