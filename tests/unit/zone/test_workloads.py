"""What becomes of a workload on its nodes when it is scaled, changed or looked at."""

import pytest

from tests.makers import V100
from tests.unit.daemon.test_share_commands import ME
from tests.unit.zone.conftest import Zone, job

ON_N1 = {"cpu": {"count": 1}, "node": {"name": "n1"}}


def kinds(zone: Zone, name: str) -> set[str]:
    """What kinds of events a workload has; each has a moment."""
    events = zone.json("dora", "describe", "workload", name)["events"]
    assert all(event["at"].startswith("2026-01-05T") for event in events)
    return {event["kind"] for event in events}


@pytest.mark.mission("M21")
@pytest.mark.parametrize("count", [1, 2, 7])
def test_so_many_containers_with_numbers(zone: Zone, count: int) -> None:
    zone.apply(job(replica={"count": count}), job("b"))
    zone.go()
    names = [f"a.{number}" for number in range(1, count + 1)]
    assert [one.name for one in zone.jobs("a")] == names
    listed = zone.json("dora", "get", "container")
    assert [row["name"] for row in listed] == [*names, "b.1"]


@pytest.mark.mission("M22")
def test_scaling_leaves_the_others_alone(zone: Zone) -> None:
    zone.apply(job(replica={"count": 2}))
    zone.go()
    before = zone.ids("a")
    zone.apply(job(replica={"count": 3}))
    zone.go()
    after = zone.ids("a")
    assert list(after) == ["a.1", "a.2", "a.3"]
    assert before.items() < after.items()
    zone.apply(job(replica={"count": 1}))
    zone.go()
    assert zone.ids("a") == {"a.1": before["a.1"]}


@pytest.mark.mission("M23")
def test_scaled_to_nothing_the_definition_stays(zone: Zone) -> None:
    text = job(config={"cmd": "sleep 601"}, replica={"count": 2})
    zone.apply(text)
    zone.go()
    zone.apply({**text, "spec": {**text["spec"], "replica": {"count": 0}}})
    zone.go()
    assert zone.jobs() == []
    kept = zone.json("dora", "describe", "workload", "a")
    assert kept["spec"]["config"]["cmd"] == ["sleep", "601"]
    assert (kept["replicas"], kept["ended_at"]) == (0, None)
    assert "scaled" in zone.apply(text)
    zone.go()
    assert [one.name for one in zone.jobs()] == ["a.1", "a.2"]


@pytest.mark.mission("M24")
def test_another_image_restarts_all_and_another_order_none(zone: Zone) -> None:
    text = job(replica={"count": 2}, config={"cmd": "sleep 600", "env": {"A": 1}})
    zone.apply(text)
    zone.go()
    before = zone.ids("a")
    turned = {"spec": dict(reversed(text["spec"].items()))}
    assert "not changed" in zone.apply(
        {**turned, **{k: text[k] for k in text if k != "spec"}}
    )
    zone.go()
    assert zone.ids("a") == before
    zone.apply({**text, "spec": {**text["spec"], "image": {"image": "debian"}}})
    zone.go()
    after = zone.ids("a")
    assert list(after) == ["a.1", "a.2"]
    assert not set(after.values()) & set(before.values())
    assert {one.there.wish.image for one in zone.jobs()} == {"debian"}


@pytest.mark.mission("M25")
def test_each_changed_spec_is_a_dated_version(zone: Zone) -> None:
    first, second = job(), job(image={"image": "debian"})
    for document in (first, second, second, first):
        zone.apply(document)
        zone.go()
    found = zone.json("dora", "describe", "workload", "a")
    assert [one["version"] for one in found["versions"]] == [1, 2, 3]
    moments = [one["at"] for one in found["versions"]]
    assert moments == sorted(set(moments))
    assert found["version"] == 3
    assert [one.there.wish.image for one in zone.jobs()] == ["busybox"]


@pytest.mark.mission("M26")
def test_each_step_leaves_an_event(zone: Zone) -> None:
    zone.apply(job(), job("b", selectors=ON_N1))
    zone.go()
    assert kinds(zone, "a") >= {"submit", "place", "start"}
    zone.run("dcancel", "a")
    zone.go()
    assert kinds(zone, "a") >= {"stop", "end"}
    zone.world.nodes["n1"].reboot()
    zone.go(61)
    assert kinds(zone, "b") >= {"exit", "requeue"}


@pytest.mark.mission("M26")
def test_a_stop_for_want_of_credit_leaves_an_event(zone: Zone) -> None:
    price = {"metadata": {"name": V100}, "spec": {"credit": {"per": {"hour": 2.5}}}}
    zone.apply({"apiVersion": "v1", "kind": "Resourcecredit", **price})
    zone.apply(
        {
            "apiVersion": "v1",
            "kind": "User",
            "metadata": {"name": ME},
            "spec": {"credits": [{"zone": "dc-rov-01", "weekly": 0.4}]},
        }
    )
    credits = zone.world.books.credits
    credits.settings = credits.settings.model_copy(update={"open_ended_seconds": 60})
    gpu = {"gpu": {"product_name": V100, "count": 2}}
    zone.apply(job(selectors=gpu))
    zone.go()
    assert [one.name for one in zone.jobs()] == ["a.1"]
    for _ in range(10):
        zone.go(10)
    assert zone.jobs() == []
    events = zone.json("dora", "describe", "workload", "a")["events"]
    told = [one["text"] for one in events if one["kind"] == "credit"]
    assert "out of credit: stopped, goes on when credit is back" in told[-1]
    assert kinds(zone, "a") >= {"credit", "requeue"}


@pytest.mark.mission("M35")
@pytest.mark.parametrize(
    ("policy", "pulls"),
    [({"pullPolicy": "Always"}, 3), ({"pullPolicy": "IfNotPresent"}, 1), ({}, 1)],
)
def test_an_image_is_pulled_each_time_or_once(
    zone: Zone, policy: dict[str, str], pulls: int
) -> None:
    node = zone.world.nodes["n1"]
    node.images = set()
    for name in ("a", "b", "c"):
        zone.apply(job(name, selectors=ON_N1, image={"image": "tools:1", **policy}))
        zone.go()
    assert [one.name for one in zone.jobs()] == ["a.1", "b.1", "c.1"]
    pulled = [image for _, what, image in node.calls if what == "pull"]
    assert pulled == ["tools:1"] * pulls


@pytest.mark.mission("M36")
@pytest.mark.parametrize(
    ("cmd", "argv"),
    [
        (
            "python train.py --note \"two  words\" 'a b'",
            ("python", "train.py", "--note", "two  words", "a b"),
        ),
        (["sh", "-c", "echo  'a' \"b\" $HOME"], ("sh", "-c", "echo  'a' \"b\" $HOME")),
    ],
)
def test_words_of_a_command_arrive_as_written(
    zone: Zone, cmd: object, argv: tuple[str, ...]
) -> None:
    zone.apply(job(config={"cmd": cmd}))
    zone.go()
    assert [one.there.wish.argv for one in zone.jobs()] == [argv]


@pytest.mark.mission("M65")
def test_a_description_says_all(zone: Zone) -> None:
    gpu = {"gpu": {"product_name": V100, "count": 4}}
    zone.apply(job(selectors=gpu), job("waits", selectors=gpu))
    zone.go()
    found = zone.json("dora", "describe", "workload", "a")
    (one,) = found["containers"]
    (there,) = zone.jobs()
    assert found["spec"]["selectors"]["gpu"] == {"product_name": [V100], "count": 4}
    assert (found["state"], one["node"]) == ("running", there.node)
    assert one["gpu_uuids"] == list(there.there.wish.gpu_uuids)
    text = zone.run("dora", "describe", "workload", "a")
    assert f"a.1: running on {there.node}, attempt 1" in text
    assert f"GPUs {', '.join(one['gpu_uuids'])}" in text
    text = zone.run("dora", "describe", "workload", "waits")
    assert "State      queued (PD)" in text
    assert "Reason     needs 4 x Tesla V100-SXM2-16GB" in text


@pytest.mark.mission("M50")
def test_what_is_placed_while_a_node_is_away_starts_once(zone: Zone) -> None:
    zone.apply(job(selectors=ON_N1))
    zone.world.daemon.turn()
    node = zone.world.nodes["n1"]
    node.cut()
    zone.go(10)
    (row,) = zone.json("dora", "get", "container")
    assert (row["node"], row["state"] in ("placed", "starting")) == ("n1", True)
    assert zone.jobs() == []
    node.mend()
    for _ in range(3):
        zone.go()
    (one,) = zone.jobs()
    assert (one.name, one.node) == ("a.1", "n1")
    assert [what for _, what, _ in node.calls].count("start") == 1
    (row,) = zone.json("dora", "get", "container")
    assert (row["state"], row["attempt"]) == ("running", 1)


@pytest.mark.mission("M42")
def test_a_network_of_its_own_none_or_that_of_the_node(zone: Zone) -> None:
    port = {"name": "web", "kind": "NodePort", "nodePort": 25000, "port": 8008}
    zone.apply(
        job("alone", network={"mode": "none"}),
        job("bridge", network={"mode": "bridge", "ports": [port]}),
    )
    host = job("host", network={"mode": "host"})
    assert "'host' is not allowed here" in zone.apply(host, status=2)
    odd = job("odd", network={"mode": "none", "ports": [port]})
    assert "spec.network" in zone.apply(odd, status=2)
    settings = zone.world.settings
    allowed = settings.containers.model_copy(update={"host_network": True})
    zone.start_again(settings.model_copy(update={"containers": allowed}))
    zone.apply(host)
    zone.go()
    wishes = {one.name: one.there.wish for one in zone.jobs()}
    found = {name: (w.network, len(w.ports)) for name, w in wishes.items()}
    assert found == {
        "bridge.1": ("bridge", 1),
        "host.1": ("host", 0),
        "alone.1": ("none", 0),
    }
