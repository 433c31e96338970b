"""What a workload would cost and when it would start, before it is submitted.

Asks the same admission, prices, order and forecast as a real submission would meet;
stores nothing and holds nothing.
"""

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import numpy as np

from dorabatch.daemon.cycle.queue_order import rank_pending
from dorabatch.daemon.intake.admit import Intake
from dorabatch.daemon.rights import Caller
from dorabatch.daemon.state.claim_book import ClaimBook
from dorabatch.daemon.state.priced_items import accepted_items
from dorabatch.daemon.state.services import Services
from dorabatch.daemon.state.spec_units import claim_of_spec, demand_of_spec
from dorabatch.daemon.views.expected_starts import expected_starts
from dorabatch.fairshare.money.meter import Item, span_cost
from dorabatch.queue.columns import number_of
from dorabatch.queue.demand import PendingArrays
from dorabatch.queue.pending import PendingQueue
from dorabatch.queue.records import Container, ContainerId, WorkloadId
from dorabatch.queue.states import State
from dorabatch.resources.workload import WorkloadDocument, WorkloadSpec
from dorabatch.units import MICROSECONDS_PER_HOUR, credits_number, microseconds_of

_LISTS = {
    "selector": "selectors",
    "restriction": "restrictions",
    "claim": "claims",
}
"""Columns that hold numbers, and the lists that those point into."""
_ID = 2**62
"""An id that no workload has; on a tie the newest goes last."""
_SECOND_US = 1_000_000
_REPLICAS_SHOWN = 100
_NO_FORECAST = "no forecast (no GPU asked for, no place that fits, or too far back)"
_NO_CREDIT = "no forecast (it would wait for credit)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """A place that will do: what it is, and what all containers cost there.

    Micro-credits for an hour, and for the time limit (or the rolling hour).
    """

    model: str
    per_hour: int
    whole: int


def quote(
    services: Services, intake: Intake, caller: Caller, document: WorkloadDocument
) -> dict[str, Any]:
    """The quote as a record, amounts in credits; raises what admission raises."""
    new, warnings = intake.admit(caller, document)
    now, spec = services.clock.now(), document.spec
    offers = _offers(services, spec, now)
    limit = spec.config.run_seconds_max
    dearest = max((one.whole for one in offers), default=0)
    standing = services.credits.standing(caller.user, now, dearest)
    covers = standing.covers(dearest)
    can_start = covers or standing.on_exhaust == "demote"
    rank, count, start = _turn(services, spec, caller.user, new.workspace, now)
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
        "available": (
            None if standing.available is None else credits_number(standing.available)
        ),
        "covered": covers,
        "credit": _credit_text(services, caller.user, dearest, covers, now),
        "rank": rank,
        "waiting": count,
        "start": start if can_start else None,
        "waits_for_credit": not can_start,
        "start_record": services.outlook.record,
        "warnings": warnings,
    }


def quote_text(record: dict[str, Any]) -> str:
    """The quote as lines."""
    limit = record["limit_seconds"]
    lines = [f"{_offer_text(one, limit)}\n" for one in record["offers"]] or [
        "no cost to tell: no node known here has what it accepts; see dnode list\n"
    ]
    lines.append(f"{record['credit']}\n")
    place = f"turn: {record['rank']} of {record['waiting']}"
    why_none = _NO_CREDIT if record["waits_for_credit"] else _NO_FORECAST
    start = record["start"] or why_none
    lines.append(f"{place}; start: {start}; {record['start_record']}\n")
    lines.append("nothing was submitted\n")
    return "".join(lines)


def _offer_text(offer: dict[str, Any], limit: int | None) -> str:
    text = f"{offer['model']}: {offer['per_hour']} credits an hour"
    if limit is None:
        return f"{text}, for as long as it runs"
    return f"{text}, {offer['for_limit']} for its limit of {limit / 3600:g} h"


def _offers(services: Services, spec: WorkloadSpec, now: datetime) -> list[Offer]:
    """What every accepted GPU model costs at its dearest node, cheapest first."""
    desk, at = services.credits, microseconds_of(now)
    demand, limit = demand_of_spec(spec, 1), spec.config.run_seconds_max
    views = services.fleet.views()
    found: dict[str, Offer] = {}
    for items in accepted_items(demand, views, desk.prices, desk.zone):
        prices = {"prices": desk.prices, "zone": desk.zone, "at": at}
        span = services.billing.held_us(None if limit is None else limit * _SECOND_US)
        hour = span_cost(items, span_us=MICROSECONDS_PER_HOUR, **prices)  # type: ignore[arg-type]  # fields by name
        whole = span_cost(items, span_us=span, **prices)  # type: ignore[arg-type]  # fields by name
        name = _model_of(items, demand.gpu_count > 0)
        offer = Offer(
            model=name, per_hour=hour * spec.replicas, whole=whole * spec.replicas
        )
        if name not in found or found[name].whole < offer.whole:
            found[name] = offer
    return sorted(found.values(), key=lambda one: (one.per_hour, one.model))


def _model_of(items: tuple[Item, ...], has_gpu: bool) -> str:
    return items[0].model if has_gpu and items else "cores"


def _credit_text(
    services: Services, user: str, need: int, covers: bool, now: datetime
) -> str:
    standing = services.credits.standing(user, now, need)
    if standing.available is None:
        return f"credit: {user} is not limited"
    available = credits_number(standing.available)
    if covers:
        return f"credit: covered, {available} credits are available"
    meanwhile = {
        "demote": "until then it runs on free time only",
        "hold": "until then it waits",
        "stop": "until then it waits",
    }[standing.on_exhaust]
    return (
        f"credit: not covered: needs {credits_number(need)}, {available} credits are "
        f"available; {_when(services, user, need, now)}; {meanwhile}"
    )


def _when(services: Services, user: str, need: int, now: datetime) -> str:
    """When the balance would cover it: at the reset, if that gives enough."""
    standing = services.credits.standing(user, now, need)
    weekly = services.people.weekly_of(services.credits.zone, standing.account)
    if weekly is None:
        return "it is covered after a grant by an admin"
    if weekly.amount < need:
        return (
            f"the weekly {credits_number(weekly.amount)} never cover it; shorten the "
            "time limit, or ask an admin for a grant"
        )
    return f"it is covered when credit {standing.when()}"


def _turn(
    services: Services, spec: WorkloadSpec, user: str, workspace: str, now: datetime
) -> tuple[int, int, str | None]:
    """(rank, how many workloads wait then, the start in words)."""
    waiting = services.board.pending.arrays()
    pending = _joined(waiting, _own(spec, user, workspace, now))
    # What is only asked about must not mix with the claims that the cycle keeps.
    asked = replace(services, claims=ClaimBook(services.policy, services.history))
    order = rank_pending(asked, pending, now).ranking.order
    groups = pending.group[order]
    found, places = np.unique(groups, return_index=True)
    mine = int(places[found == _ID][0])
    start = expected_starts(services, pending, order, now).get(_ID)
    rank = int((places < mine).sum()) + 1
    return rank, len(found), None if start is None else start.text()


def _own(spec: WorkloadSpec, user: str, workspace: str, now: datetime) -> PendingArrays:
    """The columns that the workload would have."""
    queue = PendingQueue()
    for replica in range(1, max(1, min(spec.replicas, _REPLICAS_SHOWN)) + 1):
        container = Container(
            container_id=ContainerId(_ID + replica),
            workload_id=WorkloadId(_ID),
            replica=replica,
            state=State.QUEUED,
            rev=1,
            version=1,
            attempt=0,
            queued_at=now,
        )
        queue.put(
            container,
            demand=demand_of_spec(spec, replica),
            claim=claim_of_spec(spec, user, workspace),
            submitted_at=now,
        )
    return queue.arrays()


def _joined(one: PendingArrays, more: PendingArrays) -> PendingArrays:
    """Both queues as one; what both have in a list keeps its one number."""
    lists: dict[str, Any] = {}
    columns: dict[str, Any] = {}
    for name in PendingArrays.__slots__:
        if name not in _LISTS.values():
            added = getattr(more, name)
            if name in _LISTS:
                listed = _LISTS[name]
                numbers = {item: at for at, item in enumerate(getattr(one, listed))}
                new = [number_of(numbers, item) for item in getattr(more, listed)]
                added = np.array(new, dtype=np.int64)[added]
                lists[listed] = tuple(numbers)
            columns[name] = np.concatenate([getattr(one, name), added])
    return replace(one, **columns, **lists)
