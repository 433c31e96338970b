"""What a container costs: the items of its hold, and the dearest place it accepts.

Translates holds and demands into what prices speak of; decides no price itself.
"""

from collections import Counter
from collections.abc import Sequence

from dorabatch.daemon.state.node_view import NodeView
from dorabatch.daemon.state.slices import amounts
from dorabatch.fairshare.money.meter import Item
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
        for model in {gpu.model for gpu in view.facts.gpus}:
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
