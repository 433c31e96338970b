"""Nodes and registries that refuse starts do not eat the queue."""

from typing import Any

from sqlalchemy import select

from dorabatch.config import MailSettings
from dorabatch.db import transaction
from dorabatch.errors import NodeUnreachable
from dorabatch.node.fake import FakeNode
from dorabatch.queue import history
from dorabatch.queue.records import Container, Run
from dorabatch.queue.states import State
from dorabatch.queue.tables import MAILS
from tests.simulation import hands
from tests.unit.zone.conftest import Zone, job

BROKEN = (
    "OCI runtime create failed: unable to retrieve OCI runtime error (open log.json: "
    "no such file or directory): runc did not terminate successfully: exit status 1"
)
EXEC = 'unable to start container process: exec: "/x": '
AWAY = 'Get "https://ghcr.io/v2/": dial tcp 10.0.0.1:443: connect: connection refused'
GPU = {"gpu": {"product_name": "All", "count": 1}}
"""n1, n2 and n3 have GPUs; n1 is taken first."""
PAUSE = 5
SMALL = {"cpu": {"count": "100m"}}


def on(*nodes: str) -> dict[str, Any]:
    """A tenth of a core of one of these nodes."""
    return {**SMALL, "node": {"name": list(nodes)}}


def the(zone: Zone, name: str) -> Container:
    """The only container of a workload."""
    board = zone.world.books.board
    (key,) = (one.workload_id for one in board.workloads.values() if one.name == name)
    (found,) = board.containers_of(key)
    return found


def runs_of(zone: Zone, name: str) -> list[Run]:
    """The attempts of a workload."""
    with transaction(zone.world.effects.engine) as tx:
        return list(history.runs_of(tx.connection, [the(zone, name).container_id]))


def starts(node: FakeNode, call: str = "start") -> int:
    """How often a node was asked to start something."""
    return sum(name == call for _, name, _ in node.calls)


def refuse(zone: Zone, node: str, *names: str) -> None:
    """Let a node refuse the starts of these workloads."""
    zone.world.nodes[node].refuses = BROKEN
    zone.apply(*(job(name, selectors=on(node)) for name in names))
    zone.go()


def later(zone: Zone, seconds: int) -> None:
    """So much later, with cycles and looks at the nodes all the time."""
    for _ in range(0, seconds, PAUSE):
        hands.turn(zone.world, PAUSE)
        hands.work(zone.world)


def is_aside(zone: Zone, node: str) -> bool:
    """Whether a node is put aside."""
    view = zone.world.books.fleet.get(node)
    assert view is not None
    return view.refusal is not None


def test_what_a_node_refuses_runs_on_another(zone: Zone) -> None:
    names = [f"j{number}" for number in range(6)]
    zone.world.nodes["n1"].refuses = BROKEN
    zone.apply(*(job(name, selectors=on("n1", "n2")) for name in names))
    zone.go()
    zone.go()
    assert {one.node for one in zone.jobs()} == {"n2"}
    assert len(zone.jobs()) == len(names)
    for name in names:
        assert [run.outcome for run in runs_of(zone, name)][-1] is None


def test_it_keeps_away_from_that_node_longer_and_longer(zone: Zone) -> None:
    node = zone.world.nodes["n4"]
    node.refuses = BROKEN
    zone.apply(job("a", selectors=on("n4")))
    zone.go()
    why = zone.run("dstat", "--why", "a")
    assert "n4" in why and "refused its start (node n4: start dora-" in why
    assert "exit status 1); tried there again at" in why
    assert "StartRefused" in zone.run("dstat", "--why", "a", "--placement")
    assert starts(node) == 1
    later(zone, 20)
    assert starts(node) == 1
    later(zone, 20)
    assert (starts(node), the(zone, "a").lost_requeues) == (2, 2)
    later(zone, 45)
    assert starts(node) == 2
    node.refuses = ""
    later(zone, 30)
    assert [one.node for one in zone.jobs("a")] == ["n4"]


def test_it_gives_up_after_so_many_lost_attempts(zone: Zone) -> None:
    zone.world.nodes["n4"].refuses = BROKEN
    zone.apply(job("a", selectors=on("n4")))
    later(zone, 30 * (1 + 2 + 4 + 8 + 16) + 100)
    (row,) = zone.json("dstat", "--all", "a")
    assert (row["code"], len(runs_of(zone, "a"))) == ("NF", 6)
    gave_up = "gave up after it was queued again 5 times for lost attempts"
    assert gave_up in row["reason"]
    events = zone.json("dora", "describe", "workload", "a")["events"]
    assert any(
        "3 of at most 5 times for lost attempts" in one["text"] for one in events
    )


def test_what_is_surely_its_own_fault_is_final_at_once(zone: Zone) -> None:
    zone.world.nodes["n4"].refuses = f"{EXEC}stat /x: no such file or directory"
    zone.apply(*(job(name, selectors=on("n4")) for name in ("a", "b", "c", "d")))
    zone.go()
    assert {len(runs_of(zone, name)) for name in ("a", "b", "c", "d")} == {1}
    assert zone.json("dstat", "--all", "a")[0]["code"] == "F"
    assert not is_aside(zone, "n4")


def test_what_may_be_its_own_fault_is_tried_thrice_and_blames_no_node(
    zone: Zone,
) -> None:
    zone.world.nodes["n4"].refuses = f"{EXEC}permission denied"
    zone.apply(*(job(name, selectors=on("n4")) for name in ("a", "b", "c", "d")))
    later(zone, 120)
    assert {len(runs_of(zone, name)) for name in ("a", "b", "c", "d")} == {3}
    assert zone.json("dstat", "--all", "a")[0]["code"] == "F"
    assert not is_aside(zone, "n4")


def test_a_node_that_refuses_several_workloads_is_put_aside(zone: Zone) -> None:
    refuse(zone, "n4", "a", "b")
    assert not is_aside(zone, "n4")
    refuse(zone, "n4", "c")
    zone.apply(job("d", selectors=on("n4")))
    before = starts(zone.world.nodes["n4"])
    zone.go()
    assert starts(zone.world.nodes["n4"]) == before
    (row,) = (one for one in zone.json("dnode", "list") if one["name"] == "n4")
    assert row["state"] == "QUARANTINED"
    assert row["refuses_starts_since"].startswith("2026-01-05T12:00")
    assert row["reason"].startswith("refuses starts since 2026-01-05 ")
    assert "exit status 1" in row["reason"] and "dnode uncordon" in row["reason"]
    assert "QUARANTINED" in zone.run("dnode", "show", "n4")
    why = zone.run("dstat", "--why", "d")
    assert "n4" in why and "QUARANTINED: refuses starts since" in why
    status = zone.json("dora", "status")
    assert (status["nodes_refusing"], status["nodes_ready"]) == (1, 3)


def test_one_start_at_a_time_tries_it_and_a_success_takes_it_back(zone: Zone) -> None:
    refuse(zone, "n4", "a", "b", "c")
    node = zone.world.nodes["n4"]
    assert starts(node) == 3
    later(zone, 70)
    assert starts(node) == 4
    view = zone.world.books.fleet.get("n4")
    assert view is not None and view.refusal is not None and view.refusal.tries == 1
    later(zone, 100)
    assert starts(node) == 4
    node.refuses = ""
    later(zone, 30)
    assert not is_aside(zone, "n4")
    later(zone, 300)
    assert {one.name for one in zone.jobs()} == {"a.1", "b.1", "c.1"}


def test_uncordon_takes_it_back_at_once(zone: Zone) -> None:
    refuse(zone, "n4", "a", "b", "c")
    zone.world.nodes["n4"].refuses = ""
    zone.run("dnode", "uncordon", "n4")
    assert not is_aside(zone, "n4")
    zone.apply(job("d", selectors=on("n4")))
    zone.go()
    assert [one.name for one in zone.jobs()] == ["d.1"]


def test_it_stays_aside_over_a_restart_of_the_daemon(zone: Zone) -> None:
    refuse(zone, "n4", "a", "b", "c")
    before = zone.world.books.fleet.get("n4")
    zone.start_again(zone.world.settings)
    after = zone.world.books.fleet.get("n4")
    assert before is not None and after is not None
    assert before.refusal == after.refusal and after.refusal is not None
    zone.run("dnode", "uncordon", "n4")
    zone.start_again(zone.world.settings)
    assert not is_aside(zone, "n4")


def test_one_workload_alone_puts_no_node_aside(zone: Zone) -> None:
    zone.world.nodes["n4"].refuses = BROKEN
    zone.apply(job("a", selectors=on("n4"), replica={"count": 5}))
    zone.go()
    assert not is_aside(zone, "n4")


def test_starts_without_gpus_do_not_speak_for_the_gpus(zone: Zone) -> None:
    node = zone.world.nodes["n1"]
    for name in ("a", "b", "c"):
        node.refuses = BROKEN
        zone.apply(job(name, selectors={**GPU, "node": {"name": "n1"}}))
        zone.go()
        node.refuses = ""
        zone.apply(job(f"cpu.{name}", selectors=on("n1")))
        zone.go()
    assert is_aside(zone, "n1")
    later(zone, 300)
    assert not is_aside(zone, "n1")


def test_a_site_says_how_patient_it_is(zone: Zone) -> None:
    usual, node = zone.world.settings, zone.world.nodes["n4"]
    changed = {
        "node": usual.node.model_copy(
            update={"refusals_max": 1, "refusing_retry_seconds": 20.0}
        ),
        "launch": usual.launch.model_copy(
            update={"lost_requeues_max": 1, "avoid_node_seconds": 5.0}
        ),
    }
    zone.start_again(usual.model_copy(update=changed))
    later(zone, 5)
    refuse(zone, "n4", "a")
    assert is_aside(zone, "n4")
    later(zone, 10)
    assert starts(node) == 1
    later(zone, 20)
    assert (starts(node), zone.state("a")) == (2, "finished")


def test_the_administrators_are_told_by_mail_once(zone: Zone) -> None:
    mail = MailSettings(host="127.0.0.1", port=9, admins=("ops@example.org",))
    zone.start_again(zone.world.settings.model_copy(update={"mail": mail}))
    zone.go()
    refuse(zone, "n4", "a", "b", "c")
    later(zone, 120)
    with zone.world.effects.engine.connect() as connection:
        found = connection.execute(select(MAILS)).all()
    assert [one.address for one in found] == ["ops@example.org"]
    assert found[0].subject == "[dorabatch] node n4 refuses starts"
    assert "exit status 1" in found[0].text


def pulling(zone: Zone, *names: str, image: str = "ghcr.io/lab/tool:1") -> None:
    """Submit workloads whose image no node has."""
    for node in zone.world.nodes.values():
        node.images = {"busybox"}
    zone.apply(*(job(name, image={"image": image}, selectors=SMALL) for name in names))
    zone.go()


def silence(zone: Zone, words: str) -> None:
    """Let no node reach a registry; empty: each does again."""
    for node in zone.world.nodes.values():
        node.no_registry = words


def test_pulls_wait_for_a_registry_and_burn_no_attempt(zone: Zone) -> None:
    silence(zone, AWAY)
    names = ("a", "b", "c", "d")
    pulling(zone, *names)
    later(zone, 300)
    assert zone.jobs() == []
    why = zone.run("dstat", "--why", "a")
    assert "registry ghcr.io does not answer; tried again at" in why
    assert "connection refused" in why
    tries = sum(starts(one, "pull") for one in zone.world.nodes.values())
    silence(zone, "")
    later(zone, 300)
    zone.go()
    assert {one.name for one in zone.jobs()} == {f"{name}.1" for name in names}
    assert {the(zone, name).lost_requeues for name in names} == {0}
    assert tries < 16
    assert not any(is_aside(zone, name) for name in zone.world.nodes)


def test_other_registries_and_images_that_are_there_need_not_wait(zone: Zone) -> None:
    silence(zone, AWAY)
    pulling(zone, "a")
    for node in zone.world.nodes.values():
        node.images.add("ghcr.io/lab/there:1")
    zone.apply(job("b", image={"image": "ghcr.io/lab/there:1"}, selectors=SMALL))
    zone.go()
    assert [one.name for one in zone.jobs()] == ["b.1"]


def test_the_network_of_one_node_does_not_keep_a_job_for_ever(zone: Zone) -> None:
    for name in ("n1", "n2", "n3"):
        zone.world.nodes[name].no_registry = AWAY
    pulling(zone, "a")
    later(zone, 120)
    assert [one.node for one in zone.jobs()] == ["n4"]


def test_a_node_that_alone_gets_no_answer_is_put_aside(zone: Zone) -> None:
    zone.world.nodes["n4"].no_registry = AWAY
    for node in zone.world.nodes.values():
        node.images = {"busybox"}
    image = {"image": "ghcr.io/lab/tool:1"}
    zone.apply(*(job(name, image=image, selectors=on("n4")) for name in ("a", "b")))
    later(zone, 200)
    assert not is_aside(zone, "n4")
    zone.apply(job("c", image=image, selectors=on("n4")))
    later(zone, 300)
    assert is_aside(zone, "n4")
    (row,) = (one for one in zone.json("dnode", "list") if one["name"] == "n4")
    assert "registry ghcr.io answers n1 and not it: image" in row["reason"]
    assert the(zone, "a").lost_requeues == 0


def test_an_image_that_is_not_there_is_final_at_once(zone: Zone) -> None:
    for node in zone.world.nodes.values():
        node.registry = set()
    pulling(zone, "a")
    assert zone.json("dstat", "--all", "a")[0]["code"] == "F"


def test_a_trial_that_hears_of_no_such_image_has_an_answer(zone: Zone) -> None:
    silence(zone, AWAY)
    pulling(zone, "a")
    silence(zone, "")
    for node in zone.world.nodes.values():
        node.registry = set()
    later(zone, 30)
    zone.go()
    assert zone.json("dstat", "--all", "a")[0]["code"] == "F"
    assert not zone.world.books.registries.silent


def test_a_cancelled_job_makes_nobody_ask_a_registry(zone: Zone) -> None:
    silence(zone, AWAY)
    pulling(zone, "a")
    zone.run("dcancel", "a")
    later(zone, 900)
    assert not zone.world.books.registries.silent


def test_a_registry_is_learnt_again_after_a_restart(zone: Zone) -> None:
    silence(zone, AWAY)
    pulling(zone, "a")
    zone.start_again(zone.world.settings)
    assert not zone.world.books.registries.silent
    zone.go()
    zone.go()
    assert zone.world.books.registries.silent
    silence(zone, "")
    later(zone, 300)
    zone.go()
    assert [one.name for one in zone.jobs()] == ["a.1"]


def test_a_start_whose_container_is_gone_is_another_attempt(zone: Zone) -> None:
    def vanish(node: FakeNode, name: str) -> None:
        node.when_started = None
        del node.containers[name]
        raise NodeUnreachable("the answer is lost, and somebody removes the container")

    zone.world.nodes["n4"].when_started = vanish
    zone.apply(job("a", selectors=on("n4")))
    hands.turn(zone.world)
    hands.work(zone.world)
    assert the(zone, "a").state is State.STARTING
    zone.start_again(zone.world.settings)
    zone.go()
    zone.go()
    assert [run.attempt for run in runs_of(zone, "a")] == [1, 2]
    assert runs_of(zone, "a")[0].reason == (
        "its start was interrupted, and its container is not there"
    )
    assert len(zone.jobs("a")) == 1
