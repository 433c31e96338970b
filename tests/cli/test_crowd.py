"""One user cannot stop the others: a real dorad on its real socket, and a crowd."""

import json
import os
import pwd
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from tests.dorad_process import Dorad

NOBODY = 65534
SECONDS_MAX = 30.0
JOB = ("--image", "busybox", "--", "sleep", "1")


@contextmanager
def as_user() -> Iterator[None]:
    """Connections made inside are those of somebody who is no operator.

    The kernel notes the effective user when a socket is connected. Whoever runs this
    without being root is no operator anyway.
    """
    if os.geteuid() != 0:
        yield
        return
    os.setegid(NOBODY)
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)


class Crowd:
    """A daemon, and everything that is open there."""

    def __init__(self, daemon: Dorad, stack: ExitStack) -> None:
        self.daemon = daemon
        self._stack = stack

    def connect(self) -> socket.socket:
        """A connection of somebody who is no operator."""
        made = self._stack.enter_context(socket.socket(socket.AF_UNIX))
        made.settimeout(SECONDS_MAX)
        with as_user():
            made.connect(str(self.daemon.socket))
        return made

    def connect_as_operator(self) -> socket.socket:
        """A connection of whoever runs this."""
        made = self._stack.enter_context(socket.socket(socket.AF_UNIX))
        made.connect(str(self.daemon.socket))
        return made

    def send(self, target: str, *headers: str, method: str = "GET") -> socket.socket:
        """A connection on which this was asked."""
        made = self.connect()
        lines = [f"{method} {target} HTTP/1.1", "Host: d", *headers, "", ""]
        made.sendall("\r\n".join(lines).encode())
        return made

    @property
    def pid(self) -> int:
        """The daemon's process."""
        assert self.daemon.process is not None
        return self.daemon.process.pid

    def status(self, name: str) -> int:
        """A number of the daemon's process, as the kernel has it."""
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith(f"{name}:"):
                return int(line.split()[1])
        raise AssertionError(name)

    def files(self) -> int:
        """How many files the daemon has open."""
        return len(os.listdir(f"/proc/{self.pid}/fd"))


def answer(connection: socket.socket) -> tuple[int, str]:
    """(status, message of the error) of an answer."""
    data = b""
    while b"\r\n\r\n" not in data or not data.rstrip().endswith(b"}"):
        piece = connection.recv(65536)
        if not piece:
            break
        data += piece
    head, _, body = data.partition(b"\r\n\r\n")
    found = json.loads(body) if body else {}
    message = found.get("error", {}).get("message", "") if type(found) is dict else ""
    return int(head.split(b" ", 2)[1]), message


def is_closed(connection: socket.socket) -> bool:
    """Whether the daemon has ended it; waits until it does."""
    with suppress(ConnectionResetError):
        while connection.recv(65536):
            pass
    return True


def wait_until(is_so: Callable[[], bool], what: str) -> None:
    until = time.monotonic() + SECONDS_MAX
    while not is_so():
        assert time.monotonic() < until, f"waited in vain for {what}"
        time.sleep(0.02)


@pytest.fixture
def crowd() -> Iterator[Callable[..., Crowd]]:
    """Starts a daemon that has these settings of `api`; nobody but root is an admin."""
    with TemporaryDirectory(prefix="dorad-") as place, ExitStack() as stack:
        folder = Path(place)
        folder.chmod(0o755)

        def start(**api: Any) -> Crowd:
            daemon = Dorad(folder, {"admins": ["root"], "api": api})
            stack.callback(daemon.stop)
            daemon.start()
            daemon.socket.parent.chmod(0o755)
            return Crowd(daemon, stack)

        yield start


def owner() -> str:
    """Who a connection of the crowd belongs to."""
    uid = NOBODY if os.geteuid() == 0 else os.geteuid()
    return pwd.getpwuid(uid).pw_name


def test_followers_hold_no_thread_and_leave_no_trace(
    crowd: Callable[..., Crowd],
) -> None:
    here = crowd()
    with as_user():
        for number in range(3):
            submit(here, f"job{number}")
    before, files = here.status("Threads"), here.files()
    followers = [
        here.send(f"/v1/workloads/job{number % 3}/log?follow=1") for number in range(60)
    ]
    waiters = [here.send("/v1/workloads/job0/wait?seconds=300") for _ in range(60)]
    wait_until(lambda: here.files() >= files + 120, "all to be connected")
    # More than there are worker threads: each would have waited for one.
    for _ in range(5):
        assert len(here.daemon.rows()) == 3
    assert here.status("Threads") <= before + 5
    for one in (*followers, *waiters):
        one.close()
    wait_until(lambda: here.files() <= files, "the connections to be gone")
    assert "Traceback" not in here.daemon.log.read_text()
    ended = here.send("/v1/workloads/job1/log?follow=1")
    here.daemon.ask("dcancel", "--yes", "--user", owner())
    assert b"200 OK" in ended.recv(100)
    assert answer(here.send("/v1/workloads/job0/wait?seconds=9"))[0] == 200


def submit(here: Crowd, name: str) -> None:
    body = json.dumps({"options": {"name": name, "image": "a", "cpus": 1}})
    asked = here.send(
        "/v1/workloads",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
        method="POST",
    )
    asked.sendall(body.encode())
    status, message = answer(asked)
    assert status == 201, message


def test_connections_of_one_user_leave_room_for_others(
    crowd: Callable[..., Crowd],
) -> None:
    here = crowd(
        connections_max=1300, connections_per_user=1000, connections_reserved=64
    )
    idle = [here.connect() for _ in range(1100)]
    status, message = answer(idle[-1])
    assert status == 429
    assert "you have 1000 connections open at the daemon" in message
    assert "api.connections_per_user" in message
    if os.geteuid() == 0:
        assert "health:" in here.daemon.ask("dora", "status")
    for one in idle:
        one.close()
    wait_until(
        lambda: answer(here.send("/v1/status"))[0] == 200, "a place to be free again"
    )


def test_a_daemon_that_is_full_has_a_reserve_for_operators(
    crowd: Callable[..., Crowd],
) -> None:
    here = crowd(connections_max=40, connections_reserved=20, connections_per_user=10)
    if os.geteuid() == 0:
        taken = [here.connect_as_operator() for _ in range(20)]
        status, message = answer(here.connect())
        assert (status, "20 connections are open" in message) == (503, True)
        assert "health:" in here.daemon.ask("dora", "status")
        assert len(taken) == 20
    else:
        assert answer([here.connect() for _ in range(11)][-1])[0] == 429


def test_a_giant_header_is_refused_before_it_fills_memory(
    crowd: Callable[..., Crowd],
) -> None:
    here = crowd()
    before = here.status("VmRSS")
    giant = here.connect()
    giant.sendall(b"GET /v1/status HTTP/1.1\r\nHost: d\r\nX-Much: ")
    piece, sent = b"x" * (1 << 20), 0
    with suppress(BrokenPipeError, ConnectionResetError):
        while sent < 100 << 20:
            giant.sendall(piece)
            sent += len(piece)
    status, message = answer(giant)
    assert status == 431
    assert "more than 131072 bytes (api.head_bytes_max)" in message
    assert sent < 10 << 20
    assert here.status("VmRSS") - before < 20_000  # KiB


def test_lines_and_headers_have_bounds(crowd: Callable[..., Crowd]) -> None:
    here = crowd(line_bytes_max=300, headers_max=5)
    status, message = answer(here.send(f"/v1/workloads?refs={'1' * 300}"))
    assert (status, "api.line_bytes_max" in message) == (431, True)
    many = [f"X-{number}: 1" for number in range(5)]
    status, message = answer(here.send("/v1/status", *many))
    assert (status, "has 6 headers (allowed: 5" in message) == (431, True)
    assert answer(here.send("/v1/status", *many[:4]))[0] == 200


def test_what_does_not_come_in_time_is_given_up(crowd: Callable[..., Crowd]) -> None:
    here = crowd(head_seconds_max=0.3, body_seconds_max=0.3, idle_seconds_max=0.3)
    silent, half = here.connect(), here.connect()
    half.sendall(b"GET /v1/status HTTP/1.1\r\nHost:")
    body = here.send("/v1/cancel", "Content-Length: 100", method="POST")
    for one, setting in (
        (silent, "head_seconds_max"),
        (half, "head_seconds_max"),
        (body, "body_seconds_max"),
    ):
        status, message = answer(one)
        assert (status, setting in message) == (408, True)
        assert is_closed(one)
    kept = here.send("/v1/status")
    assert answer(kept)[0] == 200
    assert is_closed(kept)


def test_streams_of_one_user_have_a_limit(crowd: Callable[..., Crowd]) -> None:
    here = crowd(streams_per_user=3, requests_per_user=1)
    submit(here, "job")
    files = here.files()
    streams = [here.send("/v1/workloads/job/wait?seconds=99") for _ in range(3)]
    wait_until(lambda: here.files() >= files + 3, "them to be connected")
    wait_until(
        lambda: answer(here.send("/v1/workloads/job/wait?seconds=0.01"))[0] == 429,
        "the limit to be reached",
    )
    assert answer(here.send("/v1/status"))[0] == 200
    streams[0].close()
    wait_until(
        lambda: answer(here.send("/v1/workloads/job/wait?seconds=0.01"))[0] == 200,
        "a stream that was left to be counted no more",
    )


def test_requests_at_work_of_one_user_have_a_limit(
    crowd: Callable[..., Crowd],
) -> None:
    here = crowd(requests_per_user=2, body_seconds_max=30)
    slow = [
        here.send("/v1/cancel", "Content-Length: 100", method="POST") for _ in range(2)
    ]
    wait_until(
        lambda: answer(here.send("/v1/status"))[0] == 429, "the limit to be reached"
    )
    status, message = answer(here.send("/v1/status"))
    assert "you have 2 requests at work at the daemon (allowed for one" in message
    slow[0].close()
    wait_until(lambda: answer(here.send("/v1/status"))[0] == 200, "room again")
    assert status == 429


def test_the_daemon_may_have_as_many_files_open_as_it_may(
    crowd: Callable[..., Crowd],
) -> None:
    here = crowd()
    limits = Path(f"/proc/{here.pid}/limits").read_text()
    (line,) = (x for x in limits.splitlines() if x.startswith("Max open files"))
    _, _, _, soft, hard, _ = line.split()
    assert soft == hard
