"""Two daemons with a zone each on one database: neither touches what is the other's."""

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import yaml

from tests.makers import V100
from tests.simulation import world as worlds
from tests.simulation.world import World
from tests.unit.daemon.test_share_commands import ME
from tests.unit.zone.conftest import Zone, job, served
from tests.unit.zone.test_credits import price, run_for, user

ROV, TEST = "dc-rov-01", "dc-test-01"
USER = user(dc_rov_01=5000, dc_test_01=100)


@pytest.fixture
def zones(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Zone]]:
    """Both zones, with nodes of the same names, in one database file."""
    with TemporaryDirectory(prefix="dora-") as place:
        folder = Path(place)
        # A daemon knows the users that are there when it starts.
        first = World(1, folder, credits=yaml.safe_dump(USER))
        monkeypatch.setattr(worlds, "ZONE", TEST)
        # The first world has already made what both of them remember states in.
        monkeypatch.setattr(worlds, "HISTORY", ())
        second = World(2, folder, credits="")
        with served(first, folder / "a") as rov, served(second, folder / "b") as test:
            yield {ROV: rov, TEST: test}


@pytest.mark.mission("M9", "M11")
def test_each_daemon_keeps_to_its_own_zone(zones: dict[str, Zone]) -> None:
    for name, zone in zones.items():
        zone.apply(job(replica={"count": 2}), job("b", metadata={"zone": name}))
        zone.go()
        zone.go()
    for name, zone in zones.items():
        assert [one.name for one in zone.jobs()] == ["a.1", "a.2", "b.1"]
        assert {row["zone"] for row in zone.json("dstat", "--all")} == {name}
        assert {row["zone"] for row in zone.json("dnode", "list")} == {name}
        (other,) = {*zones} - {name}
        said = zone.apply(job("c", metadata={"zone": other}), status=2)
        assert f"metadata.zone: '{other}' is not served here" in said
    before = {name: zone.ids("a") for name, zone in zones.items()}
    # A daemon that starts again finds what is its own, and the other one's goes on.
    zones[ROV].world.kill()
    zones[ROV].go()
    zones[TEST].run("dcancel", "--all", "--yes")
    zones[TEST].go()
    assert zones[ROV].ids("a") == before[ROV]
    assert zones[TEST].jobs() == []
    assert [one.zone for one in zones[ROV].world.live()] == [ROV, ROV]


@pytest.mark.mission("M81")
def test_one_model_has_a_price_and_a_bill_in_each_zone(zones: dict[str, Zone]) -> None:
    used = {}
    for name, hour in ((ROV, 2.5), (TEST, 1.25)):
        zones[name].apply(price(hour, name))
        run_for(zones[name], 30)
        (row,) = zones[name].json("dora", "get", "resourcecredit")
        assert (row["zone"], row["per_hour"]) == (name, hour)
        used[name] = zones[name].json("dora", "describe", "usercredit", ME)["used"]
    # Each bill is rounded down to whole micro-credits.
    assert used[ROV] == pytest.approx(2 * used[TEST], abs=2e-6)
    assert used[TEST] > 0
    assert {V100} == {
        one["model"]
        for zone in zones.values()
        for one in zone.json("dcredit", "statement")["models"]
    }


@pytest.mark.mission("M60")
def test_limits_of_zones_are_apart(zones: dict[str, Zone]) -> None:
    for name, hour in ((ROV, 2.5), (TEST, 60)):
        zones[name].apply(price(hour, name))
        zones[name].go()
    before = accounts(zones)
    weekly = {name: row["weekly"] for name, row in before.items()}
    assert weekly == {ROV: 5000, TEST: 100}
    run_for(zones[ROV], 30)
    zones[TEST].apply(job(selectors={"gpu": {"product_name": V100, "count": 2}}))
    zones[TEST].go()
    assert zones[TEST].jobs() == []
    assert "out of credit" in zones[TEST].json("dstat", "a")[0]["reason"]
    after = accounts(zones)
    assert 0 < after[ROV]["used"] == after[ROV]["used_this_week"]
    assert after[ROV]["available"] < before[ROV]["available"]
    assert after[TEST] == before[TEST]


def accounts(zones: dict[str, Zone]) -> dict[str, Any]:
    """The account of whoever runs the tests in each zone."""
    return {
        name: zone.json("dora", "describe", "usercredit", ME)
        for name, zone in zones.items()
    }
