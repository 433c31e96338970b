"""Followers of a real log: one reader of the node for all, none when they are gone."""

import socket
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.dorad_process import Dorad

pytestmark = pytest.mark.integration
SECONDS_MAX = 60.0
FOLLOWERS = 60


def threads(daemon: Dorad) -> int:
    """How many threads the daemon has."""
    assert daemon.process is not None
    tasks = Path(f"/proc/{daemon.process.pid}/task").iterdir()
    return len(list(tasks))


def follow(daemon: Dorad, ref: str) -> socket.socket:
    made = socket.socket(socket.AF_UNIX)
    made.settimeout(SECONDS_MAX)
    made.connect(str(daemon.socket))
    target = f"/v1/workloads/{ref}/log?follow=1"
    made.sendall(f"GET {target} HTTP/1.1\r\nHost: d\r\n\r\n".encode())
    return made


def read_to(follower: socket.socket, text: bytes) -> None:
    data = b""
    while text not in data:
        piece = follower.recv(65536)
        assert piece, data
        data += piece


def wait_until(is_so: Callable[[], bool]) -> None:
    until = time.monotonic() + SECONDS_MAX
    while not is_so():
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.05)


def test_a_quiet_log_is_read_once_for_all_and_let_go(
    dorad: Callable[..., Dorad],
) -> None:
    daemon = dorad(nodes=("n3",))
    script = "echo one; sleep 600"
    ref = daemon.submit("-i", "busybox", "-c", "1", "--", "sh", "-c", script)
    daemon.wait_for(ref, state="running")
    before = threads(daemon)
    with ExitStack() as stack:
        followers = [stack.enter_context(follow(daemon, ref)) for _ in range(FOLLOWERS)]
        for one in followers:
            read_to(one, b"one\n")
        assert threads(daemon) <= before + 10
        assert daemon.rows(ref)[0]["state"] == "running"
    wait_until(lambda: threads(daemon) <= before)
    with follow(daemon, ref) as late:
        read_to(late, b"one\n")
        daemon.ask("dcancel", ref)
        # The end of the log is the end of the answer.
        read_to(late, b"0\r\n\r\n")
