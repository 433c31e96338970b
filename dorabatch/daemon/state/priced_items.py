"""What a container is billed for: the items of its hold, or of its dearest place.

Translates holds and demands into what prices speak of, and keeps the dearest place of
each demand while neither prices nor nodes change. Sets no price and posts nothing.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from dorabatch.daemon.state.credit_book import CreditBook
from dorabatch.daemon.state.fleet import Fleet
from dorabatch.daemon.state.node_view import NodeView
from dorabatch.daemon.state.spec_units import amounts
from dorabatch.fairshare.money.meter import Item, span_cost
from dorabatch.fairshare.money.price import PriceBook
from dorabatch.queue.demand import Demand
from dorabatch.queue.records import Hold

ANY_CPU = "CPU"
"""The product that prices a core of every CPU model without a price of its own."""


def hold_items(
    hold: Hold, view: NodeView | None, prices: PriceBook, zone: str
) -> tuple[Item, ...]:
    """The GPUs by model and the cores that a placed container is billed for."""
    models = Counter(hold.gpu_models)
    milli = hold.gpu_milli
    items = [Item(model=m, milli=count * milli) for m, count in models.items()]
    product = cpu_product(view, prices, zone)
    if product is not None and hold.cpu_milli:
        items.append(Item(model=product, milli=hold.cpu_milli))
    return tuple(items)


def accepted_items(
    demand: Demand, views: Sequence[NodeView], prices: PriceBook, zone: str
) -> list[tuple[Item, ...]]:
    """What a demand would be billed for on each node with a model it accepts."""
    found: dict[tuple[Item, ...], None] = {}
    for view in views:
        if view.facts is None:
            continue
        product = cpu_product(view, prices, zone)
        cpu = amounts(demand, view)[0] if product else 0
        cores = (Item(model=product, milli=cpu),) if product and cpu else ()
        if not demand.gpu_count:
            found[cores] = None
            continue
        milli = demand.gpu_count * demand.gpu_milli
        for model in {gpu.model for gpu in view.all_gpus}:
            if demand.gpu_models is None or model in demand.gpu_models:
                found[(Item(model=model, milli=milli), *cores)] = None
    return list(found)


def cpu_product(view: NodeView | None, prices: PriceBook, zone: str) -> str | None:
    """The priced product that a node's cores are, or None when they are free."""
    own = [view.facts.cpu_model] if view and view.facts else []
    for model in (*own, ANY_CPU):
        if prices.is_priced(zone, model):
            return model
    return None


_MINUTE_US = 60_000_000
_COSTS_MAX = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class _Costs:
    """Costs by demand, span and minute, and the prices and nodes they come from."""

    prices: PriceBook
    revision: int
    views: list[NodeView]
    known: dict[tuple[Demand, int, int], int] = field(default_factory=dict)


class DearestPlaces:
    """The dearest place of each demand in one zone."""

    def __init__(self, credits: CreditBook, fleet: Fleet) -> None:
        self._credits = credits
        self._fleet = fleet
        self._costs: _Costs | None = None

    def cost(self, demand: Demand, span_us: int, at: int) -> int:
        """Micro-credits for a span from a moment on; 0: no node has what it accepts."""
        costs = self._present()
        # Prices change at whole moments of their own; a minute is near enough here.
        key = (demand, span_us, at // _MINUTE_US)
        found = costs.known.get(key)
        if found is None:
            zone, prices = self._credits.zone, costs.prices
            found = max(
                (
                    span_cost(items, prices, zone=zone, at=at, span_us=span_us)
                    for items in accepted_items(demand, costs.views, prices, zone)
                ),
                default=0,
            )
            if len(costs.known) > _COSTS_MAX:
                costs.known.clear()
            costs.known[key] = found
        return found

    def _present(self) -> _Costs:
        prices, revision = self._credits.prices, self._fleet.capacity_revision
        costs = self._costs
        if costs is None or costs.prices is not prices or costs.revision != revision:
            revision, views = self._fleet.capacity()
            costs = _Costs(prices=prices, revision=revision, views=views)
            self._costs = costs
        return costs
