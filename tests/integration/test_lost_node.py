"""A real node whose power goes, or whose link does, declared lost and back again."""

import json

import pytest

from tests.integration.dorad_process import Site

pytestmark = pytest.mark.integration


def run_pair(site: Site) -> tuple[str, str]:
    """(a job that may run on either node, one that fails with its node): both on m1."""
    site.daemon.ask("dnode", "cordon", "m2")
    moves = site.daemon.submit(
        *("-c", "100m", "-N", "m1", "-N", "m2", "-i", "busybox", "--"),
        *("sh", "-c", 'echo "run $DORA_ATTEMPT"; [ $DORA_ATTEMPT = 2 ] || sleep 600'),
    )
    fails = site.daemon.submit(
        *("-G", "1", "--on-lost", "fail", "-i", "busybox", "--", "sleep", "600")
    )
    for ref in (moves, fails):
        site.daemon.wait_for(ref, state="running")
    site.daemon.ask("dnode", "uncordon", "m2")
    return moves, fails


def wait_silent(site: Site) -> None:
    """Wait until m1 counts as silent, for those who look at a job too."""
    site.wait_until(lambda: site.node("m1")["silent_since"], "m1 to be silent")


def outcomes(site: Site, ref: str) -> list[tuple[str, str]]:
    return [(one["node"], one["outcome"]) for one in site.record(ref)["attempts"]]


def test_a_node_without_power_is_declared_lost(site: Site) -> None:
    moves, fails = run_pair(site)
    site.cluster.power_off("m1")
    try:
        wait_silent(site)
        site.daemon.wait_for(fails, code="R", reason_code="NodeSilent")
        why = site.daemon.ask("dstat", "--why", fails)
        assert "its node m1 has not answered since" in why
        assert site.held_gpus() == 1

        told = json.loads(site.daemon.ask("dnode", "lost", "m1", "--yes", "--json"))
        assert {run["then"] for run in told["runs"]} == {"queued again", "node lost"}
        assert site.held_gpus() == 0
        site.wait_ended(moves, "done")
        assert outcomes(site, moves) == [("m1", "node_lost"), ("m2", "done")]
        assert site.daemon.ask("dlog", moves) == "run 2\n"
        site.wait_ended(fails, "node_lost")
        assert site.node("m1")["state"] == "LOST"
    finally:
        site.cluster.power_on("m1")
    site.wait_ready()
    site.check_clean()
    ref = site.daemon.submit("-G", "2", "-i", "busybox", "--", "true")
    site.wait_ended(ref, "done")
    assert outcomes(site, ref) == [("m1", "done")]
    assert outcomes(site, fails) == [("m1", "node_lost")]


def test_what_ran_on_behind_a_cut_link_is_removed_first(site: Site) -> None:
    moves, fails = run_pair(site)
    site.cluster.cut("m1")
    try:
        wait_silent(site)
        site.daemon.ask("dnode", "lost", "m1", "--yes")
        site.wait_ended(moves, "done")
        # Nobody asked the machine: the jobs run on there, and count nowhere.
        running = site.cluster.docker("m1").containers()
        assert len(running) == 2
        assert site.held_runs() == 0
        # All of m1, for the moment at which it may be used again.
        whole = site.daemon.submit(
            *("-G", "3", "-N", "m1", "-i", "busybox", "--", "sleep", "600")
        )
        # The daemon of the same zone may restart meanwhile.
        site.daemon.stop()
        site.daemon.start()
        assert site.node("m1")["state"] == "LOST"
    finally:
        site.cluster.heal("m1")
    site.daemon.wait_for(whole, state="running")
    assert not site.containers(moves)
    assert not site.containers(fails)
    assert outcomes(site, moves) == [("m1", "node_lost"), ("m2", "done")]
    assert outcomes(site, fails) == [("m1", "node_lost")]
    site.daemon.ask("dcancel", whole)
    site.wait_ended(whole, "cancelled")
    site.check_clean()


def test_a_node_that_answers_is_not_lost(site: Site) -> None:
    status, said = site.request("POST", "/v1/nodes/m1/lost", {})
    assert status == 409
    assert "node m1 answers" in said["error"]["message"]
