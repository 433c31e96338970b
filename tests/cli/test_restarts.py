"""Commands outlive a daemon that is killed and started again."""

import json

from .conftest import finish, interrupt

DONE = json.dumps({"outcome": "done", "exit_code": 0})
JOB = "kind: Workload\n"
AWAY = "dorad does not answer, trying again for"


def test_a_submission_is_made_once_though_its_answer_was_lost(peer):
    (peer.home / "die").touch()
    process = peer.submit("dsub", text=JOB, DORABATCH_PATIENCE_SECONDS="30")
    peer.process.wait()
    peer.start()
    status, out, err = finish(process)
    assert (status, out) == (0, "Submitted workload 12\n")
    assert AWAY in err and err.count("\n") == 1
    assert list(json.loads((peer.home / "keys.json").read_text()).values()) == [12]
    assert len(peer.seen()) == 2


def test_waiting_goes_on(peer):
    process = peer.submit("dsub", "--wait", text=JOB, DORABATCH_PATIENCE_SECONDS="30")
    peer.wait_for("/wait")
    peer.kill()
    peer.start()
    peer.wait_for("/wait", times=2)
    (peer.home / "12.end").write_text(DONE)
    status, out, err = finish(process)
    assert (status, out) == (0, "Submitted workload 12\n")
    assert AWAY in err and err.count("\n") == 1


def test_a_followed_log_has_each_byte_once(peer):
    log = peer.home / "12.log"
    log.write_text("one\ntwo\nthree\n")
    process = peer.open("dlog", "-f", "-n", "2", "12", DORABATCH_PATIENCE_SECONDS="30")
    assert process.stdout.readline() == "two\n"
    assert process.stdout.readline() == "three\n"
    peer.kill()
    with log.open("a") as file:
        file.write("four\n")
    peer.start()
    assert process.stdout.readline() == "four\n"
    (peer.home / "12.end").write_text(DONE)
    status, out, err = finish(process)
    assert (status, out) == (0, "")
    assert AWAY in err and err.count("\n") == 1
    assert peer.last()["query"] == "follow=1&attempt=1&offset=14"


def test_patience_has_an_end(peer):
    peer.kill()
    status, out, err = peer.run(
        "dsub", "--image", "a", DORABATCH_PATIENCE_SECONDS="0.05"
    )
    assert (status, out) == (6, "")
    assert f"{AWAY} 0.05 s" in err
    assert "nothing listens there any more; is dorad running?" in err
    assert err.endswith("; the submission was not taken\n")


def test_after_a_lost_answer_nobody_knows_whether_it_was_taken(peer):
    (peer.home / "die").touch()
    status, out, err = peer.run(
        "dsub", "--image", "a", DORABATCH_PATIENCE_SECONDS="0.3"
    )
    assert (status, out) == (6, "")
    assert "it is not known whether the submission was taken: see dstat --me" in err


def test_ctrl_c_while_trying_again_says_how_things_stand(peer):
    peer.kill()
    process = peer.open("dsub", "--image", "a", DORABATCH_PATIENCE_SECONDS="30")
    assert AWAY in process.stderr.readline()
    interrupt(process)
    assert process.communicate() == ("", "dsub: the submission was not taken\n")
    assert process.returncode == 130


def test_a_busy_daemon_is_asked_again(peer):
    (peer.home / "busy").write_text("2")
    status, out, err = finish(peer.submit("dsub", text=JOB))
    assert (status, out) == (0, "Submitted workload 12\n")
    assert "dsub: dorad is busy, trying again for 30 s; Ctrl-C to give up" in err
    assert len(peer.seen()) == 3


def test_ctrl_c_leaves_the_workload_alone(peer):
    process = peer.open("dsub", "--wait", "--image", "a")
    peer.wait_for("/wait")
    interrupt(process)
    out, err = process.communicate()
    assert (process.returncode, out) == (130, "Submitted workload 12\n")
    assert err == "dsub: workload 12 goes on; see dlog -f 12, or dcancel 12\n"


def test_ctrl_c_ends_a_followed_log(peer):
    (peer.home / "12.log").write_text("one\n")
    process = peer.open("dlog", "-f", "12")
    assert process.stdout.readline() == "one\n"
    interrupt(process)
    assert process.communicate() == ("", "")
    assert process.returncode == 130


def test_following_goes_on_with_the_next_attempt(peer):
    (peer.home / "12.log").write_text("one\n")
    (peer.home / "12.over").touch()
    with peer.submit("dsub", "--follow", text=JOB) as process:
        assert process.stdout.readline() == "Submitted workload 12\n"
        assert process.stdout.readline() == "one\n"
        peer.wait_for("/log", times=2)
        assert (
            "attempt=2" in [r for r in peer.seen() if "/log" in r["path"]][1]["query"]
        )
        (peer.home / "12.end").write_text(DONE)
        assert finish(process) == (0, "", "")
