"""A node that never comes back, and one that does: from the command to the nodes."""

import json
from datetime import datetime, timedelta

import pytest

from dorabatch.daemon.runs import node_keeper
from dorabatch.db import Tx
from dorabatch.node.facts import ContainerState
from tests.makers import V100
from tests.simulation import hands
from tests.unit.daemon.test_share_commands import ME
from tests.unit.zone.conftest import Zone, job
from tests.unit.zone.test_credits import price

HOUR = 3600


def gpu_job(zone: Zone, name: str, gpus: int, *more: str) -> None:
    """Submit a job that runs on n1 while that can be used, else on n3."""
    zone.run(
        *("dsub", "--name", name, "-G", str(gpus), "-N", "n1", "-N", "n3"),
        *("--gpu-model", V100, "-i", "busybox", *more, "--", "sleep", "600"),
    )


def run_on_n1(zone: Zone, **policies: str) -> None:
    """Run a job with each policy on n1, and let n1 fall silent."""
    zone.run("dnode", "cordon", "n3")
    for name, policy in policies.items():
        gpu_job(zone, name, 1, *(("--on-lost", policy) if policy else ()))
    zone.go()
    assert {one.node for one in zone.jobs()} == {"n1"}
    zone.run("dnode", "uncordon", "n3")
    zone.world.nodes["n1"].cut()
    zone.go(5)


def attempts(zone: Zone, name: str) -> list[tuple[str, str | None]]:
    """(node, outcome) of each attempt of a workload."""
    ref = next(str(r["id"]) for r in zone.json("dstat", "--all") if r["name"] == name)
    found = zone.json("dora", "describe", "workload", ref)["attempts"]
    return [(one["node"], one["outcome"]) for one in found]


def node(zone: Zone, name: str = "n1") -> dict[str, object]:
    """A node as it is listed."""
    return next(row for row in zone.json("dnode", "list") if row["name"] == name)


def leftovers(zone: Zone, name: str = "n1") -> list[str]:
    """What runs on a node, whoever knows of it."""
    found = zone.world.nodes[name].containers.items()
    return [key for key, one in found if one.facts.state is ContainerState.RUNNING]


def test_a_lost_node_lets_go_of_everything(zone: Zone) -> None:
    zone.apply(price(2.5, "dc-rov-01"))
    run_on_n1(zone, usual="", given_up="fail", cancelled="")
    zone.run("dcancel", "cancelled", "--yes")
    zone.go()
    assert "still holds 3 containers" in zone.refused("dnode", "remove", "n1", "--yes")
    assert "dnode lost n1" in zone.refused("dnode", "remove", "n1", "--yes")

    told = zone.json("dnode", "lost", "n1", "--dry-run")
    assert {run["name"]: run["then"] for run in told["runs"]} == {
        "usual": "queued again", "given_up": "node lost", "cancelled": "cancelled",
    }  # fmt: skip
    assert {run["user"] for run in told["runs"]} == {ME}
    assert [run["gpus"] for run in told["runs"]] == [1, 1, 1]
    # Without a terminal and without --yes nothing is done.
    assert "their work is done twice" in zone.refused("dnode", "lost", "n1")
    assert zone.state("usual") == "running"

    done = zone.json("dnode", "lost", "n1", "--yes")
    assert done["runs"] == told["runs"]
    assert node(zone)["state"] == "LOST"
    assert node(zone)["gpus"][0]["held_milli"] == 0
    zone.go()
    rows = {row["name"]: row for row in zone.json("dstat", "--all")}
    assert (rows["usual"]["state"], rows["usual"]["nodes"]) == ("running", ["n3"])
    assert rows["given_up"]["code"] == "NF"
    assert rows["cancelled"]["code"] == "CA"
    assert attempts(zone, "usual") == [("n1", "node_lost"), ("n3", None)]
    assert f"node n1 was declared lost by {ME}" in rows["given_up"]["reason"]
    assert zone.world.laws.of_chain() == []

    # Again: nothing is left to end. Then it may go.
    assert zone.json("dnode", "lost", "n1", "--yes")["runs"] == []
    zone.run("dnode", "remove", "n1", "--yes")
    audit = zone.run("dreport", "audit", "--format", "csv")
    (line,) = (x for x in audit.splitlines() if "-> LOST" in x)
    assert ME in line
    assert "Node" in line
    zone.world.nodes["n1"].containers.clear()


def test_lost_time_is_neither_charged_nor_counted(zone: Zone) -> None:
    zone.apply(price(2.5, "dc-rov-01"))
    run_on_n1(zone, a="fail")
    zone.go(600)
    zone.run("dnode", "lost", "n1", "--yes")
    zone.go()
    (row,) = zone.json("dora", "describe", "workload", "1")["attempts"]
    seen = zone.world.books.fleet.get("n1").last_seen
    assert row["ended_at"] == seen.isoformat()
    assert row["seconds"] <= 3
    assert [one["used"] for one in zone.json("dcredit", "statement")["models"]] == [0]
    zone.world.nodes["n1"].containers.clear()


def test_what_is_left_is_removed_before_the_node_is_used_again(zone: Zone) -> None:
    run_on_n1(zone, a="", b="fail")
    zone.run("dnode", "lost", "n1", "--yes")
    zone.go()
    assert len(leftovers(zone)) == 2
    gpu_job(zone, "late", 4)
    zone.go()
    assert zone.state("late") == "queued"

    zone.world.nodes["n1"].mend()
    keeper = zone.world.parts.keepers.get("n1")
    keeper.look()
    row = node(zone)
    assert (row["state"], row["silent_since"]) == ("LOST", None)
    assert "being removed" in row["reason"]
    assert f"by {ME}" in row["reason"]
    assert "is about to be used again" in zone.refused("dnode", "lost", "n1", "--yes")
    hands.turn(zone.world, 1)
    # Nobody was given the GPUs meanwhile; what was on them is gone.
    assert zone.state("late") == "queued"
    assert leftovers(zone) == []
    zone.go(5)
    assert node(zone)["state"] == "READY"
    assert (node(zone)["reason"], node(zone)["lost_by"]) == ("", None)
    assert zone.state("late") == "running"
    assert attempts(zone, "b") == [("n1", "node_lost")]
    assert attempts(zone, "a") == [("n1", "node_lost"), ("n3", None)]


def test_what_ended_there_meanwhile_is_no_second_outcome(zone: Zone) -> None:
    run_on_n1(zone, a="", b="fail")
    there = zone.world.nodes["n1"]
    zone.run("dnode", "lost", "n1", "--yes")
    zone.go()
    labels = []
    for name in leftovers(zone):
        labels.append(there.containers[name].facts.labels)
        there.exit(name, 0)
    there.mend()
    keeper = zone.world.parts.keepers.get("n1")
    for one in labels:
        keeper.saw_end(one)
    zone.go(5)
    assert there.containers == {}
    assert attempts(zone, "a") == [("n1", "node_lost"), ("n3", None)]
    assert attempts(zone, "b") == [("n1", "node_lost")]
    assert node(zone)["state"] == "READY"


def test_a_cordoned_node_returns_cordoned(zone: Zone) -> None:
    run_on_n1(zone, a="")
    zone.run("dnode", "cordon", "n1")
    zone.run("dnode", "lost", "n1", "--yes")
    zone.world.nodes["n1"].mend()
    zone.go(5)
    row = node(zone)
    assert (row["state"], row["scheduling_disabled"]) == ("READY", True)
    assert "READY+CORDONED" in zone.run("dnode", "list")


def test_a_node_that_answers_is_not_lost(zone: Zone) -> None:
    run_on_n1(zone, a="")
    for words in (("n2", "--yes"), ("n2", "--dry-run"), ("n2",)):
        said = zone.refused("dnode", "lost", *words)
        assert "node n2 answers" in said
        assert "dnode cordon n2" in said
    assert "no node 'n9'" in zone.refused("dnode", "lost", "n9", "--yes")
    zone.world.nodes["n1"].mend()
    zone.go()
    assert "node n1 answers" in zone.refused("dnode", "lost", "n1", "--yes")
    assert attempts(zone, "a") == [("n1", None)]


def test_a_restarted_daemon_knows_that_a_node_is_lost(zone: Zone) -> None:
    run_on_n1(zone, a="")
    seen = node(zone)["last_seen"]
    zone.run("dnode", "lost", "n1", "--yes")
    zone.start_again(zone.world.settings)
    row = node(zone)
    assert (row["state"], row["lost_by"], row["last_seen"]) == ("LOST", ME, seen)
    assert len(leftovers(zone)) == 1
    zone.world.nodes["n1"].mend()
    zone.go(5)
    assert node(zone)["state"] == "READY"
    assert leftovers(zone) == []


def test_when_a_node_was_up_is_remembered_seldom(
    zone: Zone, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = []
    save = node_keeper.save_seen

    def counted(tx: Tx, zone: str, name: str, seen_at: datetime) -> None:
        written.append((name, seen_at))
        save(tx, zone, name, seen_at)

    monkeypatch.setattr(node_keeper, "save_seen", counted)
    keeper = zone.world.parts.keepers.get("n1")
    for _ in range(120):
        zone.world.clock.advance(1)
        keeper.look()
    # Once a minute, and at each change.
    assert len(written) == 2
    zone.world.clock.advance(1)
    keeper.look()
    zone.world.nodes["n1"].cut()
    zone.world.clock.advance(1)
    keeper.look()
    assert written[-1] == ("n1", zone.world.clock.now() - timedelta(seconds=1))
    assert len(written) == 3
    zone.world.nodes["n1"].mend()
    keeper.look()
    assert written[3:] == [("n1", zone.world.clock.now())]


def test_a_lost_node_that_is_added_anew_is_cleaned_too(zone: Zone) -> None:
    run_on_n1(zone, a="fail")
    zone.run("dnode", "lost", "n1", "--yes")
    zone.run("dnode", "remove", "n1", "--yes")
    there = zone.world.nodes["n1"]
    there.mend()
    document = {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": "n1"},
        "spec": {"endpoint": "ssh://root@n1:22", "hostKey": "SHA256:" + "0" * 43},
    }
    zone.apply(document)
    keeper = zone.world.parts.keepers.get("n1")
    keeper.look()
    assert node(zone)["state"] == "CONNECTING"
    assert there.containers == {}
    keeper.look()
    assert node(zone)["state"] == "READY"


def test_a_forgotten_workload_is_recognized_on_a_node_that_returns(zone: Zone) -> None:
    run_on_n1(zone, a="fail")
    zone.run("dnode", "lost", "n1", "--yes")
    limits = zone.world.settings.limits.model_copy(update={"ended_kept_in_memory": 1})
    settings = zone.world.settings.model_copy(update={"limits": limits})
    zone.start_again(settings)
    for name in ("x", "y"):
        zone.apply(job(name))
        zone.run("dcancel", name, "--yes")
        zone.go()
    assert "a" not in {w.name for w in zone.world.books.board.workloads.values()}
    zone.world.nodes["n1"].mend()
    zone.go(5)
    assert zone.world.nodes["n1"].containers == {}
    assert node(zone)["state"] == "READY"


def test_silence_is_said_instead_of_running(zone: Zone) -> None:
    run_on_n1(zone, a="", b="wait 2h")
    (row,) = zone.json("dstat", "a")
    since = node(zone)["silent_since"]
    assert since == node(zone)["last_seen"]
    assert (row["code"], row["reason_code"]) == ("R", "NodeSilent")
    assert "node n1 has not answered since 2026-01-05 " in row["reason"]
    table = zone.run("dstat")
    assert "n1 (node n1 has not answered since 2026-01-05 " in table
    why = zone.run("dstat", "--why", "a")
    assert "is running" not in why
    assert "its node n1 has not answered since 2026-01-05 " in why
    assert "`dnode lost n1` by an admin ends it, or it goes on when the node" in why
    assert "(onLost: wait 7200s)" in zone.run("dstat", "--why", "b")
    why = zone.json("dstat", "--why", "a")
    assert why["reason"] == "NodeSilent"
    found = zone.json("dora", "get", "container", "a.1")
    assert found["silent_since"] == since
    assert "no answer since 2026-01-05 " in node(zone)["reason"]
    # It answers again: nothing of it is left.
    zone.world.nodes["n1"].mend()
    zone.go()
    (row,) = zone.json("dstat", "a")
    assert (row["reason_code"], row["reason"]) == ("", "")
    assert "is running" in zone.run("dstat", "--why", "a")


def pass_hours(zone: Zone, hours: float) -> None:
    """Time goes by in which the daemon looks after what is due."""
    zone.world.clock.advance(hours * HOUR)
    zone.go(1)


def test_each_workload_waits_for_its_node_as_it_said(zone: Zone) -> None:
    run_on_n1(zone, a="wait", b="wait 2h", c="requeue", d="fail")
    pass_hours(zone, 0.9)
    assert len(zone.jobs()) == 4
    pass_hours(zone, 0.2)
    assert [attempts(zone, one) for one in "abcd"] == [
        [("n1", None)],
        [("n1", None)],
        [("n1", "node_lost"), ("n3", None)],
        [("n1", "node_lost")],
    ]
    row = node(zone)
    assert (row["state"], row["lost_by"]) == ("LOST", "dorad")
    pass_hours(zone, 1)
    assert attempts(zone, "b") == [("n1", "node_lost"), ("n3", None)]
    pass_hours(zone, 50)
    assert attempts(zone, "a") == [("n1", None)]
    # Who waits goes on where it was; the others' containers are removed.
    zone.world.nodes["n1"].mend()
    zone.go(5)
    assert node(zone)["state"] == "READY"
    assert [one.name for one in zone.jobs() if one.node == "n1"] == ["a.1"]


def test_the_site_says_what_follows_where_a_workload_does_not(zone: Zone) -> None:
    settings = zone.world.settings
    rule = {"on_lost": "fail", "lost_after_seconds": 600}
    changed = settings.node.model_copy(update=rule)
    zone.start_again(settings.model_copy(update={"node": changed}))
    zone.go()
    run_on_n1(zone, a="", b="wait")
    pass_hours(zone, 0.2)
    assert attempts(zone, "a") == [("n1", "node_lost")]
    assert attempts(zone, "b") == [("n1", None)]
    assert zone.json("dstat", "--all", "a")[0]["code"] == "NF"
    zone.world.nodes["n1"].containers.clear()


def test_silence_before_this_daemon_began_does_not_count(zone: Zone) -> None:
    run_on_n1(zone, a="wait 2h")
    pass_hours(zone, 1.5)
    zone.start_again(zone.world.settings)
    zone.go()
    pass_hours(zone, 1.5)
    assert attempts(zone, "a") == [("n1", None)]
    pass_hours(zone, 0.6)
    assert attempts(zone, "a")[0] == ("n1", "node_lost")
    zone.world.nodes["n1"].containers.clear()


@pytest.mark.parametrize("policy", ["never", "wait forever", "requeue 2h", "wait 0s"])
def test_a_wrong_policy_is_refused(zone: Zone, policy: str) -> None:
    said = zone.refused("dsub", "-i", "busybox", "--on-lost", policy, "--", "true")
    assert "--on-lost" in said
    said = zone.apply(job(config={"cmd": "true", "onLost": policy}), status=2)
    assert "spec.config.onLost" in said


def test_another_policy_changes_no_run(zone: Zone) -> None:
    config = {"cmd": "sleep 600"}
    zone.apply(job(config=config))
    zone.go()
    before = zone.ids("a")
    said = zone.apply(job(config={**config, "onLost": "wait 2h"}))
    assert "what follows when its node is silent" in said
    assert "not changed" in zone.apply(job(config={**config, "onLost": "wait 7200s"}))
    zone.go()
    assert zone.ids("a") == before
    (row,) = zone.json("dstat", "a")
    assert row["version"] == 1
    spec = json.dumps(zone.json("dora", "describe", "workload", "a")["spec"])
    assert '"onLost": "wait 7200s"' in spec
