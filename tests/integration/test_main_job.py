"""The main job on real parts: submit, place, start, watch, change, cancel, recover.

Real daemon, real commands, real sshd and dockerd; only the GPUs are pretended.
"""

import http.client
import json
import signal
from contextlib import suppress
from pathlib import Path

import pytest

from tests.integration.dorad_process import (
    NOBODY,
    Site,
    UnixConnection,
    as_nobody,
    document,
)

pytestmark = pytest.mark.integration

V100 = "Tesla V100-SXM2-16GB"
RTX = "Quadro RTX 6000"
MIB = 1 << 20
SLEEPER = ("-i", "busybox", "--", "sleep", "600")


@pytest.mark.mission("M34")
def test_one_line_runs_to_its_end(site: Site) -> None:
    ref = site.daemon.submit("-i", "busybox", "--", "echo", "hello")

    record = site.wait_ended(ref, "done")
    assert record["exit_code"] == 0
    assert site.daemon.ask("dlog", ref) == "hello\n"
    site.check_clean()


@pytest.mark.mission("M38")
def test_the_exit_code_comes_through(site: Site) -> None:
    done = site.daemon.run(
        *("dsub", "--wait", "-i", "busybox", "--", "sh", "-c", "exit 7")
    )

    assert done.returncode == 7, done.stderr


def test_follow_prints_the_log_and_ends_with_the_code(site: Site) -> None:
    done = site.daemon.run(
        *("dsub", "--follow", "-i", "busybox", "--"),
        *("sh", "-c", "echo one; sleep 0.5; echo two; exit 5"),
    )

    assert done.returncode == 5, done.stderr
    assert done.stdout.endswith("one\ntwo\n")
    assert done.stdout.count("one") == 1


@pytest.mark.mission("M74")
def test_the_log_can_be_read_during_the_run_and_after(site: Site) -> None:
    ref = site.daemon.submit(
        *("-i", "busybox", "--", "sh", "-c", "echo first; sleep 600")
    )
    site.daemon.wait_for(ref, state="running")

    site.wait_until(
        lambda: site.daemon.ask("dlog", ref) == "first\n", "the log during the run"
    )
    site.daemon.ask("dcancel", ref)
    site.wait_ended(ref, "cancelled")
    assert site.daemon.ask("dlog", ref) == "first\n"


def test_gpus_are_free_only_when_the_container_is_gone(site: Site) -> None:
    ref = site.daemon.submit(
        *("-G", "1", "-i", "busybox", "--"),
        *("sh", "-c", "trap '' TERM; echo up; while :; do sleep 0.1; done"),
    )
    site.wait_until(lambda: site.daemon.ask("dlog", ref) == "up\n", "the trap is set")

    site.daemon.ask("dcancel", ref)

    seen_stopping = False
    for _ in range(400):
        # In this order: once nothing is held, Docker has nothing any more.
        if site.held_gpus() == 0:
            assert not site.containers(ref)
            break
        seen_stopping |= site.daemon.rows(ref)[0]["state"] == "stopping"
    assert seen_stopping
    assert site.held_gpus() == 0
    site.wait_ended(ref, "cancelled")


def test_a_job_sees_its_gpus_and_no_others(site: Site) -> None:
    wanted = [gpu.uuid for gpu in site.cluster.nodes["m1"].gpus if gpu.model == V100]
    ref = site.daemon.submit(
        *("-G", "2", "--gpu-model", V100, "-i", "busybox", "-e", "MINE=1", "--"),
        *("sh", "-c", "echo $NVIDIA_VISIBLE_DEVICES $DORA_GPU_COUNT $MINE; sleep 600"),
    )
    site.daemon.wait_for(ref, state="running")

    requests = site.inspect(ref)["HostConfig"]["DeviceRequests"]
    assert sorted(requests[0]["DeviceIDs"]) == sorted(wanted)
    site.wait_until(lambda: bool(site.daemon.ask("dlog", ref)), "the log")
    uuids, count, mine = site.daemon.ask("dlog", ref).split()
    assert (sorted(uuids.split(",")), count, mine) == (sorted(wanted), "2", "1")
    held = {gpu["model"]: gpu["held"] for gpu in site.node("m1")["gpus"]}
    assert held == {V100: 2, RTX: 0}


def test_a_job_without_gpus_sees_none(site: Site) -> None:
    ref = site.daemon.submit(
        "-i", "busybox", "-N", "m1", "--", "sh", "-c", "echo $NVIDIA_VISIBLE_DEVICES"
    )

    site.wait_ended(ref, "done")
    assert site.daemon.ask("dlog", ref) == "void\n"


@pytest.mark.mission("M29", "M39")
def test_a_container_has_no_rights_and_has_bounds(site: Site) -> None:
    words = ("-m", "64Mi", "--shm-size", "32Mi", "-c", "500m")
    with as_nobody():
        status, answer = site.request(
            "POST",
            "/v1/workloads",
            {
                "options": {
                    "image": "busybox",
                    "memory": words[1],
                    "shm_size": words[3],
                    "cpus": words[5],
                    "cmd": ["sh", "-c", "id -u; df -k /dev/shm; sleep 600"],
                }
            },
        )
    assert status == 201, answer
    ref = str(answer["id"])
    site.daemon.wait_for(ref, state="running")

    found = site.inspect(ref)
    host = found["HostConfig"]
    assert found["Config"]["User"] == f"{NOBODY}:{NOBODY}"
    assert host["CapDrop"] == ["ALL"]
    assert not host["CapAdd"]
    assert not host["Privileged"]
    assert host["SecurityOpt"] == ["no-new-privileges:true"]
    assert host["Init"] is True
    assert host["PidsLimit"] == 4096
    assert host["Memory"] == host["MemorySwap"] == 64 * MIB
    assert host["ShmSize"] == 32 * MIB
    assert host["NanoCpus"] == 500_000_000
    assert not host["Binds"]
    assert host["RestartPolicy"]["Name"] in ("", "no")
    site.wait_until(lambda: "shm" in site.daemon.ask("dlog", ref), "the log")
    lines = site.daemon.ask("dlog", ref).splitlines()
    assert lines[0] == str(NOBODY)
    assert "32768" in lines[-1].split()


def test_more_memory_than_allowed_is_said_to_be_the_reason(site: Site) -> None:
    ref = site.daemon.submit(
        *("-m", "16Mi", "-i", "busybox", "--", "sh", "-c"),
        "head -c 200m /dev/zero | tail",
    )

    record = site.wait_ended(ref, "failed")
    assert record["exit_code"] == 137
    assert "16 MiB" in record["reason"]


@pytest.mark.mission("M38")
def test_always_gives_up_with_a_reason(site: Site) -> None:
    ref = site.daemon.submit(
        "--restart", "Always", "-i", "busybox", "--", "sh", "-c", "exit 9"
    )

    record = site.wait_ended(ref, "failed")
    assert "gave up restarting: 3 runs in a row" in record["reason"]
    assert "exit code 9" in record["reason"]
    assert len(record["attempts"]) == 3
    site.check_clean()


@pytest.mark.mission("M18", "M34")
def test_an_image_that_does_not_exist_is_one_clear_failure(site: Site) -> None:
    image = f"{site.cluster.registry}/nobody/has-this:1"
    done = site.daemon.run("dsub", "--wait", "-G", "1", "-i", image, "--", "true")
    assert done.returncode != 0

    rows = [row for row in site.daemon.rows() if row["image"] == image]
    record = site.wait_ended(str(rows[0]["id"]), "failed")
    assert image in record["reason"]
    assert "not found" in record["reason"] or "unknown" in record["reason"]
    assert len(record["attempts"]) == 1
    site.check_clean()


def apply(site: Site, text: str) -> dict[str, str]:
    """Apply one document; what became of it."""
    printed = site.daemon.ask("dora", "apply", "--json", "-f", "-", stdin=text)
    result: dict[str, str] = json.loads(printed)["results"][0]
    return result


def docker_ids(site: Site, ref: str) -> set[str]:
    """The running containers of a workload, as the daemon and Docker agree on them."""
    held = {one["docker_id"] for one in site.record(ref)["containers"]}
    assert held == {found["Id"] for found in site.containers(ref)}
    return held


@pytest.mark.mission("M22", "M61")
def test_apply_creates_scales_updates_and_leaves_alone(site: Site) -> None:
    command = "sleep 600"
    assert apply(site, document("app", cmd=command))["result"] == "created"
    ref = str(site.daemon.rows("app")[0]["id"])
    site.daemon.wait_for(ref, running=1)
    first = docker_ids(site, ref)

    same = document("app", cmd=["sleep", "600"])
    assert apply(site, same)["result"] == "not changed"
    assert apply(site, document("app", replicas=2, cmd=command))["result"] == "scaled"
    site.daemon.wait_for(ref, running=2)
    assert first < docker_ids(site, ref)

    assert apply(site, document("app", cmd=command))["result"] == "scaled"
    site.wait_until(lambda: len(site.containers(ref)) == 1, "one container again")
    assert docker_ids(site, ref) == first

    assert apply(site, document("app", cmd="sleep 601"))["result"] == "updated"
    site.wait_until(
        lambda: {found["Command"] for found in site.containers(ref)} == {"sleep 601"},
        "the new command",
    )
    site.daemon.wait_for(ref, running=1, version=2)
    assert not first & docker_ids(site, ref)


def test_a_live_name_is_taken(site: Site) -> None:
    site.daemon.submit("--name", "one", *SLEEPER)

    done = site.daemon.run("dsub", "--name", "one", *SLEEPER)

    assert done.returncode == 3
    assert "is live already" in done.stderr


def test_a_node_with_another_key_is_quarantined(site: Site) -> None:
    site.cluster.rekey("m2")

    try:
        site.wait_until(
            lambda: site.node("m2")["state"] == "QUARANTINED", "m2 to be quarantined"
        )
        assert "host key" in site.node("m2")["reason"]
        ref = site.daemon.submit("-N", "m2", *SLEEPER)
        site.wait_until(
            lambda: "NodeNotReady" in site.daemon.ask("dstat", "--why", ref),
            "the reason why it waits",
        )
        assert site.daemon.rows(ref)[0]["state"] == "queued"
    finally:
        fingerprint = site.cluster.nodes["m2"].host_key_fingerprint
        site.daemon.ask("dnode", "rekey", "m2", "--fingerprint", fingerprint)
    site.wait_ready()
    site.daemon.wait_for(ref, state="running")


def test_a_node_that_refuses_the_key_says_so(site: Site) -> None:
    site.cluster.refuse_key("m2")
    site.cluster.end_sessions("m2")
    try:
        site.wait_until(lambda: site.node("m2")["state"] == "REFUSED", "refusal")
        reason = site.node("m2")["reason"]
        assert "m2" in reason
        assert "key" in reason
    finally:
        site.cluster.accept_key("m2")
    site.wait_ready()


def test_an_answered_submission_survives_a_power_cut(site: Site) -> None:
    body = {"options": {"image": "busybox", "cmd": ["echo", "kept"]}}
    status, answer = site.request("POST", "/v1/workloads", body)
    site.daemon.kill()
    assert status == 201

    site.restart()

    site.wait_ended(str(answer["id"]), "done")
    assert site.daemon.ask("dlog", str(answer["id"])) == "kept\n"


def test_a_submission_key_makes_one_workload(site: Site) -> None:
    body = {
        "options": {"image": "busybox", "cmd": ["true"]},
        "submission_key": "the-same-one",
    }
    _, first = site.request("POST", "/v1/workloads", body)
    status, second = site.request("POST", "/v1/workloads", body)

    assert status in (200, 201)
    assert second["id"] == first["id"]


def test_a_new_daemon_takes_over_what_runs(site: Site) -> None:
    ref = site.daemon.submit(
        *("-G", "1", "-i", "busybox", "--", "sh", "-c", "echo run; sleep 600")
    )
    site.daemon.wait_for(ref, state="running")
    before = docker_ids(site, ref)

    assert site.daemon.stop() == 0
    assert [found["State"] for found in site.containers(ref)] == ["running"]
    site.restart()

    site.daemon.wait_for(ref, state="running")
    assert docker_ids(site, ref) == before
    assert site.held_gpus() == 1
    site.daemon.ask("dcancel", ref)
    site.wait_ended(ref, "cancelled")
    site.check_clean()


def test_a_user_without_rights_is_refused(site: Site) -> None:
    ref = site.daemon.submit("--name", "roots", *SLEEPER)
    address = site.cluster.nodes["m1"].address
    with as_nobody():
        added = site.request(
            "POST", "/v1/nodes", {"host": address, "fingerprint": "SHA256:x"}
        )
        cordoned = site.request("POST", "/v1/nodes/m1/cordon", {})
        removed = site.request("DELETE", "/v1/kinds/Node/m1")
        cancelled = site.request("POST", "/v1/cancel", {"refs": [ref]})
        everything = site.request("POST", "/v1/cancel", {"all": True})
        claimed = site.request(
            "POST",
            "/v1/workloads",
            {"options": {"image": "busybox"}, "user": "root"},
        )

    for status, answer in (added, cordoned, removed):
        assert status == 403, answer
        assert "nobody may not" in answer["error"]["message"]
    assert cancelled[0] == 403, cancelled
    assert "belongs to root" in cancelled[1]["error"]["message"]
    assert everything[1].get("cancelled") == 0, everything
    assert claimed[0] == 400, claimed
    assert "unknown field 'user'" in claimed[1]["error"]["message"]
    site.daemon.wait_for(ref, state="running")
    assert len(site.daemon.nodes()) == len(site.cluster.nodes)


@pytest.mark.parametrize("is_announced", [True, False])
def test_a_huge_request_is_refused_and_nothing_else_happens(
    site: Site, is_announced: bool
) -> None:
    connection = UnixConnection(site.daemon.socket)
    connection.putrequest("POST", "/v1/workloads")
    size = 100 * MIB
    if is_announced:
        connection.putheader("Content-Length", str(size))
    else:
        connection.putheader("Transfer-Encoding", "chunked")
    connection.endheaders()
    piece = b"x" * MIB
    head = b"" if is_announced else b"%x\r\n" % MIB
    tail = b"" if is_announced else b"\r\n"
    with suppress(BrokenPipeError, ConnectionResetError):
        for _ in range(100):
            connection.send(head + piece + tail)
    answer = http.client.HTTPResponse(connection.sock, method="POST")
    answer.begin()
    assert answer.status == 413
    connection.close()
    assert site.is_up()
    assert site.request("GET", "/v1/status")[0] == 200


def test_a_document_that_grows_when_read_is_refused(site: Site, tmp_path: Path) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    for level in range(1, 12):
        names = ", ".join([f"*a{level - 1}"] * 10)
        lines.append(f"a{level}: &a{level} [{names}]")
    path = tmp_path / "bomb.yaml"
    path.write_text("apiVersion: v1\nkind: Workload\n" + "\n".join(lines) + "\n")

    done = site.daemon.run("dsub", str(path))

    assert done.returncode == 2
    assert "alias" in done.stderr
    assert site.request("GET", "/v1/status")[0] == 200


def test_an_unknown_field_is_named(site: Site, tmp_path: Path) -> None:
    path = tmp_path / "job.yaml"
    path.write_text(document("typo", comand="true"))

    done = site.daemon.run("dsub", str(path))

    assert done.returncode == 2
    assert "job.yaml:" in done.stderr
    assert "there is no field 'comand' (did you mean 'cmd'" in done.stderr


def test_a_second_daemon_is_refused(site: Site) -> None:
    first = site.daemon.process
    site.daemon.launch()
    assert site.daemon.wait_for_exit() == 5
    site.daemon.process = first

    assert "another dorad uses it" in site.daemon.tail()
    assert site.is_up()


def test_a_stopped_daemon_ends_by_itself(site: Site) -> None:
    assert site.daemon.stop(signal.SIGTERM) == 0
    assert site.daemon.run("dstat").returncode == 6
