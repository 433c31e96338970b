"""What the dearest place costs: by the prices and the nodes of one moment."""

import pytest

from dorabatch.daemon.state import priced_items as module
from dorabatch.daemon.state.priced_items import DearestPlaces
from dorabatch.daemon.state.spec_units import demand_of_spec
from dorabatch.units import MICROSECONDS_PER_HOUR, microseconds_of
from tests.makers import RTX, START, document, facts, gpus, node_settings
from tests.unit.daemon.conftest import Parts
from tests.unit.daemon.credits import Site, site_of

CREDIT = 1_000_000


@pytest.fixture
def site(parts: Parts) -> Site:
    """n1 with four V100 at 2 credits an hour."""
    made = site_of(parts)
    made.price(2)
    made.price(3, name=RTX)
    return made


def cost(site: Site, places: DearestPlaces) -> float:
    """Credits for one GPU of any model, for an hour."""
    demand, at = demand_of_spec(document().spec, 1), site.parts.clock.now()
    found = places.cost(demand, MICROSECONDS_PER_HOUR, microseconds_of(at))
    return found / CREDIT


def test_it_follows_prices_and_nodes(site: Site) -> None:
    places = DearestPlaces(site.parts.books.credits, site.parts.books.fleet)
    assert cost(site, places) == 2
    add_rtx(site)
    assert cost(site, places) == 3
    site.parts.clock.advance(1)
    site.price(5)
    assert cost(site, places) == 5


def test_what_others_make_meanwhile_is_not_mixed_in(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    places = DearestPlaces(site.parts.books.credits, site.parts.books.fleet)
    real, inner = module.accepted_items, []

    def meanwhile(*args):
        if not inner:
            inner.append(0.0)
            add_rtx(site)
            inner[0] = cost(site, places)
        return real(*args)

    monkeypatch.setattr(module, "accepted_items", meanwhile)
    assert cost(site, places) == 2
    assert inner == [3]
    assert cost(site, places) == 3


def add_rtx(site: Site) -> None:
    """A node with dearer GPUs answers for the first time."""
    fleet = site.parts.books.fleet
    fleet.put(node_settings("n2"))
    fleet.seen("n2", START, facts(hostname="n2", gpus=gpus(1, RTX)))
