"""Runs the installed entry points as processes, against the peer of `peer.py`."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

PEER = Path(__file__).with_name("peer.py")


class Peer:
    """The peer process, its directory, and commands that talk to it."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.socket = home / "peer.sock"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.process = subprocess.Popen([sys.executable, PEER, self.socket, self.home])
        for _ in range(500):
            try:
                with socket.socket(socket.AF_UNIX) as probe:
                    probe.connect(str(self.socket))
                return
            except OSError:
                time.sleep(0.02)
        raise AssertionError("the peer did not start")

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def environ(self, **extra: str) -> dict[str, str]:
        kept = {k: v for k, v in os.environ.items() if not k.startswith("DSUB_")}
        return {**kept, "DORABATCH_SOCKET": str(self.socket), **extra}

    def open(self, *argv: str, **extra: str) -> subprocess.Popen[str]:
        """Start a command; use it as a context, which waits for its end."""
        name, *words = argv
        code = (
            f"import sys; from dorabatch.cmds.front import {name}; sys.exit({name}())"
        )
        return subprocess.Popen(
            [sys.executable, "-c", code, *words],
            env=self.environ(**extra),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=self.home,
        )

    def submit(self, *argv: str, text: str, **extra: str) -> subprocess.Popen[str]:
        """Start a command and give it a text on standard input."""
        (self.home / "input.yaml").write_text(text)
        return self.open(*argv, "input.yaml", **extra)

    def run(self, *argv: str, stdin: str = "", **extra: str) -> tuple[int, str, str]:
        with self.open(*argv, **extra) as process:
            out, err = process.communicate(stdin, timeout=60)
            return process.returncode, out, err

    def seen(self) -> list[dict[str, Any]]:
        path = self.home / "seen.jsonl"
        text = path.read_text() if path.exists() else ""
        return [json.loads(line) for line in text.splitlines()]

    def last(self) -> dict[str, Any]:
        return self.seen()[-1]

    def wait_for(self, text: str, *, times: int = 1) -> None:
        """Wait until the peer has seen requests whose path holds a text."""
        for _ in range(1500):
            if sum(text in row["path"] for row in self.seen()) >= times:
                return
            time.sleep(0.02)
        raise AssertionError(f"no request with {text}: {self.seen()}")


def finish(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    """The exit status, and what was not read yet of both outputs."""
    out, err = process.communicate(timeout=60)
    return process.returncode, out, err


def interrupt(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGINT)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Peer]:
    peer = Peer(tmp_path_factory.mktemp("peer"))
    peer.start()
    yield peer
    peer.kill()


@pytest.fixture
def peer(server: Peer) -> Iterator[Peer]:
    """A running peer with an empty memory."""
    for path in server.home.iterdir():
        if path != server.socket:
            path.unlink()
    if server.process is None or server.process.poll() is not None:
        server.start()
    yield server
