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

    assert site.daemon.wait_for_exit() == CRASHED
    site.restart()

    # The command itself bridges the gap: it asks again with the same key.
    printed, complaint = submitting.communicate(timeout=60)
    assert submitting.returncode == 0, complaint
    ref = printed.strip()
    record = site.wait_ended(ref, "failed")
    assert record["exit_code"] == 3
    assert [run["attempt"] for run in record["attempts"]] == [1]
    assert site.count_events("start", ref, since) == 1
    assert site.daemon.ask("dlog", ref) == "run\n"
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
