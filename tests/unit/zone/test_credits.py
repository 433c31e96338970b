"""What users and admins see of credits, typed as commands."""

from typing import Any

import pytest

from tests.makers import V100
from tests.unit.daemon.test_share_commands import ME
from tests.unit.zone.conftest import Zone, job

HOUR = 3600


def price(hour: float, zone: str, **spec: object) -> dict[str, Any]:
    """A price of a V100."""
    return {
        "apiVersion": "v1",
        "kind": "Resourcecredit",
        "metadata": {"name": V100, "zone": zone},
        "spec": {"credit": {"per": {"hour": hour}}, **spec},
    }


def user(**weekly: float) -> dict[str, Any]:
    """Whoever runs the tests, with weekly credit in zones."""
    credits = [
        {"zone": zone.replace("_", "-"), "weekly": amount}
        for zone, amount in weekly.items()
    ]
    return {
        "apiVersion": "v1",
        "kind": "User",
        "metadata": {"name": ME},
        "spec": {"credits": credits},
    }


def run_for(zone: Zone, seconds: float, gpus: int = 2) -> None:
    """Something runs on V100s for so long, looked at all the time, and is over."""
    zone.apply(job(selectors={"gpu": {"product_name": V100, "count": gpus}}))
    zone.go()
    (one,) = zone.jobs("a")
    started = zone.world.clock.now()
    while (zone.world.clock.now() - started).total_seconds() < seconds:
        zone.go(3)
    zone.world.nodes[one.node].exit(one.there.facts.name, 0)
    zone.go()


@pytest.mark.mission("M82")
def test_the_unit_of_a_price_is_shown_with_what_was_used(zone: Zone) -> None:
    zone.apply(price(2.5, "dc-rov-01", annotations={"priceUnit": "EUR"}))
    run_for(zone, 20)
    (model,) = zone.json("dcredit", "statement")["models"]
    assert (model["model"], model["price_unit"]) == (V100, "EUR")
    (line,) = (x for x in zone.run("dcredit", "statement").splitlines() if V100 in x)
    assert "EUR" in line
    zone.apply(price(2.5, "dc-rov-01", annotations={"priceUnit": None}))
    (model,) = zone.json("dcredit", "statement")["models"]
    assert model["price_unit"] is None
    (line,) = (x for x in zone.run("dcredit", "statement").splitlines() if V100 in x)
    assert "EUR" not in line and "None" not in line


@pytest.mark.mission("M84")
def test_users_see_what_they_get_and_until_when(zone: Zone) -> None:
    zone.apply(user(dc_rov_01=500, dc_test_01=100))
    found = zone.json("dcredit", "balance")
    assert (found["name"], found["zone"], found["weekly"]) == (ME, "dc-rov-01", 500)
    assert found["resets_at"] == "2026-01-12T00:00:00+00:00"
    text = zone.run("dcredit", "balance")
    assert "weekly          500" in text
    assert "2026-01-12T00:00:00+00:00" in text
