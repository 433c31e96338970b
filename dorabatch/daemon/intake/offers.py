"""What a workload would cost at each kind of place that it accepts.

Asks the prices that a real run would meet; reserves and charges nothing.
"""

from dataclasses import dataclass
from datetime import datetime

from dorabatch.daemon.state.charging import Billing
from dorabatch.daemon.state.credit_book import CreditBook
from dorabatch.daemon.state.fleet import Fleet
from dorabatch.daemon.state.priced_items import accepted_items
from dorabatch.daemon.state.spec_units import demand_of_spec
from dorabatch.fairshare.money.meter import Item, span_cost
from dorabatch.resources.workload import WorkloadSpec
from dorabatch.units import MICROSECONDS_PER_HOUR, microseconds_of

_SECOND_US = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """A place that will do: what it is, and what all containers cost there.

    Micro-credits for an hour, and for the time limit (or the rolling hour).
    """

    model: str
    per_hour: int
    whole: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Offers:
    """What places in the zone cost."""

    credits: CreditBook
    billing: Billing
    fleet: Fleet

    def of(self, spec: WorkloadSpec, now: datetime) -> list[Offer]:
        """Every accepted GPU model at its dearest node, cheapest first."""
        at, zone, prices = microseconds_of(now), self.credits.zone, self.credits.prices
        demand, limit = demand_of_spec(spec, 1), spec.config.run_seconds_max
        span = self.billing.held_us(None if limit is None else limit * _SECOND_US)
        found: dict[str, Offer] = {}
        for items in accepted_items(demand, self.fleet.views(), prices, zone):
            hour, whole = (
                span_cost(items, prices, zone=zone, at=at, span_us=span_us)
                for span_us in (MICROSECONDS_PER_HOUR, span)
            )
            name = _model_of(items, demand.gpu_count > 0)
            offer = Offer(
                model=name, per_hour=hour * spec.replicas, whole=whole * spec.replicas
            )
            if name not in found or found[name].whole < offer.whole:
                found[name] = offer
        return sorted(found.values(), key=lambda one: (one.per_hour, one.model))


def _model_of(items: tuple[Item, ...], has_gpu: bool) -> str:
    return items[0].model if has_gpu and items else "cores"
