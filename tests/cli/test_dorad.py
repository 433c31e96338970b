"""dorad as a process: what signals do to it, and who may read what it keeps."""

import getpass
import os
import signal
import stat
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.dorad_process import BIN, Dorad

SECONDS_MAX = 30.0


@pytest.fixture
def folder() -> Iterator[Path]:
    with TemporaryDirectory(prefix="dorad-") as made:
        yield Path(made)


@pytest.fixture
def stopped(folder: Path) -> Iterator[Dorad]:
    """A daemon without any node, not started; everything it makes would be open."""
    before = os.umask(0o022)
    made = Dorad(folder, {"admins": [getpass.getuser()]})
    yield made
    made.stop()
    os.umask(before)


def wait_for_line(daemon: Dorad, text: str, times: int = 1) -> None:
    until = time.monotonic() + SECONDS_MAX
    while daemon.log.read_text().count(text) < times:
        assert time.monotonic() < until, daemon.tail()
        time.sleep(0.05)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def check(daemon: Dorad) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [BIN / "dorad", "--config", daemon.config, "check"],
        capture_output=True, text=True, check=True, timeout=SECONDS_MAX,
    )  # fmt: skip


def test_sighup_is_answered_in_the_log_and_changes_nothing(stopped: Dorad) -> None:
    daemon = stopped.start()
    assert daemon.process is not None
    for times in (1, 2):
        daemon.process.send_signal(signal.SIGHUP)
        wait_for_line(daemon, "settings are read at start only", times)
    assert "health:" in daemon.ask("dora", "status")
    assert daemon.stop() == 0


def test_a_submission_outlives_a_restart(stopped: Dorad) -> None:
    daemon = stopped.start()
    daemon.kill()
    with subprocess.Popen(
        [BIN / "dsub", "--image", "busybox", "--name", "a", "--", "true"],
        env={**os.environ, "DORABATCH_SOCKET": str(daemon.socket)},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as submitting:  # fmt: skip
        assert submitting.stderr is not None
        said = submitting.stderr.readline()
        assert said.startswith("dsub: dorad does not answer, trying again for 30 s")
        daemon.start()
        out, _ = submitting.communicate(timeout=SECONDS_MAX)
    assert (submitting.returncode, out) == (0, "Submitted workload 1\n")
    assert [row["name"] for row in daemon.rows()] == ["a"]


def test_what_it_keeps_is_for_its_own_account(stopped: Dorad) -> None:
    daemon = stopped.start()
    state = daemon.folder / "state"
    assert mode(state) == 0o700
    files = [path for path in state.iterdir() if path.is_file()]
    assert {"dorabatch.db", "dorabatch.db-wal", "dorabatch.db-shm", "dorad.lock"} <= {
        path.name for path in files
    }
    assert {path.name: mode(path) for path in files if mode(path) != 0o600} == {}
    assert mode(daemon.socket) == 0o666
    assert check(daemon).stderr == ""
    assert "was-readable" not in daemon.log.read_text()


def test_what_is_wider_is_told_and_narrowed(stopped: Dorad) -> None:
    stopped.start()
    stopped.stop()
    state = stopped.folder / "state"
    (state / "logs").mkdir()
    wide = {state: 0o755, state / "dorabatch.db": 0o644, state / "logs": 0o750}
    for path, found in wide.items():
        path.chmod(found)
    said = check(stopped)
    assert mode(state) == 0o755
    daemon = stopped.start()
    log = daemon.log.read_text()
    for path, found in wide.items():
        sentence = f"{path} has mode {found:04o} (at most {found & 0o700:04o})"
        assert sentence in said.stderr
        assert sentence in log
        assert mode(path) == found & 0o700
    assert log.count("warning was-readable") == len(wide)


def test_a_socket_can_be_reached_wherever_it_is(folder: Path) -> None:
    inside, beside = folder / "new" / "state" / "s", folder / "other" / "run" / "s"
    for number, path in enumerate((inside, beside)):
        place = folder / str(number)
        place.mkdir()
        daemon = Dorad(place, {"state_dir": str(folder / "new" / "state")})
        daemon.socket = path
        daemon.config.write_text(
            daemon.config.read_text().replace(str(place / "dorad.sock"), str(path))
        )
        daemon.start()
        try:
            above = [p for p in path.parents if folder in p.parents]
            assert {str(p): mode(p) for p in above if not mode(p) & 0o001} == {}
            assert mode(path) == 0o666
        finally:
            daemon.stop()
    assert mode(inside.parent) == 0o700
