"""Documents as users write them, from the command to what the zone then has."""

import re

import pytest
import yaml

from dorabatch.resources.kinds import KINDS
from tests.makers import V100, ZONE
from tests.unit.daemon.test_share_commands import ME
from tests.unit.zone.conftest import Zone, job

MINE = f"{ME}.paper"


def workspace(name: str = MINE) -> dict[str, object]:
    return {"apiVersion": "v1", "kind": "Workspace", "metadata": {"name": name}}


def rows(zone: Zone, *words: str) -> list[tuple[str, str]]:
    """(workspace, name) of what `dora get workload` lists."""
    found = zone.json("dora", "get", "workload", *words)
    return [(row["workspace"], row["name"]) for row in found]


@pytest.mark.mission("M2")
def test_one_file_of_many_kinds_is_applied_in_order(zone: Zone) -> None:
    price = {
        "apiVersion": "v1",
        "kind": "Resourcecredit",
        "metadata": {"name": V100},
        "spec": {"credit": {"per": {"hour": 2.5}}},
    }
    node = {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": "n1"},
        "spec": {"endpoint": "ssh://root@n1:22", "hostKey": "SHA256:" + "0" * 43},
    }
    place = {"apiVersion": "v1", "kind": "Zone", "metadata": {"name": ZONE}}
    user = {
        "apiVersion": "v1",
        "kind": "User",
        "metadata": {"name": ME},
        "spec": {"default": {"workspace": MINE, "zone": ZONE}},
    }
    lines = zone.apply(job(), price, node, user, workspace(), place).splitlines()
    assert [line.split(":")[0].split()[0] for line in lines] == [
        *("Zone", "Workspace", "User", "Node", "Resourcecredit", "Workload")
    ]
    assert [line.split(":")[1].strip() for line in lines] == [
        *("created", "created", "created", "not changed", "created", "created")
    ]
    assert rows(zone) == [(MINE, "a")]


@pytest.mark.mission("M3")
@pytest.mark.parametrize("version", ["v2", "v1.experimental", "V1", "1"])
def test_another_version_is_refused_with_the_accepted_one(
    zone: Zone, version: str
) -> None:
    said = zone.apply({**job(), "apiVersion": version}, status=2)
    assert f"the text '{version}' is not an accepted version; accepted: v1" in said
    assert rows(zone) == []


@pytest.mark.mission("M4")
@pytest.mark.parametrize("kind", ["workload", "WORKLOAD", "Workloads", "Pod"])
def test_a_wrong_kind_is_refused_with_the_valid_ones(zone: Zone, kind: str) -> None:
    said = zone.apply({**job(), "kind": kind}, status=2)
    assert f"'{kind}'" in said
    assert f"valid kinds, capitals as shown: {', '.join(KINDS)}" in said
    assert rows(zone) == []


@pytest.mark.mission("M5")
def test_a_name_is_unique_in_its_workspace(zone: Zone) -> None:
    zone.apply(workspace())
    there = {"workspace": MINE}
    assert "created" in zone.apply(job())
    assert "created" in zone.apply(job(metadata=there))
    assert "not changed" in zone.apply(job())
    assert "updated" in zone.apply(job(image={"image": "debian"}))
    assert sorted(rows(zone)) == [(ME, "a"), (MINE, "a")]
    images = {row["workspace"]: row["image"] for row in zone.json("dstat")}
    assert images == {ME: "debian", MINE: "busybox"}


@pytest.mark.mission("M7")
def test_group_and_workspace_name_the_same(zone: Zone) -> None:
    zone.apply(workspace())
    zone.apply(job("plain"))
    for key in ("group", "workspace"):
        zone.apply(job(f"by-{key}", metadata={key: MINE}))
    both = {"group": MINE, "workspace": MINE}
    zone.apply(job("by-both", metadata=both))
    assert sorted(rows(zone, "-w", MINE)) == [
        *((MINE, "by-both"), (MINE, "by-group"), (MINE, "by-workspace"))
    ]
    assert rows(zone, "-w", ME) == [(ME, "plain")]
    said = zone.apply(job("odd", metadata={"group": ME, "workspace": MINE}), status=2)
    assert "metadata.group" in said
    assert "keep one of them" in said


@pytest.mark.mission("M6", "M59")
def test_a_user_has_a_default_zone_and_workspace(zone: Zone) -> None:
    zone.apply(workspace())
    user = {"apiVersion": "v1", "kind": "User", "metadata": {"name": ME}}
    zone.apply({**user, "spec": {"default": {"workspace": MINE, "zone": ZONE}}})
    zone.apply(job("declared"))
    zone.run("dsub", "--name", "typed", "-c", "1", "-i", "busybox", "--", "true")
    zone.apply(job("said", metadata={"workspace": ME, "zone": ZONE}))
    found = {row["name"]: row for row in zone.json("dstat")}
    places = {name: (row["zone"], row["workspace"]) for name, row in found.items()}
    assert places == {
        "declared": (ZONE, MINE),
        "typed": (ZONE, MINE),
        "said": (ZONE, ME),
    }
    # A default of another zone is meant too, and no daemon of this zone serves that.
    away = {**user, "spec": {"default": {"zone": "dc-test-01"}}}
    said = zone.apply(away, status=2)
    assert "spec.default.zone: there is no zone 'dc-test-01'" in said
    other = {"apiVersion": "v1", "kind": "Zone", "metadata": {"name": "dc-test-01"}}
    zone.apply({**other, "spec": {"endpoint": "https://test.example"}}, away)
    said = zone.apply(job("away"), status=2)
    assert f"the default of user {ME!r}, 'dc-test-01', is not served by this" in said
    zone.apply(job("here", metadata={"zone": ZONE}))


MINIMAL = """
apiVersion: v1
kind: Workload
metadata:
  name: blue.red
spec:
  driver: Docker
  selectors:
    cpu:
      product_name: All
      count: 1
  image:
    image: ubuntu
  config:
    cmd: /bin/bash
"""


@pytest.mark.mission("M16")
@pytest.mark.parametrize(
    "field",
    [
        *("apiVersion", "kind", "metadata.name", "spec.driver", "spec.selectors"),
        *("spec.image.image", "spec.config"),
    ],
)
def test_a_mandatory_field_that_is_left_out_is_named(zone: Zone, field: str) -> None:
    document = yaml.safe_load(MINIMAL)
    *above, last = field.split(".")
    part = document
    for key in above:
        part = part[key]
    del part[last]
    text = yaml.safe_dump(document)
    said = zone.run("dsub", "-", status=2, text=text)
    assert re.search(rf"{re.escape(field)}:? is missing", said), said
    assert rows(zone) == []


@pytest.mark.mission("M15")
def test_the_smallest_workload_has_no_more_fields(zone: Zone) -> None:
    zone.run("dsub", "-", text=MINIMAL)
    zone.go()
    (one,) = zone.jobs()
    wish = one.there.wish
    assert (one.name, one.node) == ("blue.red.1", "n4")
    assert (wish.image, wish.argv) == ("ubuntu", ("/bin/bash",))
    assert (wish.gpu_uuids, wish.mounts, wish.ports) == ((), (), ())
    (row,) = zone.json("dstat")
    assert (row["zone"], row["workspace"], row["replicas"]) == (ZONE, ME, 1)


@pytest.mark.mission("M17", "M70")
def test_containers_are_no_documents(zone: Zone) -> None:
    zone.apply(job(replica={"count": 2}))
    zone.go()
    said = zone.apply({**job("a.1"), "kind": "Container"}, status=2)
    assert "apply the Workload instead" in said
    zone.apply(job(replica={"count": 1}))
    zone.go()
    assert [one.name for one in zone.jobs()] == ["a.1"]
    zone.run("dcancel", "a")
    zone.go()
    assert zone.jobs() == []


@pytest.mark.mission("M27")
def test_another_driver_is_refused(zone: Zone) -> None:
    said = zone.apply(job(driver="Podman"), status=2)
    assert "spec.driver: must be 'Docker'" in said
    assert rows(zone) == []


@pytest.mark.mission("M78")
def test_projects_are_refused_as_no_kind(zone: Zone) -> None:
    document = {"apiVersion": "v1", "kind": "Project", "metadata": {"name": "p"}}
    said = zone.apply(document, status=2)
    assert "kind: Project cannot be applied: projects are not kept here" in said
    for words in (("get", "project"), ("describe", "project", "p")):
        said = zone.run("dora", *words, status=2)
        assert said.startswith("dora: no kind 'project'; this daemon serves Workload")


@pytest.mark.mission("M61")
def test_apply_says_what_became_of_each(zone: Zone) -> None:
    more = job(replica={"count": 3})
    steps = [
        (job(), "created"),
        (job(), "not changed"),
        (more, "scaled"),
        (job(replica={"count": 3}, config={"cmd": "sleep 601"}), "updated"),
    ]
    for document, result in steps:
        assert zone.apply(document).startswith(f"Workload a: {result}")
    said = zone.apply(job("b"), job("c", metadata={"zone": "mars"}), status=2)
    assert "Workload b: created" in said
    assert "Workload c: refused: metadata.zone: 'mars' is not served" in said
    # What was refused changed nothing, and undid nothing.
    assert [name for _, name in rows(zone)] == ["a", "b"]


@pytest.mark.mission("M62")
def test_delete_ends_jobs_and_removes_objects(zone: Zone) -> None:
    user = {"apiVersion": "v1", "kind": "User", "metadata": {"name": "ana"}}
    price = {
        "apiVersion": "v1",
        "kind": "Resourcecredit",
        "metadata": {"name": V100},
        "spec": {"credit": {"per": {"hour": 2.5}}},
    }
    zone.apply(job(), job("b"), user, price, workspace())
    zone.go()
    assert "draining" in zone.run("dora", "delete", "workload", "a")
    zone.go()
    assert [one.name for one in zone.jobs()] == ["b.1"]
    assert not any(n.containers.keys() - _running(zone) for n in _nodes(zone))
    for kind, name in (("user", "ana"), ("resourcecredit", V100), ("workspace", MINE)):
        assert any(row["name"] == name for row in zone.json("dora", "get", kind))
        zone.run("dora", "delete", kind, name)
        assert not any(row["name"] == name for row in zone.json("dora", "get", kind))
        zone.run("dora", "describe", kind, name, status=2)
    said = zone.run("dora", "delete", "workload", "a", status=2)
    assert "workload 'a' has ended already; nothing to delete" in said


def _nodes(zone: Zone) -> list[object]:
    return list(zone.world.nodes.values())


def _running(zone: Zone) -> set[str]:
    return {name for _, name in zone.world.running()}


@pytest.mark.mission("M87")
def test_the_four_verbs_in_one_breath(zone: Zone) -> None:
    assert "created" in zone.apply(job())
    zone.go()
    heads, row = zone.run("dora", "get", "workload").splitlines()
    assert "NAME" in heads.split()
    assert row.split()[:5] == ["1", ME, "a", ME, "R"]
    text = zone.run("dora", "describe", "workload", "a")
    assert f"Workload   {ME}/a  (id 1)" in text
    assert "State      running (R)" in text
    zone.run("dora", "delete", "workload", "a")
    zone.go()
    assert zone.jobs() == []
    assert rows(zone) == []


@pytest.mark.mission("M12")
def test_a_workspace_is_made_listed_and_kept_while_in_use(zone: Zone) -> None:
    zone.apply(workspace(), workspace(f"{ME}.other"))
    names = [row["name"] for row in zone.json("dora", "get", "workspace")]
    assert names == [f"{ME}.other", MINE]
    zone.apply(job(metadata={"workspace": MINE}), job())
    zone.go()
    said = zone.run("dora", "delete", "workspace", MINE, status=3)
    assert "holds 1 live workload" in said
    zone.run("dcancel", "--workspace", MINE, "--all", "--yes")
    zone.go()
    zone.run("dora", "delete", "workspace", MINE)
    names = [row["name"] for row in zone.json("dora", "get", "workspace")]
    # The home is there without being made, once it has been in use.
    assert names == [ME, f"{ME}.other"]
    assert [one.name for one in zone.jobs()] == ["a.1"]


@pytest.mark.mission("M10")
def test_the_endpoint_of_a_zone_is_kept_and_shown(zone: Zone) -> None:
    spec = {"endpoint": "https://mydora1.doracluster.com"}
    document = {"apiVersion": "v1", "kind": "Zone", "metadata": {"name": "dc-two"}}
    zone.apply({**document, "spec": spec})
    assert spec["endpoint"] in zone.run("dora", "describe", "zone", "dc-two")
    assert spec["endpoint"] in zone.run("dora", "get", "zone")


@pytest.mark.mission("M68")
def test_each_replica_says_where_and_how_it_is(zone: Zone) -> None:
    gpus = {"gpu": {"product_name": V100, "count": 2}}
    zone.apply(job(selectors=gpus, replica={"count": 2}))
    zone.go()
    one = zone.json("dora", "describe", "container", "a.2")
    (there,) = (job for job in zone.jobs() if job.name == "a.2")
    assert (one["node"], one["docker_id"]) == (there.node, there.docker_id)
    assert one["gpu_uuids"] == list(there.there.wish.gpu_uuids)
    assert (one["gpu_models"], one["state"]) == ([V100, V100], "running")
    assert one["started_at"] is not None and one["ended_at"] is None
    node = zone.world.nodes[there.node]
    node.exit(there.there.facts.name, 3)
    zone.go()
    one = zone.json("dora", "describe", "container", "a.2")
    assert (one["state"], one["exit_code"], one["reason"]) == (
        *("finished", 3, "exit code 3"),
    )
    assert one["ended_at"] > one["started_at"]
    states = {row["name"]: row["state"] for row in zone.json("dora", "get", "c")}
    assert states == {"a.1": "running", "a.2": "finished"}
