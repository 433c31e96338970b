"""The command lines of etc/cron.d, run as they stand against a real daemon."""

import fcntl
import getpass
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.dorad_process import BIN, Dorad
from tests.mail_sink import MailSink, mail_sink

FILE = Path(__file__).resolve().parents[2] / "etc" / "cron.d" / "dorabatch"
LOCK = "/run/lock/dorabatch-reports"
SECONDS_MAX = 30.0
USER = """
apiVersion: v1
kind: User
metadata:
  name: ana
spec:
  mail: ana@lab.example
  credits:
  - zone: dc-rov-01
    weekly: 100
"""


def lines() -> list[str]:
    """What cron would hand to the shell."""
    found = []
    for line in FILE.read_text().splitlines():
        match = re.fullmatch(r"(?:\S+\s+){5}root\s+(\S.*)", line)
        if match and not line.startswith("#"):
            found.append(match[1])
    return found


@pytest.fixture
def sink() -> Iterator[MailSink]:
    with mail_sink() as made:
        yield made


@pytest.fixture
def daemon(sink: MailSink) -> Iterator[Dorad]:
    """A daemon whose admin runs the tests, without any node."""
    with TemporaryDirectory(prefix="dorad-") as folder:
        mail = {"host": "127.0.0.1", "port": sink.port}
        made = Dorad(Path(folder), {"mail": mail, "admins": [getpass.getuser()]})
        made.start()
        yield made
        made.stop()


def run(daemon: Dorad, line: str, lock: Path) -> subprocess.CompletedProcess[str]:
    """One line, as cron runs it; only the lock is the test's own."""
    assert LOCK in line
    return subprocess.run(
        ["sh", "-c", line.replace(LOCK, str(lock))],
        env={
            "PATH": f"{BIN}:/usr/bin:/bin",
            "DORABATCH_SOCKET": str(daemon.socket),
            "HOME": "/",
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=SECONDS_MAX,
    )


def wait_for_mails(sink: MailSink, count: int) -> None:
    """Until so many have come."""
    until = time.monotonic() + SECONDS_MAX
    while len(sink.mails) < count and time.monotonic() < until:
        time.sleep(0.05)
    assert len(sink.mails) == count, [mail["Subject"] for mail in sink.mails]


def test_the_file_has_the_form_that_cron_reads() -> None:
    assert [line.split()[:2] for line in lines()] == [
        ["dreport", "statement"],
        ["dreport", "chargeback"],
        ["dreport", "fairness"],
    ]
    assert FILE.read_text().endswith("\n")


def test_every_line_is_quiet_and_twice_is_once(
    daemon: Dorad, sink: MailSink, tmp_path: Path
) -> None:
    for _ in range(2):
        for line in lines():
            done = run(daemon, line, tmp_path / "lock")
            assert (done.returncode, done.stdout, done.stderr) == (0, "", ""), line
    # Nobody had credit last week, so nobody gets a statement of their own.
    wait_for_mails(sink, 2)
    said = daemon.ask(
        "dreport", "chargeback", "--week", "last", "--mail", "root@localhost"
    )
    assert said == "chargeback: 0 mailed; 1 had been mailed before\n"
    time.sleep(0.2)
    assert len(sink.mails) == 2


def test_a_user_gets_their_own_statement(daemon: Dorad, sink: MailSink) -> None:
    daemon.ask("dora", "apply", "-f", "-", stdin=USER)
    until = time.monotonic() + SECONDS_MAX
    words = ("statement", "--since", "1d", "--json")
    while "ana" not in daemon.ask("dreport", *words) and time.monotonic() < until:
        time.sleep(0.1)
    said = daemon.ask("dreport", "statement", "--since", "1d", "--mail", "each")
    assert said == "statement: 1 mailed\n"
    wait_for_mails(sink, 1)
    assert sink.mails[0]["To"] == "ana@lab.example"


def test_one_at_a_time_and_one_sentence_on_failure(
    daemon: Dorad, tmp_path: Path
) -> None:
    lock = tmp_path / "lock"
    with lock.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        done = run(daemon, lines()[0], lock)
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr.count("\n") == 1
    assert "another dreport is at it" in done.stderr
    daemon.stop()
    done = run(daemon, lines()[0], lock)
    assert (done.returncode, done.stdout) == (6, "")
    assert done.stderr.count("\n") == 1 and "no daemon answers" in done.stderr


def test_out_replaces_a_file_whole_or_not_at_all(daemon: Dorad, tmp_path: Path) -> None:
    page = tmp_path / "usage.html"
    page.write_text("before")
    done = daemon.run("dreport", "usage", "--since", "soon", "--out", str(page))
    assert (done.returncode, page.read_text()) == (2, "before")
    daemon.ask("dreport", "usage", "--format", "html", "--out", str(page))
    assert page.read_text().startswith("<!doctype html>")
    assert list(tmp_path.iterdir()) == [page]
    done = daemon.run("dreport", "usage", "--out", str(tmp_path / "no" / "where"))
    assert done.returncode == 2 and "No such file" in done.stderr


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("usage", "--from", "2020-01-01", "--to", "2999-01-01"), "in the future"),
        (("usage", "--from", "2020-01-02", "--to", "2020-01-01"), "before it begins"),
        (("statement", "--account", "zoe"), "no account or user 'zoe'"),
        (("statement", "--quiet"), "--quiet goes with --mail"),
        (("nosuch",), "'nosuch' is not one of"),
    ],
)
def test_bad_input_is_one_sentence_and_2(
    daemon: Dorad, words: tuple[str, ...], sentence: str
) -> None:
    done = daemon.run("dreport", *words)
    assert (done.returncode, done.stdout) == (2, ""), done
    assert sentence in done.stderr and done.stderr.count("\n") == 1
