"""Progress is shown on a terminal only; an answer without a result is an error."""

import json
import os
import subprocess
import sys

import pytest

from dorabatch.cmds.progress import follow
from dorabatch.errors import DaemonUnavailable

LINES = b"".join(
    json.dumps(row).encode() + b"\n"
    for row in (
        {"done": 10_000, "of": 12_000},
        {"done": 12_000, "of": 12_000},
        {"result": {"entries": 12_000, "faults": []}, "text": "12000 are right\n"},
    )
)
CHECK = "from dorabatch.cmds import front; import sys; sys.exit(front.dcredit())"


def answer_of(body):
    return [b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body), body]


def check(*words, stderr=subprocess.PIPE):
    argv = [sys.executable, "-c", CHECK, "check", *words]
    return subprocess.run(argv, stdout=subprocess.PIPE, stderr=stderr, check=False)


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_pieces_need_not_be_lines(capfd, size):
    pieces = (LINES[at : at + size] for at in range(0, len(LINES), size))
    assert follow("x", pieces, str)["result"]["entries"] == 12_000
    assert capfd.readouterr() == ("", "")


def test_an_answer_without_a_result_is_an_error():
    with pytest.raises(DaemonUnavailable, match="x: the answer ended without"):
        follow("x", [LINES.splitlines(keepends=True)[0]], str)


def test_a_terminal_shows_how_far_it_is(serve):
    serve(answer_of(LINES))
    ours, theirs = os.openpty()
    done = check(stderr=theirs)
    os.close(theirs)
    said = os.read(ours, 4096).decode()
    os.close(ours)
    assert (done.returncode, done.stdout) == (0, b"12000 are right\n")
    assert "\r\x1b[Kdcredit: 10,000 of 12,000 entries read" in said
    assert said.endswith("\r\x1b[K")


def test_a_script_sees_the_result_only(serve):
    serve(answer_of(LINES), answer_of(LINES))
    done = check()
    assert (done.returncode, done.stdout, done.stderr) == (0, b"12000 are right\n", b"")
    assert json.loads(check("--json").stdout) == {"entries": 12_000, "faults": []}


def test_faults_are_told_and_end_with_3(serve):
    body = {"result": {"entries": 2, "faults": ["entry 2: x"]}, "text": "entry 2: x\n"}
    answer = answer_of(json.dumps(body).encode() + b"\n")
    serve(answer, answer)
    done = check()
    assert done.returncode == 3
    assert b"dcredit: the ledger is not sound:\nentry 2: x" in done.stderr
    done = check("--json")
    assert (done.returncode, json.loads(done.stdout)) == (3, body["result"])
    assert b"the ledger is not sound: 1 in the output" in done.stderr
