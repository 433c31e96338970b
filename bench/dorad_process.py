"""A private dorad for a bench: temporary folder, SQLite, its own socket.

Starts the daemon, fills it over its API and ends it. Measures nothing, and touches no
daemon that it did not start.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

_WAIT_SECONDS = 20.0
_PAUSE_SECONDS = 0.02
_ANSWER_BYTES = 65536


class BenchError(Exception):
    """A bench cannot go on; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dorad:
    """One running daemon."""

    folder: Path
    socket: Path
    pid: int

    def run(self, command: str, *words: str) -> str:
        """Standard output of one of the commands; BenchError when it fails."""
        done = subprocess.run(
            [str(Path(sys.executable).parent / command), *words],
            env={**os.environ, "DORABATCH_SOCKET": str(self.socket)},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        if done.returncode:
            raise BenchError(f"{command} {' '.join(words)}: {done.stderr.strip()}")
        return done.stdout


@contextmanager
def private_dorad(
    settings: Mapping[str, Any] | None = None, *, warm_bytecode: bool = True
) -> Iterator[Dorad]:
    """A daemon of its own, ended and removed afterwards."""
    environment = dict(os.environ)
    if warm_bytecode:
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
    with tempfile.TemporaryDirectory(prefix="dorabatch-bench-") as name:
        folder = Path(name)
        path = folder / "dorad.sock"
        config = folder / "dorad.yaml"
        own = {"socket": str(path), "state_dir": str(folder / "state")}
        config.write_text(yaml.safe_dump({**own, **(settings or {})}))
        log = folder / "dorad.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [Path(sys.executable).parent / "dorad", "--config", config],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        try:
            _wait_for(path, process, log)
            yield Dorad(folder=folder, socket=path, pid=process.pid)
        finally:
            _end(process)


def _wait_for(path: Path, process: subprocess.Popen[bytes], log: Path) -> None:
    until = time.monotonic() + _WAIT_SECONDS
    while time.monotonic() < until:
        if process.poll() is not None:
            raise BenchError(f"dorad ended while starting: {log.read_text()}")
        with socket.socket(socket.AF_UNIX) as probe:
            if probe.connect_ex(str(path)) == 0:
                return
        time.sleep(_PAUSE_SECONDS)
    raise BenchError(f"dorad did not answer within {_WAIT_SECONDS:.0f} s")


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
    try:
        process.wait(_WAIT_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def submission(options: Mapping[str, object]) -> bytes:
    """The whole HTTP request that submits one workload."""
    body = json.dumps({"options": options}).encode()
    head = (
        "POST /v1/workloads HTTP/1.1\r\nHost: dorad\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def read_answer(connection: socket.socket) -> tuple[int, bytes]:
    """(status, body) of one answer on a kept connection."""
    data = b""
    while b"\r\n\r\n" not in data:
        data += _more(connection)
    head, _, body = data.partition(b"\r\n\r\n")
    lines = head.decode("latin-1").split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in lines[1:])
    if "content-length" not in headers:
        raise BenchError(f"an answer without a length: {lines[0]}")
    while len(body) < int(headers["content-length"]):
        body += _more(connection)
    return int(lines[0].split(" ", 2)[1]), body


def _more(connection: socket.socket) -> bytes:
    data = connection.recv(_ANSWER_BYTES)
    if not data:
        raise BenchError("dorad closed the connection in the middle of an answer")
    return data


def get_json(path: Path, target: str) -> Any:
    """What the daemon answers to a GET; BenchError unless it is 200."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(path))
        connection.sendall(f"GET {target} HTTP/1.1\r\nHost: dorad\r\n\r\n".encode())
        status, body = read_answer(connection)
    if status != 200:
        raise BenchError(f"GET {target}: dorad answers {status}: {body.decode()}")
    return json.loads(body)
