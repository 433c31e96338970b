"""dstat, dlog and dcancel as users run them."""

import json
import os
import pty
import subprocess

import pytest

from .conftest import interrupt
from .peer import ROWS, TABLE


def test_the_table_is_printed_as_it_comes(peer):
    assert peer.run("dstat") == (0, TABLE, "")
    assert peer.last()["query"] == ""


def test_filters_become_a_query(peer):
    peer.run(
        "dstat",
        "12",
        "blue.red",
        "-uana",
        "-u",
        "bob",
        "--state=PD,R",
        "-a",
        "--limit",
        "5",
        "--no-header",
        "-c",
        "--me",
        "-w",
        "a b&c",
        "-o",
        "id",
    )
    assert peer.last()["query"] == (
        "user=ana,bob&workspace=a%20b%26c&state=PD,R&refs=12,blue.red&me=1&all=1"
        "&columns=id&limit=5&view=containers&render=table&header=0"
    )


def test_json(peer):
    status, out, err = peer.run("dstat", "--json")
    assert (status, json.loads(out), err) == (0, ROWS, "")


def test_why(peer):
    assert peer.run("dstat", "--why", "12") == (0, "no node has 2 free GPUs\n", "")
    assert peer.run("dstat", "--why", "12", "-a")[0] == 2


def test_a_refusal_keeps_its_exit_status(peer):
    said = "dstat: no user 'nobody'; see dora get users\n"
    assert peer.run("dstat", "-u", "nobody") == (2, "", said)


def test_a_long_table_arrives_whole(peer):
    status, out, _ = peer.run("dstat", "-o", "rows20000")
    lines = out.splitlines()
    assert (status, len(lines)) == (0, 20000)
    assert lines[-1].split() == ["19999", "workload-19999"]


def test_a_reader_that_goes_away_is_no_error(peer):
    with peer.open("dstat", "-o", "rows20000") as process:
        assert process.stdout.readline().startswith("0")
        process.stdout.close()
        assert process.wait() == 141
        assert process.stderr.read() == ""


def test_without_a_daemon_it_says_what_to_do(peer, tmp_path):
    status, out, err = peer.run("dstat", DORABATCH_SOCKET=str(tmp_path / "x" / "y"))
    assert (status, out) == (6, "")
    assert err == (
        f"dstat: no daemon answers at {tmp_path}/x/y: there is no such socket; is"
        " dorad running? If it listens elsewhere, set DORABATCH_SOCKET\n"
    )


def test_a_path_too_long_for_a_socket(peer):
    status, _, err = peer.run("dstat", DORABATCH_SOCKET="/tmp/" + "x" * 200)
    assert status == 6
    assert "path too long" in err


def test_watch_ends_well_on_ctrl_c(peer):
    process = peer.open("dstat", "--watch", "0.5", "-a")
    assert process.stdout.readline().startswith("Every 0.5 s: dstat --watch 0.5 -a ")
    peer.wait_for("/v1/workloads", times=2)
    interrupt(process)
    out, err = process.communicate()
    assert (process.returncode, err) == (0, "")
    assert "blue.red" in out


def test_watch_clears_a_terminal(peer):
    ours, theirs = pty.openpty()
    code = "import sys; from dorabatch.cmds.front import dstat; sys.exit(dstat())"
    argv = [os.sys.executable, "-c", code, "--watch"]
    with subprocess.Popen(argv, stdout=theirs, env=peer.environ()) as process:
        text = os.read(ours, 4096).decode()
        interrupt(process)
        assert process.wait() == 0
    os.close(ours)
    os.close(theirs)
    assert text.startswith("\x1b[H\x1b[2J\x1b[3JEvery 2 s: dstat --watch")


@pytest.mark.parametrize("text", ["0", "x", "nan"])
def test_watch_wants_seconds(peer, text):
    status, _, err = peer.run("dstat", f"--watch={text}")
    assert status == 2
    assert err.startswith(f"dstat: option --watch: '{text}' is not a number of seconds")


def test_a_log(peer):
    (peer.home / "12.log").write_bytes(b"one\ntwo \xff\n")
    with peer.open("dlog", "12") as process:
        assert process.stdout.buffer.read() == b"one\ntwo \xff\n"
    peer.run("dlog", "ana/blue.red", "-r", "2", "--attempt=1")
    assert peer.last()["path"] == "/v1/workloads/ana/blue.red/log"
    assert peer.last()["query"] == "replica=2&attempt=1"


def test_no_such_log(peer):
    said = "dlog: no workload '99'; see dstat --all\n"
    assert peer.run("dlog", "99") == (2, "", said)
    assert peer.run("dlog", "-f", "99") == (2, "", said)


def test_cancel_by_name_asks_nothing(peer):
    assert peer.run("dcancel", "12", "blue.red") == (0, "Cancelled 2 workloads\n", "")
    assert peer.last()["body"] == {"refs": ["12", "blue.red"], "dry_run": False}


def test_cancel_by_filter_needs_a_yes(peer):
    status, out, err = peer.run("dcancel", "--all", "-s", "PD,R")
    assert (status, out) == (2, "")
    assert err == (
        "dcancel: 12 ana/blue.red (running)\ndcancel: 13 ana/green (queued)\n"
        "dcancel: Cancel these 2 workloads? There is no terminal to ask on: give --yes"
        " to cancel them, or --dry-run to list them\n"
    )
    assert [row["body"]["dry_run"] for row in peer.seen()] == [True]
    assert peer.last()["body"]["states"] == ["PD", "R"]
    assert peer.run("dcancel", "--all", "--yes")[:2] == (0, "Cancelled 2 workloads\n")


def test_cancelling_many_named_ones_needs_a_yes(peer):
    names = [str(number) for number in range(11)]
    assert peer.run("dcancel", *names)[0] == 2
    assert peer.run("dcancel", *names[:10])[0] == 0
    assert peer.run("dcancel", "-y", *names)[0] == 0


def test_a_dry_run_cancels_nothing(peer):
    status, out, _ = peer.run("dcancel", "--all", "--dry-run", "--yes")
    assert status == 0
    assert out.splitlines()[0] == "would cancel 12 ana/blue.red (running)"
    assert [row["body"]["dry_run"] for row in peer.seen()] == [True]


@pytest.mark.parametrize(("reply", "status"), [("y\n", 0), ("n\n", 1)])
def test_the_question_is_asked_on_a_terminal(peer, reply, status):
    ours, theirs = pty.openpty()
    code = "import sys; from dorabatch.cmds.front import dcancel; sys.exit(dcancel())"
    argv = [os.sys.executable, "-c", code, "--all"]
    options = {"stdin": theirs, "stderr": theirs, "stdout": subprocess.PIPE}
    with subprocess.Popen(argv, env=peer.environ(), **options) as process:
        text = b""
        while b"[y/N]" not in text:
            text += os.read(ours, 4096)
        os.write(ours, reply.encode())
        out = process.stdout.read()
        assert process.wait() == status
    os.close(ours)
    os.close(theirs)
    assert b"Cancel these 2 workloads?" in text
    assert (out == b"Cancelled 2 workloads\n") is (status == 0)
    if status == 0:
        assert peer.last()["body"]["refs"] == ["12", "13"]


def test_why_node_by_node(peer):
    peer.run("dstat", "--why", "12", "--placement")
    assert peer.last()["query"] == "placement=1"
    peer.run("dstat", "--why", "12", "--json")
    assert peer.last()["query"] == "render=json"
    status, _, said = peer.run("dstat", "--placement")
    assert (status, said) == (2, "dstat: --placement goes with --why REF\n")
