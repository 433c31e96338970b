"""Which hardware a workload gets, and which it never gets."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from dorabatch.config import NodeSettings
from dorabatch.node.facts import NodeFacts
from tests.makers import RTX, V100, facts, gpus
from tests.simulation.machines import Machine
from tests.unit.daemon.test_api import Api
from tests.unit.zone.conftest import Zone, job

NODES = {"n1": "0", "n2": "1", "n3": "2", "n4": "3"}


def node(name: str, **spec: object) -> dict[str, object]:
    """A Node document of the zone."""
    key = "SHA256:" + NODES.get(name, "5") * 43
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name},
        "spec": {"endpoint": f"ssh://root@{name}:22", "hostKey": key, **spec},
    }


def gpu(count: int, models: object = None) -> dict[str, object]:
    """Selectors of so many GPUs."""
    names = {} if models is None else {"product_name": models}
    return {"gpu": {"count": count, **names}}


def models(zone: Zone, workload: str) -> list[list[str]]:
    """The GPU models that each container of a workload has."""
    found = []
    for one in zone.jobs(workload):
        has = {g.uuid: g.model for g in zone.world.nodes[one.node].facts.gpus}
        found.append([has[uuid] for uuid in one.there.wish.gpu_uuids])
    return found


@pytest.mark.mission("M29")
def test_cores_of_its_own_and_parts_of_a_core(zone: Zone) -> None:
    on = {"node": {"name": "n4"}}
    for name in ("a", "b"):
        zone.apply(job(name, selectors={"cpu": {"count": 3}, **on}))
    zone.apply(job("part", selectors={"cpu": {"count": "500m"}, **on}))
    zone.apply(job("late", selectors={"cpu": {"count": 2}, **on}))
    zone.go()
    first, second, part = (job.there.wish for job in zone.jobs())
    assert (len(first.cores), len(second.cores)) == (3, 3)
    assert not set(first.cores) & set(second.cores)
    # Half a core of eight has a sixteenth of the memory, beside what is pinned.
    assert part.nano_cpus == 500_000_000
    assert part.memory_bytes == 8192 // 16 << 20
    assert set(part.cores).isdisjoint({*first.cores, *second.cores})
    # One core and a half is free, not two.
    assert zone.state("late") == "queued"


@pytest.mark.mission("M28")
def test_cpu_models(zone: Zone) -> None:
    zone.world.nodes["n4"].facts = facts(hostname="n4", gpus=(), cpu_model="Xeon")
    zone.go(61)
    wishes = {"some": "All", "one": "Xeon", "list": ["Ryzen", "Xeon"], "epyc": "EPYC"}
    for name, wanted in wishes.items():
        zone.apply(job(name, selectors={"cpu": {"product_name": wanted, "count": 1}}))
    zone.go()
    where = {one.name: one.node for one in zone.jobs()}
    assert (where["one.1"], where["list.1"]) == ("n4", "n4")
    assert where["epyc.1"] in ("n1", "n2", "n3")
    assert "some.1" in where
    zone.run("dnode", "cordon", "n4")
    zone.apply(job("waits", selectors={"cpu": {"product_name": "Xeon", "count": 1}}))
    zone.go()
    assert zone.state("waits") == "queued"
    why = zone.json("dstat", "--why", "waits")
    assert why["counts"]["CpuModel"] == 3


@pytest.mark.mission("M30")
def test_any_model_of_a_list_and_no_other(zone: Zone) -> None:
    for name in ("n1", "n2"):
        zone.run("dnode", "cordon", name)
    # n3 has two of each: every GPU counts by its own model.
    zone.apply(job("rtx", selectors=gpu(1, [RTX]), replica={"count": 2}))
    zone.apply(job("either", selectors=gpu(2, [RTX, V100])))
    zone.go()
    assert models(zone, "rtx") == [[RTX], [RTX]]
    assert models(zone, "either") == [[V100, V100]]
    zone.apply(job("late", selectors=gpu(1, [RTX])))
    zone.go()
    assert zone.state("late") == "queued"
    zone.run("dcancel", "rtx", "--yes")
    zone.go()
    assert models(zone, "late") == [[RTX]]


@pytest.mark.mission("M31")
def test_one_model_or_all(zone: Zone) -> None:
    zone.apply(job("v", selectors=gpu(1, V100), replica={"count": 6}))
    zone.apply(job("w", selectors=gpu(1, V100)))
    zone.go()
    assert models(zone, "v") == [[V100]] * 6
    # Four RTX are free, and it does not want them.
    assert zone.state("w") == "queued"
    zone.apply(job("whatever", selectors=gpu(1, "All"), replica={"count": 2}))
    zone.apply(job("unsaid", selectors=gpu(1), replica={"count": 2}))
    zone.go()
    assert models(zone, "whatever") + models(zone, "unsaid") == [[RTX]] * 4


@pytest.mark.mission("M32")
def test_gpus_are_given_once_however_many_ask_at_once(zone: Zone) -> None:
    api = Api(zone.world, zone.socket)  # type: ignore[arg-type]
    asked = {"image": "busybox", "gpus": "2", "gpu_models": [V100]}

    def ask(_: int) -> int:
        return api.ask("POST", "/v1/workloads", {"options": asked})[0]

    with ThreadPoolExecutor(8) as pool:
        answers = [pool.submit(ask, number) for number in range(24)]
        for _ in range(5):
            zone.go()
    assert [one.result() for one in answers] == [201] * 24
    zone.go()
    held = [(o.node, uuid) for o in zone.jobs() for uuid in o.there.wish.gpu_uuids]
    assert len(held) == len(set(held)) == 6
    assert [len(set(one.there.wish.gpu_uuids)) for one in zone.jobs()] == [2, 2, 2]
    states = [row["state"] for row in zone.json("dstat")]
    assert (states.count("running"), states.count("queued")) == (3, 21)


@pytest.mark.mission("M32")
@pytest.mark.parametrize("count", [0, -2, "2", "two", 1.5])
def test_a_count_that_is_none_is_refused(zone: Zone, count: object) -> None:
    said = zone.apply(job(selectors={"gpu": {"count": count}}), status=2)
    assert "spec.selectors.gpu.count" in said


def equal(zone: Zone) -> None:
    """Four nodes of four V100 each."""
    for name, there in zone.world.nodes.items():
        there.facts = facts(hostname=name)
    zone.go(61)


def spread(zone: Zone, affinity: str, **more: object) -> list[str]:
    """The nodes of four containers of one GPU each."""
    zone.apply(
        job(
            selectors={**gpu(1, V100), **more},
            replica={"count": 4},
            config={"affinity": affinity},
        )
    )
    zone.go()
    return [one.node for one in zone.jobs("a")]


@pytest.mark.mission("M37")
def test_distribute_uses_every_node(zone: Zone) -> None:
    equal(zone)
    assert sorted(spread(zone, "Distribute")) == ["n1", "n2", "n3", "n4"]


@pytest.mark.mission("M37")
def test_fill_packs_one_node(zone: Zone) -> None:
    equal(zone)
    assert len(set(spread(zone, "Fill"))) == 1


@pytest.mark.mission("M37")
def test_first_goes_by_the_order_of_nodes(zone: Zone) -> None:
    equal(zone)
    zone.apply(job("before", selectors={**gpu(2, V100), "node": {"name": "n1"}}))
    zone.go()
    assert spread(zone, "First") == ["n1", "n1", "n2", "n2"]


@pytest.mark.mission("M37")
def test_random_stays_within_what_is_suitable(zone: Zone) -> None:
    equal(zone)
    names = ["n2", "n4"]
    assert set(spread(zone, "Random", node={"name": names})) <= set(names)
    assert len(zone.jobs()) == 4


@pytest.mark.mission("M53")
def test_a_cordoned_node_keeps_what_runs_and_takes_nothing_new(zone: Zone) -> None:
    on = {"cpu": {"count": 1}, "node": {"name": "n4"}}
    zone.apply(job(selectors=on))
    zone.go()
    before = zone.ids("a")
    zone.apply(node("n4", schedulingDisabled=True))
    zone.apply(job("b", selectors=on))
    zone.go()
    assert zone.ids("a") == before
    assert zone.state("b") == "queued"
    said = zone.apply(node("n4", schedulingDisabled="true"), status=2)
    assert "must be true or false, not the text 'true'" in said
    zone.apply(node("n4", schedulingDisabled=False))
    zone.go()
    assert [one.name for one in zone.jobs()] == ["a.1", "b.1"]


@pytest.mark.mission("M54")
def test_a_node_takes_what_it_allows(zone: Zone) -> None:
    zone.apply(
        node("n1", allow=["CPUWorkload"]),
        node("n2", allow=["GPUWorkload"]),
        node("n3", allow=[]),
        node("n4", allow=["GPUWorkload"]),
    )
    zone.apply(job("gpu", selectors=gpu(1), replica={"count": 3}))
    zone.apply(job("cpu", replica={"count": 9}))
    zone.go()
    assert {one.node for one in zone.jobs("gpu")} == {"n2"}
    assert {one.node for one in zone.jobs("cpu")} == {"n1"}
    # Two GPUs and eight cores are all that is allowed.
    assert (len(zone.jobs("gpu")), len(zone.jobs("cpu"))) == (2, 8)


@pytest.mark.mission("M51")
def test_a_node_that_is_added_becomes_ready(zone: Zone) -> None:
    has = facts(hostname="n5", gpus=(*gpus(3, V100), *gpus(1, RTX, "R")))
    world = zone.world
    world.nodes["n5"] = Machine("n5", world.clock, has)
    assert "created" in zone.apply(node("n5"))
    (row,) = (row for row in zone.json("dnode", "list") if row["name"] == "n5")
    assert row["state"] == "CONNECTING"
    zone.go()
    (row,) = (row for row in zone.json("dnode", "list") if row["name"] == "n5")
    assert (row["state"], row["cores"]) == ("READY", 8)
    held = {one["model"]: (one["total"], one["held"]) for one in row["gpus"]}
    assert held == {V100: (3, 0), RTX: (1, 0)}
    zone.apply(job(selectors={**gpu(2, V100), "node": {"name": "n5"}}))
    zone.go()
    assert [one.node for one in zone.jobs()] == ["n5"]


BROKEN = "NVML does not start: Driver Not Loaded"


def broken(zone: Zone, name: str) -> NodeFacts:
    """A driver update on a node; what it had before."""
    before = zone.world.nodes[name].facts
    bare = replace(before, gpus=(), gpu_error=BROKEN)
    zone.world.nodes[name].facts = bare
    zone.go(61)
    return before


def test_work_waits_for_a_node_with_a_broken_driver(zone: Zone) -> None:
    before = broken(zone, "n1")
    (row,) = [one for one in zone.json("dnode", "list") if one["name"] == "n1"]
    assert (row["state"], row["reason"]) == (
        "READY", f"4 of its 4 GPUs are missing: {BROKEN}",
    )  # fmt: skip
    zone.apply(job("four", selectors=gpu(4, V100)))
    zone.go()
    assert zone.state("four") == "queued"
    assert BROKEN in zone.run("dstat", "--why", "four")
    zone.start_again(zone.world.settings)
    zone.go(61)
    assert BROKEN in zone.run("dnode", "list")
    zone.apply(job("also", selectors=gpu(4, V100)))
    zone.world.nodes["n1"].facts = before
    zone.go(61)
    zone.go()
    assert zone.state("four") == "running"
    assert BROKEN not in zone.run("dnode", "list")
    rows = [one["state"] for one in zone.json("dora", "get", "gpu")]
    assert "lost" not in rows


def test_what_a_new_node_with_a_broken_driver_has_nobody_knows(zone: Zone) -> None:
    said = zone.apply(job("a100", selectors=gpu(1, "A100")), status=2)
    assert "no node has GPU model" in said
    zone.world.nodes["n4"].facts = facts(hostname="n4", gpus=(), gpu_error=BROKEN)
    zone.go(61)
    zone.apply(job("a100", selectors=gpu(1, "A100")))
    zone.go()
    assert zone.state("a100") == "queued"


@pytest.mark.parametrize("skips", [False, True])
def test_gpus_that_others_use(zone: Zone, skips: bool) -> None:
    node = NodeSettings(skip_used_gpus=skips)
    zone.start_again(zone.world.settings.model_copy(update={"node": node}))
    there = zone.world.nodes["n1"]
    busy = tuple(replace(one, process_pids=(4711,)) for one in there.facts.gpus[:3])
    there.facts = replace(there.facts, gpus=(*busy, there.facts.gpus[3]))
    zone.go(61)
    shown = zone.json("dnode", "show", "n1")
    assert [one["pids"] for one in shown["gpus_used_by_others"]] == [[4711]] * 3
    rows = [one for one in zone.json("dora", "get", "gpu") if one["node"] == "n1"]
    assert [one["state"] for one in rows] == ["used"] * 3 + ["free"]
    zone.apply(job("two", selectors={**gpu(2, V100), "node": {"name": "n1"}}))
    zone.go()
    assert zone.state("two") == ("queued" if skips else "running")
    if skips:
        assert "processes that are none of ours" in zone.run("dstat", "--why", "two")


def test_one_machine_under_two_names_gives_its_gpus_once(zone: Zone) -> None:
    zone.apply(job("first", selectors={**gpu(4, V100), "node": {"name": "n1"}}))
    zone.go()
    ids = zone.ids("first")
    second, first = zone.world.nodes["n2"], zone.world.nodes["n1"]
    second.facts, second.containers = first.facts, first.containers
    zone.go(61)
    (row,) = [one for one in zone.json("dnode", "list") if one["name"] == "n2"]
    assert row["state"] == "ASIDE"
    assert "the same machine as node n1" in row["reason"]
    zone.apply(job("more", selectors={**gpu(4, V100), "node": {"name": "n2"}}))
    # Long enough for what belongs to nobody to be removed.
    zone.go(61)
    zone.go(61)
    assert zone.state("more") == "queued"
    assert zone.ids("first") == ids
    second.containers = {}
