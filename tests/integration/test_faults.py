"""Each fault at each step: the workload ends right, runs once, leaves nothing behind.

The faults are real ones: SIGKILL of the daemon between two effects, a restarted
dockerd, a cut cable.
"""

import signal
import time

import pytest

from dorabatch.daemon.steps import CREDIT_STEPS, Step
from tests.integration.dorad_process import CRASH_VARIABLE, Site

pytestmark = pytest.mark.integration

CRASHED = -signal.SIGKILL
ELSEWHERE = (Step.STOPPED, *CREDIT_STEPS)
"""Steps that this job does not reach; tests of their own do."""


@pytest.mark.parametrize("step", [s for s in Step if s not in ELSEWHERE])
def test_a_crash_at_a_step_is_harmless(site: Site, step: Step) -> None:
    site.daemon.stop()
    site.restart(**{CRASH_VARIABLE: step})
    since = time.time()
    submitting = site.begin(
        *("dsub", "--parsable", "-G", "1", "-i", "busybox", "--"),
        *("sh", "-c", "echo run; sleep 0.2; exit 3"),
    )

    assert site.daemon.wait_for_exit() == CRASHED, site.daemon.tail()
    site.restart()

    # The command itself bridges the gap: it asks again with the same key.
    printed, complaint = submitting.communicate(timeout=60)
    assert submitting.returncode == 0, complaint
    ref = printed.strip()
    record = site.wait_ended(ref, "failed")
    assert record["exit_code"] == 3
    # Where a container had been made, nobody knows whether it has run.
    attempts = [1, 2] if step is Step.START_INTENDED else [1]
    assert [run["attempt"] for run in record["attempts"]] == attempts
    assert site.count_events("start", ref, since) == 1
    assert site.daemon.ask("dlog", ref) == "run\n"
    site.check_clean()


def test_a_start_whose_container_was_removed_is_another_attempt(site: Site) -> None:
    site.daemon.stop()
    site.restart(**{CRASH_VARIABLE: Step.STARTED})
    submitting = site.begin(
        *("dsub", "--parsable", "-c", "100m", "-N", "m1", "-i", "busybox", "--"),
        *("sh", "-c", 'echo "run $DORA_ATTEMPT"'),
    )
    assert site.daemon.wait_for_exit() == CRASHED
    for found in site.containers():
        site.cluster.docker("m1").remove_container(found["Id"], force=True)
    site.restart()

    printed, complaint = submitting.communicate(timeout=60)
    assert submitting.returncode == 0, complaint
    record = site.wait_ended(printed.strip(), "done")
    assert [run["outcome"] for run in record["attempts"]] == ["node_lost", "done"]
    assert site.daemon.ask("dlog", printed.strip()) == "run 2\n"
    site.check_clean()


def test_a_crash_while_stopping_is_harmless(site: Site) -> None:
    site.daemon.stop()
    site.restart(**{CRASH_VARIABLE: Step.STOPPED})
    since = time.time()
    ref = site.daemon.submit(
        *("-G", "1", "-i", "busybox", "--", "sh", "-c", "echo run; sleep 600")
    )
    site.daemon.wait_for(ref, state="running")

    cancelling = site.begin("dcancel", ref)
    assert site.daemon.wait_for_exit() == CRASHED
    site.restart()

    cancelling.communicate(timeout=60)
    record = site.wait_ended(ref, "cancelled")
    assert [run["attempt"] for run in record["attempts"]] == [1]
    assert site.count_events("start", ref, since) == 1
    assert site.daemon.ask("dlog", ref) == "run\n"
    site.check_clean()


def test_a_restarted_dockerd_means_another_attempt(site: Site) -> None:
    ref = site.daemon.submit(
        *("-G", "1", "-i", "busybox", "--"),
        *("sh", "-c", 'echo "run $DORA_ATTEMPT"; [ $DORA_ATTEMPT = 2 ] || sleep 600'),
    )
    site.daemon.wait_for(ref, state="running")

    site.cluster.kill_dockerd("m1")
    site.cluster.start_dockerd("m1")

    record = site.wait_ended(ref, "done")
    assert [run["outcome"] for run in record["attempts"]] == ["node_lost", "done"]
    assert "Docker" in record["attempts"][0]["reason"]
    assert site.daemon.ask("dlog", ref) == "run 2\n"
    site.wait_ready()
    site.check_clean()


def restart_orderly(site: Site) -> None:
    """What `systemctl restart docker` does to a node with jobs."""
    site.cluster.kill_dockerd("m1", signal.SIGTERM)
    site.cluster.start_dockerd("m1")


OBEYS = "trap 'exit 143' TERM; while :; do sleep 0.1; done"
"""A job that ends at once when it is told to; the others are killed at last."""


@pytest.mark.mission("M52")
def test_an_orderly_restart_of_dockerd_fails_no_job(site: Site) -> None:
    deaf = "sleep 600"
    refs = [
        site.daemon.submit(
            *("-c", "100m", "-N", "m1", "-i", "busybox", "--"),
            *("sh", "-c", f"[ $DORA_ATTEMPT = 2 ] && exit 0; {rest}"),
        )
        for rest in (OBEYS, OBEYS, OBEYS, OBEYS, deaf, deaf)
    ]
    for ref in refs:
        site.daemon.wait_for(ref, state="running")

    restart_orderly(site)

    for ref in refs:
        record = site.wait_ended(ref, "done")
        outcomes = [run["outcome"] for run in record["attempts"]]
        assert outcomes == ["node_lost", "done"], record
        reason = record["attempts"][0]["reason"]
        assert reason == "the node's Docker daemon was restarted"
    site.wait_ready()
    site.check_clean()


@pytest.mark.mission("M38")
@pytest.mark.parametrize("code", [137, 143, 255])
def test_an_exit_of_its_own_after_a_restart_of_the_daemon(
    site: Site, code: int
) -> None:
    since = time.time()
    ref = site.daemon.submit(
        *("-c", "100m", "-N", "m1", "-i", "busybox", "--"),
        *("sh", "-c", f"until [ -e /tmp/end ]; do sleep 0.1; done; exit {code}"),
    )
    site.daemon.wait_for(ref, state="running")
    docker_id = site.inspect(ref)["Id"]
    site.daemon.stop()
    end_job(site, docker_id)
    site.restart()

    record = site.wait_ended(ref, "failed")
    assert record["exit_code"] == code
    assert [run["attempt"] for run in record["attempts"]] == [1]
    assert site.count_events("start", ref, since) == 1
    site.check_clean()


@pytest.mark.parametrize("dorad", ["up", "down"])
def test_what_ended_well_around_a_restart_of_dockerd_is_done(
    site: Site, dorad: str
) -> None:
    well = "trap 'echo well; exit 0' TERM; while :; do sleep 0.1; done"
    ref = site.daemon.submit(
        *("-c", "100m", "-N", "m1", "-i", "busybox", "--", "sh", "-c", well)
    )
    site.daemon.wait_for(ref, state="running")
    if dorad == "down":
        site.daemon.stop()

    restart_orderly(site)
    if dorad == "down":
        site.restart()

    record = site.wait_ended(ref, "done")
    assert [run["attempt"] for run in record["attempts"]] == [1]
    assert site.daemon.ask("dlog", ref) == "well\n"
    site.wait_ready()
    site.check_clean()


def test_a_reboot_is_told_from_a_restart_of_dockerd(site: Site) -> None:
    ref = site.daemon.submit(
        *("-c", "100m", "-N", "m1", "-i", "busybox", "--"),
        *("sh", "-c", 'echo "run $DORA_ATTEMPT"; sleep 600'),
    )
    site.daemon.wait_for(ref, state="running")
    site.cluster.reboot("m1")
    site.wait_until(
        lambda: len(site.record(ref)["attempts"]) == 2, "the second attempt"
    )
    site.daemon.wait_for(ref, state="running")
    first = site.record(ref)["attempts"][0]
    assert (first["outcome"], first["reason"]) == (
        "node_lost",
        "the node was restarted",
    )
    site.daemon.ask("dcancel", ref)
    site.wait_ended(ref, "cancelled")
    site.check_clean()


def end_job(site: Site, docker_id: str) -> None:
    """Let a job end that waits for it, and wait until Docker knows."""
    client = site.cluster.docker("m1")
    client.exec_start(client.exec_create(docker_id, ["touch", "/tmp/end"])["Id"])
    site.wait_until(
        lambda: client.inspect_container(docker_id)["State"]["Status"] == "exited",
        "the job to end",
    )


@pytest.mark.mission("M52")
def test_a_cut_network_ends_nothing(site: Site) -> None:
    ref = site.daemon.submit(
        *("-G", "1", "-i", "busybox", "--"),
        *("sh", "-c", "until [ -e /tmp/end ]; do sleep 0.1; done; echo through"),
    )
    site.daemon.wait_for(ref, state="running")
    before = site.inspect(ref)["Id"]

    site.cluster.cut("m1")
    try:
        site.wait_until(
            lambda: site.node("m1")["state"] == "UNREACHABLE", "m1 to be unreachable"
        )
        assert "no answer" in site.node("m1")["reason"]
        assert site.held_gpus() == 1
        assert site.daemon.rows(ref)[0]["state"] == "running"
    finally:
        site.cluster.heal("m1")

    site.wait_ready()
    assert site.inspect(ref)["Id"] == before
    client = site.cluster.docker("m1")
    client.exec_start(client.exec_create(before, ["touch", "/tmp/end"])["Id"])
    record = site.wait_ended(ref, "done")
    assert [run["attempt"] for run in record["attempts"]] == [1]
    assert site.daemon.ask("dlog", ref) == "through\n"
    site.check_clean()
